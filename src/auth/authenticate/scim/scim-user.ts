/**
 * SCIM user: checks what a client says about a person, brings it into one form, and shows it. Pure.
 *
 * A resource has at most 24 KB as JSON, 8 levels and names of the RFC's shape. Booleans may be text (`"True"`), as
 * Entra ID writes them. A password is never kept.
 */
import type { ProvisionedRecord, ScimResource } from "../../../events/index.ts";
import {
  attributeOf,
  enterpriseSchema,
  isName,
  isObject,
  isSchemaUri,
  type JsonObject,
  keyIn,
  primaryEmail,
  textAttribute,
  userSchema,
} from "./scim-attributes.ts";
import { badValue, ScimError } from "./scim-error.ts";

const bytesMax = 24 * 1024;
const levelsMax = 8;
/** Of one list. */
export const elementsMax = 200;
/** The server decides these, or does not keep them. */
const notKept = new Set(["id", "meta", "schemas", "groups", "password"]);
const texts = [
  "userName",
  "externalId",
  "displayName",
  "nickName",
  "profileUrl",
  "title",
  "userType",
  "preferredLanguage",
  "locale",
  "timezone",
] as const;
const lists = [
  "emails",
  "phoneNumbers",
  "ims",
  "photos",
  "addresses",
  "entitlements",
  "roles",
  "x509Certificates",
] as const;
const known = [...texts, ...lists, "name", "active"];

/** Of POST and PUT. @throws ScimError `invalidValue`, `invalidSyntax` */
export function normalizeUser(body: unknown): ScimResource {
  const user = checkedUser(body);
  return { ...user, active: user["active"] ?? true };
}

/**
 * Of PATCH: an `active` that the operations removed stays unassigned, which denies the person, so that no removal lets
 * a person in who was denied. @throws ScimError `invalidValue`
 */
export function normalizePatchedUser(body: unknown): ScimResource {
  return checkedUser(body);
}

function checkedUser(body: unknown): JsonObject {
  if (!isObject(body)) throw new ScimError(400, "the body is not a JSON object", "invalidSyntax");
  const user: JsonObject = {};
  for (const [written, value] of Object.entries(body)) {
    const name = known.find((each) => each.toLowerCase() === written.toLowerCase()) ?? written;
    if (notKept.has(name.toLowerCase()) || value === null || value === undefined) continue;
    // Not an error, because a client may send what it has: RFC 7644 §3.3 lets a server ignore attributes.
    if (!isName(name) && !isSchemaUri(name)) continue;
    user[name.toLowerCase() === enterpriseSchema.toLowerCase() ? enterpriseSchema : name] = checked(value, 1);
  }
  for (const name of texts) {
    const value = user[name];
    if (value !== undefined && typeof value !== "string") throw badValue(`${name} is not text`);
  }
  for (const name of lists) normalizeList(user, name);
  if (user["active"] !== undefined) user["active"] = booleanOf(user["active"], "active");
  const userName = user["userName"];
  if (typeof userName !== "string" || userName.trim() === "") throw badValue("userName is missing");
  if (userName.length > 256) throw badValue("userName is too long");
  if (user["name"] !== undefined && !isObject(user["name"])) throw badValue("name is not an object");
  if (Buffer.byteLength(JSON.stringify(user)) > bytesMax) throw new ScimError(413, "the resource is too large");
  return user;
}

function normalizeList(user: JsonObject, name: string): void {
  const value = user[name];
  if (value === undefined) return;
  const list = (Array.isArray(value) ? value : [value]).map(
    (each): JsonObject => (isObject(each) ? { ...each } : { value: each }),
  );
  for (const each of list) {
    const key = keyIn(each, "primary");
    if (key !== undefined) each[key] = booleanOf(each[key], `${name}.primary`);
  }
  if (list.filter((each) => attributeOf(each, "primary") === true).length > 1)
    throw badValue(`${name} has more than one primary element`);
  if (name === "emails" && !list.every((each) => typeof (attributeOf(each, "value") ?? "") === "string"))
    throw badValue("an e-mail is not text");
  if (list.length === 0) delete user[name];
  else user[name] = list;
}

/** A copy with lists and names that are within bounds. */
function checked(value: unknown, level: number): unknown {
  if (level > levelsMax) throw badValue("the resource has too many levels");
  if (Array.isArray(value)) {
    if (value.length > elementsMax) throw new ScimError(400, "a list has too many elements", "tooMany");
    return value.map((each) => checked(each, level + 1));
  }
  if (!isObject(value)) return value;
  const copy: JsonObject = {};
  for (const [name, each] of Object.entries(value))
    if ((isName(name) || isSchemaUri(name)) && each !== null) copy[name] = checked(each, level + 1);
  return copy;
}

function booleanOf(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  if (typeof value === "string" && /^(?:true|false)$/i.test(value)) return value.toLowerCase() === "true";
  throw badValue(`${name} is neither true nor false`);
}

/** The e-mail and the name that operators see. */
export function shownOf(resource: ScimResource): Readonly<{ email: string; name: string }> {
  const userName = textAttribute(resource, "userName") ?? "";
  const name = attributeOf(resource, "name");
  const formatted = isObject(name) ? textAttribute(name, "formatted") : undefined;
  const email = primaryEmail(resource) ?? (userName.includes("@") ? userName : "");
  return { email: plain(email), name: plain(textAttribute(resource, "displayName") ?? formatted ?? "") };
}

/** One line that operators can be shown. */
function plain(text: string): string {
  return text
    .slice(0, 320)
    .toWellFormed()
    .replace(/\p{Cc}/gu, " ");
}

export const etagOf = (version: number): string => `W/"${version}"`;

export type ShownGroup = Readonly<{ value: string; display: string; $ref: string }>;

/** @param base the URL of `/scim/v2` @returns undefined: the record has no resource */
export function showUser(
  { id, version, createdAt, changedAt, resource }: ProvisionedRecord,
  { base, groups }: Readonly<{ base: string; groups: readonly ShownGroup[] }>,
): JsonObject | undefined {
  if (resource === null) return undefined;
  const extensions = Object.keys(resource).filter(isSchemaUri);
  return {
    schemas: [userSchema, ...extensions],
    id,
    ...resource,
    ...(groups.length === 0 ? {} : { groups }),
    meta: {
      resourceType: "User",
      created: createdAt,
      lastModified: changedAt,
      location: `${base}/Users/${id}`,
      version: etagOf(version),
    },
  };
}
