/**
 * SCIM PATCH: applies the operations of RFC 7644 §3.5.2 to a resource, in every form that Entra ID and Okta send. Pure.
 *
 * - Names of operations and attributes ignore case. An operation may have no path; its value then names attributes,
 *   also with dots or the URI of an extension.
 * - A filter that finds nothing creates the element that it describes, if it only compares with `eq`: Entra ID sets
 *   `emails[type eq "work"].value` on a person without e-mails.
 * - `remove` may list the elements to remove in `value`, as Entra ID does by default.
 *
 * Why own code: docs/adr/0043-provisioned-people-are-users.md.
 */
import { isDeepStrictEqual } from "node:util";
import type { ScimResource } from "../../../events/index.ts";
import {
  type AttributePath,
  attributeOf,
  checkName,
  invalidPath,
  isCoreSchema,
  isObject,
  isSchemaUri,
  type JsonObject,
  keyIn,
  parseAttribute,
} from "./scim-attributes.ts";
import { badValue, ScimError } from "./scim-error.ts";
import { asElement, comparisonsIn, type Filter, filterAt, meetsFilter } from "./scim-filter.ts";
import { elementsMax } from "./scim-user.ts";

export const patchSchema = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/** `emails[type eq "work"].value`. */
export type PatchPath = AttributePath & Readonly<{ filter: Filter | null }>;
export type PatchOperation = Readonly<{ op: "add" | "replace" | "remove"; path: PatchPath | null; value: unknown }>;

const operationsMax = 1_000;
/** Of all operations on a user together: each costs time for each element of a list. */
const userElementsMax = 1_000;

/** @throws ScimError */
export function parsePatch(body: unknown): readonly PatchOperation[] {
  if (!isObject(body)) throw new ScimError(400, "the body is not a JSON object", "invalidSyntax");
  const schemas = attributeOf(body, "schemas");
  if (!Array.isArray(schemas) || !schemas.includes(patchSchema))
    throw new ScimError(400, `schemas must name ${patchSchema}`, "invalidSyntax");
  const operations = attributeOf(body, "Operations");
  if (!Array.isArray(operations) || operations.length === 0)
    throw new ScimError(400, "Operations is not a list of operations", "invalidSyntax");
  if (operations.length > operationsMax) throw new ScimError(400, "there are too many operations", "tooMany");
  return operations.map(parseOperation);
}

function parseOperation(operation: unknown): PatchOperation {
  if (!isObject(operation)) throw new ScimError(400, "an operation is not a JSON object", "invalidSyntax");
  const named = attributeOf(operation, "op");
  const op = (["add", "replace", "remove"] as const).find(
    (each) => typeof named === "string" && named.toLowerCase() === each,
  );
  if (op === undefined) throw new ScimError(400, "op is not add, replace or remove", "invalidSyntax");
  const path = attributeOf(operation, "path");
  if (path !== undefined && path !== null && typeof path !== "string")
    throw new ScimError(400, "path is not text", "invalidPath");
  const value = attributeOf(operation, "value");
  const parsed = path === undefined || path === null || path === "" ? null : parsePath(path);
  if (op === "remove" && parsed === null) throw new ScimError(400, "remove needs a path", "noTarget");
  if (op !== "remove" && value === undefined) throw badValue(`${op} needs a value`);
  if (op !== "remove" && parsed === null && !isObject(value)) throw badValue(`${op} without a path needs an object`);
  return { op, path: parsed, value };
}

/** @throws ScimError `invalidPath` */
export function parsePath(text: string): PatchPath {
  const bracket = text.indexOf("[");
  if (bracket < 0) return { ...parseAttribute(text), filter: null };
  const attribute = parseAttribute(text.slice(0, bracket));
  const { filter, end } = filterAt(text, bracket + 1);
  const after = text.slice(end);
  if (attribute.name === null || attribute.sub !== null || (after !== "]" && !after.startsWith("].")))
    return invalidPath(text);
  return { ...attribute, filter, sub: after === "]" ? null : checkName(after.slice(2), text) };
}

/** Splits an operation without a path into one for each attribute that its value names. */
export function withPaths(operation: PatchOperation): readonly (PatchOperation & Readonly<{ path: PatchPath }>)[] {
  const { op, path, value } = operation;
  if (path !== null) return [{ op, path, value }];
  return Object.entries(value as JsonObject).flatMap(([name, each]) => {
    // The URI of the core schema, or an extension as an object: its attributes one by one, so that the others stay.
    if (isSchemaUri(name) && isObject(each) && parseAttribute(name).name === null) {
      const prefix = isCoreSchema(name) ? "" : `${name}:`;
      return Object.entries(each).map(([inner, of]) => ({ op, path: parsePath(`${prefix}${inner}`), value: of }));
    }
    return [{ op, path: parsePath(name), value: each }];
  });
}

const readOnly = new Set(["id", "meta", "schemas", "groups"]);

/** Applies operations to a copy. Read-only attributes are skipped without a path, as Okta sends them, else refused. */
export function applyPatch(resource: ScimResource, operations: readonly PatchOperation[]): JsonObject {
  const elements = operations.reduce((sum, { path, value }) => sum + countOf(value) + countIn(path), 0);
  if (elements > userElementsMax) throw new ScimError(400, "the operations have too many elements", "tooMany");
  const patched = structuredClone(resource) as JsonObject;
  for (const operation of operations) {
    for (const { op, path, value } of withPaths(operation)) {
      if (path.schema === null && readOnly.has(path.name?.toLowerCase() ?? "")) {
        if (operation.path === null) continue;
        throw new ScimError(400, `${path.name} is read-only`, "mutability");
      }
      applyAt(patched, { op, path, value });
    }
  }
  return patched;
}

const countIn = (path: PatchPath | null): number => (path?.filter ? comparisonsIn(path.filter) : 1);

/** The elements of all lists. */
function countOf(value: unknown): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, each) => sum + 1 + countOf(each), 0);
  return isObject(value) ? Object.values(value).reduce<number>((sum, each) => sum + countOf(each), 0) : 0;
}

type Placed = Readonly<{ op: PatchOperation["op"]; path: PatchPath; value: unknown }>;

function applyAt(resource: JsonObject, placed: Placed): void {
  const { op, path, value } = placed;
  if (path.name === null) {
    const key = keyIn(resource, path.schema ?? "") ?? path.schema ?? "";
    if (op === "remove") delete resource[key];
    else if (!isObject(value)) throw badValue("the value of an extension is not an object");
    else resource[key] = op === "add" && isObject(resource[key]) ? { ...resource[key], ...value } : value;
    return;
  }
  const container = path.schema === null ? resource : extensionOf(resource, path.schema, op);
  if (container === undefined) return;
  const key = keyIn(container, path.name) ?? path.name;
  if (path.filter !== null) applyToElements(container, key, { ...placed, filter: path.filter });
  else if (path.sub !== null) applyToSub(container, key, { ...placed, sub: path.sub });
  else if (op === "remove") removeWhole(container, key, value);
  else setWhole(container, key, { op, value });
  if (path.schema !== null && Object.keys(container).length === 0) delete resource[path.schema];
}

function extensionOf(resource: JsonObject, schema: string, op: PatchOperation["op"]): JsonObject | undefined {
  const key = keyIn(resource, schema) ?? schema;
  const known = resource[key];
  if (isObject(known)) return known;
  if (op === "remove") return undefined;
  const created: JsonObject = {};
  resource[key] = created;
  return created;
}

function applyToElements(container: JsonObject, key: string, placed: Placed & Readonly<{ filter: Filter }>): void {
  const { op, path, value, filter } = placed;
  const list = listAt(container, key);
  const met = list.filter((each) => meetsFilter(asElement(each), filter));
  if (op === "remove") {
    const left = path.sub === null ? list.filter((each) => !met.includes(each)) : list;
    if (path.sub !== null) for (const each of met) if (isObject(each)) remove(each, path.sub);
    setList(container, key, left);
    return;
  }
  if (met.length === 0) {
    const described = describedBy(filter);
    if (described === undefined) throw new ScimError(400, "no element meets the filter of the path", "noTarget");
    list.push(described);
    met.push(described);
  }
  for (const each of met) {
    if (!isObject(each)) throw new ScimError(400, "the filter finds a value without attributes", "invalidPath");
    if (path.sub !== null) each[keyIn(each, path.sub) ?? path.sub] = value;
    else if (isObject(value)) mergeInto(each, value);
    else each[keyIn(each, "value") ?? "value"] = value;
    if (isPrimary(each)) leaveOnePrimary(list, each);
  }
  setList(container, key, list);
}

/** The element that a filter of `eq` and `and` describes. */
function describedBy(filter: Filter): JsonObject | undefined {
  if (filter.type === "and") {
    const [left, right] = [describedBy(filter.left), describedBy(filter.right)];
    return left && right && { ...left, ...right };
  }
  if (filter.type !== "compare" || filter.op !== "eq" || filter.path.sub !== null || filter.path.name === null)
    return undefined;
  return { [filter.path.name]: filter.value };
}

function applyToSub(container: JsonObject, key: string, { op, value, sub }: Placed & Readonly<{ sub: string }>): void {
  const known = container[key];
  if (Array.isArray(known)) {
    for (const each of known.filter(isObject)) {
      if (op === "remove") remove(each, sub);
      else each[keyIn(each, sub) ?? sub] = value;
    }
    return;
  }
  if (op === "remove") {
    if (isObject(known)) remove(known, sub);
    return;
  }
  // Entra ID also writes `manager` as text and `manager.value` as its attribute.
  const target: JsonObject = isObject(known) ? known : {};
  target[keyIn(target, sub) ?? sub] = value;
  container[key] = target;
}

function setWhole(container: JsonObject, key: string, { op, value }: Readonly<{ op: string; value: unknown }>): void {
  const known = container[key];
  if (op === "replace" || known === undefined || known === null) {
    if (Array.isArray(known) && !Array.isArray(value)) setList(container, key, [value]);
    else if (isObject(known) && isObject(value)) mergeInto(known, value);
    else container[key] = value;
  } else if (Array.isArray(known)) {
    const list = [...known];
    for (const each of Array.isArray(value) ? value : [value]) {
      if (list.some((other) => isDeepStrictEqual(other, each))) continue;
      list.push(each);
      if (isObject(each) && isPrimary(each)) leaveOnePrimary(list, each);
    }
    setList(container, key, list);
  } else if (isObject(known) && isObject(value)) mergeInto(known, value);
  else container[key] = value;
}

/** With a value, only the listed elements go. */
function removeWhole(container: JsonObject, key: string, value: unknown): void {
  const known = container[key];
  if (!Array.isArray(known) || value === undefined || value === null) {
    delete container[key];
    return;
  }
  const gone = (Array.isArray(value) ? value : [value]).map(asElement);
  const named = (each: unknown): boolean =>
    gone.some((one) => isDeepStrictEqual(asElement(each)["value"], one["value"]) && one["value"] !== undefined);
  setList(
    container,
    key,
    known.filter((each) => !named(each)),
  );
}

function listAt(container: JsonObject, key: string): unknown[] {
  const known = container[key];
  return Array.isArray(known) ? [...known] : known === undefined || known === null ? [] : [known];
}

function setList(container: JsonObject, key: string, list: readonly unknown[]): void {
  if (list.length > elementsMax) throw new ScimError(400, `${key} would have too many elements`, "tooMany");
  if (list.length === 0) delete container[key];
  else container[key] = list;
}

function mergeInto(target: JsonObject, value: JsonObject): void {
  for (const [name, each] of Object.entries(value)) target[keyIn(target, checkName(name, name)) ?? name] = each;
}

function remove(object: JsonObject, name: string): void {
  const key = keyIn(object, name);
  if (key !== undefined) delete object[key];
}

const isPrimary = (each: JsonObject): boolean => String(attributeOf(each, "primary")).toLowerCase() === "true";

/** RFC 7643 §2.4: `true` appears no more than once. */
function leaveOnePrimary(list: readonly unknown[], primary: JsonObject): void {
  for (const each of list.filter(isObject)) {
    const key = keyIn(each, "primary");
    if (each !== primary && key !== undefined) each[key] = false;
  }
}
