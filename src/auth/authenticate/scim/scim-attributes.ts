/**
 * SCIM attributes: names that ignore case, paths, and values of a resource (RFC 7643 §2, RFC 7644 §3.10). Pure.
 *
 * A resource is plain JSON from outside. Names are looked up among its own keys alone, and new names have the shape of
 * the RFC, so no name reaches a prototype.
 */
import type { ScimResource } from "../../../events/index.ts";
import { ScimError } from "./scim-error.ts";

export const userSchema = "urn:ietf:params:scim:schemas:core:2.0:User";
export const groupSchema = "urn:ietf:params:scim:schemas:core:2.0:Group";
export const enterpriseSchema = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const coreSchemas = [userSchema, groupSchema].map((uri) => uri.toLowerCase());

export type JsonObject = Record<string, unknown>;
/** `name.givenName`. `schema`: an extension's URI; null: the resource itself. `name` null: the whole extension. */
export type AttributePath = Readonly<{ schema: string | null; name: string | null; sub: string | null }>;

const namePattern = /^[A-Za-z$][\w$-]{0,127}$/;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const bodyLevelsMax = 32;
/** A group of 20,000 members has some 100,000. */
const bodyValuesMax = 200_000;

/** Before anything else walks a body: without recursion, and no further than its bounds. @throws ScimError 400, 413 */
export function checkShape(body: unknown): void {
  let values = 0;
  let level: unknown[] = [body];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > bodyLevelsMax) throw new ScimError(400, "the body has too many levels", "invalidSyntax");
    const inner: unknown[] = [];
    for (const each of level) {
      if (typeof each !== "object" || each === null) continue;
      const parts = Array.isArray(each) ? each : Object.values(each);
      values += parts.length;
      if (values > bodyValuesMax) throw new ScimError(413, `a body has at most ${bodyValuesMax} values`, "tooMany");
      for (const part of parts) inner.push(part);
    }
    level = inner;
  }
}

/** The own key that equals a name but for case. */
export function keyIn(object: JsonObject | ScimResource, name: string): string | undefined {
  if (Object.hasOwn(object, name)) return name;
  const lower = name.toLowerCase();
  return Object.keys(object).find((key) => key.toLowerCase() === lower);
}

export function attributeOf(object: JsonObject | ScimResource, name: string): unknown {
  const key = keyIn(object, name);
  return key === undefined ? undefined : object[key];
}

export function textAttribute(object: JsonObject | ScimResource, name: string): string | undefined {
  const value = attributeOf(object, name);
  return typeof value === "string" ? value : undefined;
}

/** The primary e-mail of a user, or the first one. */
export function primaryEmail(resource: ScimResource): string | undefined {
  const emails = attributeOf(resource, "emails");
  if (!Array.isArray(emails)) return undefined;
  const objects = emails.filter(isObject);
  const chosen = objects.find((email) => attributeOf(email, "primary") === true) ?? objects[0];
  return chosen === undefined ? undefined : textAttribute(chosen, "value");
}

export function emailsOf(resource: ScimResource): readonly string[] {
  const emails = attributeOf(resource, "emails");
  if (!Array.isArray(emails)) return [];
  return emails
    .filter(isObject)
    .map((email) => textAttribute(email, "value"))
    .filter((value) => value !== undefined);
}

/** @throws ScimError `invalidPath` */
export function parseAttribute(text: string): AttributePath {
  const { schema, rest } = splitSchema(text);
  if (rest === "" && schema !== null) return { schema, name: null, sub: null };
  const [name = "", sub = null, ...more] = rest.split(".");
  if (more.length > 0) return invalidPath(text);
  return { schema, name: checkName(name, text), sub: sub === null ? null : checkName(sub, text) };
}

/** Splits a URI off. The version in it has a dot, so what follows its last colon is the attribute. */
function splitSchema(head: string): Readonly<{ schema: string | null; rest: string }> {
  if (!/^urn:/i.test(head)) return { schema: null, rest: head };
  const lower = head.toLowerCase();
  for (const uri of [...coreSchemas, enterpriseSchema.toLowerCase()]) {
    if (lower !== uri && !lower.startsWith(`${uri}:`)) continue;
    const rest = head.slice(uri.length + 1);
    return coreSchemas.includes(uri) ? { schema: null, rest } : { schema: enterpriseSchema, rest };
  }
  const colon = head.lastIndexOf(":");
  const last = head.slice(colon + 1);
  // The URI of an extension may stand alone; the last part of one is `User` or `Group`.
  if (/^(?:user|group)$/i.test(last)) return { schema: head, rest: "" };
  return { schema: head.slice(0, colon), rest: last };
}

export function checkName(name: string, path: string): string {
  return namePattern.test(name) ? name : invalidPath(path);
}

export function invalidPath(path: string): never {
  throw new ScimError(400, `not a path: ${path.slice(0, 100)}`, "invalidPath");
}

export const isName = (name: string): boolean => namePattern.test(name);
export const isSchemaUri = (name: string): boolean => /^urn:[\w:.$-]{1,200}$/i.test(name);
export const isCoreSchema = (uri: string): boolean => coreSchemas.includes(uri.toLowerCase());

/** The values at a path, for filters and sorting. Each element of a list counts. */
export function valuesAt(resource: ScimResource, path: AttributePath): unknown[] {
  const container = path.schema === null ? resource : attributeOf(resource, path.schema);
  if (!isObject(container)) return [];
  const whole = path.name === null ? container : attributeOf(container, path.name);
  const all = Array.isArray(whole) ? whole : whole === undefined ? [] : [whole];
  if (path.sub === null) return all;
  return all.flatMap((each) => {
    const value = isObject(each) && path.sub !== null ? attributeOf(each, path.sub) : undefined;
    return value === undefined ? [] : Array.isArray(value) ? value : [value];
  });
}
