/**
 * SCIM lists: filters, sorting, paging and the choice of attributes (RFC 7644 §3.4.2, §3.9).
 *
 * - A filter that names a `userName`, a group's `displayName`, an `externalId`, `id` or e-mail with `eq` uses an index.
 *   Any other reads every resource of the client, in steps, for at most 20 s; a client has two such searches at once.
 * - An empty answer is given only once this node knows all of the log: a client would otherwise create a person twice.
 */
import type { GroupId, ScimResource, UserId } from "../../../events/index.ts";
import { attributeOf, isObject, type JsonObject, keyIn, parseAttribute, valuesAt } from "./scim-attributes.ts";
import { catchUp, type ScimAnswer, type ScimCaller, type ScimDeps } from "./scim-context.ts";
import { badValue, ScimError } from "./scim-error.ts";
import { type Filter, meetsFilter, parseFilter, requiredText } from "./scim-filter.ts";
import { showGroup } from "./scim-groups.ts";
import { shownUser } from "./scim-users.ts";

export const listSchema = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
export const resultsMax = 200;
const resultsDefault = 100;
/** A search lets other work go first after this time. */
const stepMs = 2;
const searchMsMax = 20_000;
/** Of one client at once; each step of each of them holds up decisions. */
const searchesMax = 2;

export type ListQuery = Readonly<{
  filter: Filter | null;
  /** From 1. */
  startIndex: number;
  count: number;
  sortBy: string | null;
  isDescending: boolean;
  shape: AttributeChoice;
}>;
/** The attributes that the caller wants; both null: the usual ones. */
export type AttributeChoice = Readonly<{ only: readonly string[] | null; without: readonly string[] | null }>;

/** @throws ScimError */
export function listQueryOf(query: URLSearchParams): ListQuery {
  const filter = query.get("filter");
  const order = query.get("sortOrder")?.toLowerCase() ?? "ascending";
  if (order !== "ascending" && order !== "descending") throw badValue("sortOrder is not ascending or descending");
  return {
    filter: filter === null || filter === "" ? null : parseFilter(filter),
    startIndex: Math.max(1, integerIn(query, "startIndex", 1)),
    count: Math.min(resultsMax, Math.max(0, integerIn(query, "count", resultsDefault))),
    sortBy: query.get("sortBy"),
    isDescending: order === "descending",
    shape: shapeOf(query),
  };
}

/** @throws ScimError */
export function shapeOf(query: URLSearchParams): AttributeChoice {
  const only = namesIn(query.get("attributes"));
  const without = namesIn(query.get("excludedAttributes"));
  if (only !== null && without !== null) throw badValue("attributes and excludedAttributes exclude each other");
  return { only, without };
}

function namesIn(text: string | null): readonly string[] | null {
  const names =
    text === null
      ? []
      : text
          .split(",")
          .map((name) => name.trim())
          .filter((name) => name !== "");
  return names.length === 0 ? null : names.slice(0, 100);
}

function integerIn(query: URLSearchParams, name: string, otherwise: number): number {
  const text = query.get(name);
  if (text === null || text === "") return otherwise;
  if (!/^-?\d{1,9}$/.test(text)) throw badValue(`${name} is not a number`);
  return Number(text);
}

/** `id`, `schemas` and `meta` are always returned unless they are excluded by name; `id` and `schemas` even then. */
export function chooseAttributes(resource: JsonObject, { only, without }: AttributeChoice): JsonObject {
  if (only === null && without === null) return resource;
  const kept: JsonObject = {};
  if (only !== null) {
    for (const name of ["schemas", "id"]) if (name in resource) kept[name] = resource[name];
    for (const name of only) copyAt(resource, kept, name);
    return kept;
  }
  Object.assign(kept, resource);
  for (const name of without ?? []) removeAt(kept, name);
  return { ...kept, schemas: resource["schemas"], id: resource["id"] };
}

function copyAt(from: JsonObject, to: JsonObject, written: string): void {
  const { schema, name, sub } = parseAttribute(written);
  const extension = schema === null ? from : attributeOf(from, schema);
  if (!isObject(extension)) return;
  const key = name === null ? undefined : keyIn(extension, name);
  const into = schema === null ? to : objectAt(to, keyIn(from, schema) ?? schema);
  if (name === null) Object.assign(into, extension);
  else if (key !== undefined) into[key] = sub === null ? extension[key] : partOf(extension[key], sub, into[key]);
}

function objectAt(object: JsonObject, key: string): JsonObject {
  const known = object[key];
  if (isObject(known)) return known;
  const created: JsonObject = {};
  object[key] = created;
  return created;
}

function partOf(value: unknown, sub: string, before: unknown): unknown {
  if (Array.isArray(value)) return value.map((each, at) => partOf(each, sub, Array.isArray(before) ? before[at] : {}));
  const key = isObject(value) ? keyIn(value, sub) : undefined;
  return isObject(value) && key !== undefined ? { ...(isObject(before) ? before : {}), [key]: value[key] } : before;
}

function removeAt(from: JsonObject, written: string): void {
  const { schema, name, sub } = parseAttribute(written);
  const at = schema === null ? from : attributeOf(from, schema);
  if (!isObject(at)) return;
  if (name === null) {
    delete from[keyIn(from, schema ?? "") ?? ""];
    return;
  }
  const key = keyIn(at, name);
  if (key === undefined) return;
  if (sub === null) delete at[key];
  else at[key] = withoutPart(at[key], sub);
}

function withoutPart(value: unknown, sub: string): unknown {
  if (Array.isArray(value)) return value.map((each) => withoutPart(each, sub));
  if (!isObject(value)) return value;
  const key = keyIn(value, sub);
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== key));
}

type Source<Ref> = Readonly<{
  /** In a stable order. */
  refs: readonly Ref[];
  show: (ref: Ref) => JsonObject | undefined;
}>;

export function listUsers(deps: ScimDeps, { client }: ScimCaller, query: ListQuery): Promise<ScimAnswer> {
  return listFrom(deps, client.name, query, () => usersIn(deps, client.name, query));
}

export function listGroups(deps: ScimDeps, { client }: ScimCaller, query: ListQuery): Promise<ScimAnswer> {
  return listFrom(deps, client.name, query, () => groupsIn(deps, client.name, query));
}

/** Users, then groups: a query of the server's root (RFC 7644 §3.4.2.1). */
export function listAll(deps: ScimDeps, { client }: ScimCaller, query: ListQuery): Promise<ScimAnswer> {
  return listFrom(deps, client.name, query, () => {
    const users = usersIn(deps, client.name, query);
    const groups = groupsIn(deps, client.name, query);
    type Ref = Readonly<{ userId: UserId }> | Readonly<{ groupId: GroupId }>;
    return {
      refs: [...users.refs.map((userId): Ref => ({ userId })), ...groups.refs.map((groupId): Ref => ({ groupId }))],
      show: (ref) => ("userId" in ref ? users.show(ref.userId) : groups.show(ref.groupId)),
    };
  });
}

function usersIn(deps: ScimDeps, client: string, { filter }: ListQuery): Source<UserId> {
  return { refs: userCandidates(deps, client, filter), show: (userId) => shownUser(deps, userId) };
}

function groupsIn(deps: ScimDeps, client: string, { filter, shape }: ListQuery): Source<GroupId> {
  const filtersMembers = filter !== null && /"members"/i.test(JSON.stringify(filter));
  const withMembers = filtersMembers || showsMembers(shape);
  return {
    refs: groupCandidates(deps, client, filter),
    show: (groupId) => showGroup(deps, groupId, { withMembers }),
  };
}

/** Whether the caller wants the members of groups, which may be many. */
export function showsMembers({ only, without }: AttributeChoice): boolean {
  const hasMembers = (names: readonly string[] | null, pattern: RegExp): boolean =>
    names?.some((name) => pattern.test(name)) === true;
  return only === null ? !hasMembers(without, /^(?:.*:)?members$/i) : hasMembers(only, /^(?:.*:)?members\b/i);
}

async function listFrom<Ref>(
  deps: ScimDeps,
  client: string,
  query: ListQuery,
  source: () => Source<Ref>,
): Promise<ScimAnswer> {
  await deps.directory.settled();
  let found = await search(deps, client, { query, source: source() });
  if (found.total === 0) {
    await catchUp(deps);
    found = await search(deps, client, { query, source: source() });
  }
  const Resources = found.page.map((resource) => chooseAttributes(resource, query.shape));
  return {
    status: 200,
    body: {
      schemas: [listSchema],
      totalResults: found.total,
      startIndex: query.startIndex,
      itemsPerPage: Resources.length,
      Resources,
    },
  };
}

type Search<Ref> = Readonly<{ query: ListQuery; source: Source<Ref> }>;
type Found = Readonly<{ total: number; page: readonly JsonObject[] }>;

async function search<Ref>(deps: ScimDeps, client: string, { query, source }: Search<Ref>): Promise<Found> {
  const { filter, startIndex, count, sortBy } = query;
  const { refs } = source;
  if (filter === null && sortBy === null)
    return { total: refs.length, page: shownOf(source, refs.slice(startIndex - 1, startIndex - 1 + count)) };
  if (refs.length <= resultsMax) return searchAll(deps, { query, source });
  const others = deps.searches.get(client) ?? 0;
  if (others >= searchesMax)
    throw new ScimError(503, `a client has at most ${searchesMax} searches without an index at once; try again`);
  deps.searches.set(client, others + 1);
  try {
    return await searchAll(deps, { query, source });
  } finally {
    const left = (deps.searches.get(client) ?? 1) - 1;
    if (left === 0) deps.searches.delete(client);
    else deps.searches.set(client, left);
  }
}

async function searchAll<Ref>(deps: ScimDeps, { query, source }: Search<Ref>): Promise<Found> {
  const { filter, startIndex, count, sortBy, isDescending } = query;
  const first = startIndex - 1;
  const path = sortBy === null ? null : parseAttribute(sortBy);
  const met: Readonly<{ ref: Ref; key: string | number }>[] = [];
  let pausedAt = deps.clock.monotonic();
  const until = pausedAt + searchMsMax;
  for (const ref of source.refs) {
    if (deps.clock.monotonic() - pausedAt >= stepMs) {
      await deps.sleep(0);
      pausedAt = deps.clock.monotonic();
      if (pausedAt > until) throw new ScimError(400, "the search takes too long; name less", "tooMany");
    }
    const resource = source.show(ref);
    if (resource === undefined || (filter !== null && !meetsFilter(resource, filter))) continue;
    met.push({ ref, key: path === null ? 0 : sortKey(resource, path) });
  }
  if (path !== null) met.sort((a, b) => compareKeys(a.key, b.key) * (isDescending ? -1 : 1));
  const page = met.slice(first, first + count).map(({ ref }) => ref);
  return { total: met.length, page: shownOf(source, page) };
}

function shownOf<Ref>({ show }: Source<Ref>, some: readonly Ref[]): readonly JsonObject[] {
  return some.map(show).filter((resource) => resource !== undefined);
}

/** Of a list, the primary element or else the first (RFC 7644 §3.4.2.3). */
function sortKey(resource: ScimResource, path: ReturnType<typeof parseAttribute>): string | number {
  const whole = valuesAt(resource, { ...path, sub: null });
  const chosen = whole.find((each) => isObject(each) && attributeOf(each, "primary") === true) ?? whole[0];
  const value = isObject(chosen) ? attributeOf(chosen, path.sub ?? "value") : chosen;
  if (typeof value === "number") return value;
  return value === undefined || value === null ? lastKey : String(value).toLowerCase();
}

/** A resource without the attribute comes last. */
const lastKey = "\uffff";

function compareKeys(a: string | number, b: string | number): number {
  const [x, y] = typeof a === typeof b ? [a, b] : [String(a), String(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

function userCandidates({ directory }: ScimDeps, client: string, filter: Filter | null): readonly UserId[] {
  if (filter === null) return directory.usersOf(client);
  for (const by of ["id", "userName", "externalId"] as const) {
    const text = requiredText(filter, by.toLowerCase());
    if (text === undefined) continue;
    const entry = directory.find(client, by, text);
    return entry === undefined ? [] : [entry.userId];
  }
  const email = requiredText(filter, "emails.value");
  // The index has the first e-mails of a person alone.
  return email === undefined || directory.withEmail(client, email).length === 0
    ? directory.usersOf(client)
    : directory.withEmail(client, email);
}

const groupIndexes = [
  ["id", "group id"],
  ["displayname", "group name"],
  ["externalid", "group externalId"],
] as const;

function groupCandidates({ replica, directory }: ScimDeps, client: string, filter: Filter | null): readonly GroupId[] {
  for (const [name, by] of groupIndexes) {
    const text = filter === null ? undefined : requiredText(filter, name);
    if (text !== undefined) return directory.groupsWith(client, by, text);
  }
  const owned: Readonly<{ groupId: GroupId; key: string }>[] = [];
  for (const { groupId, scim } of replica.projection.groups())
    if (scim?.client === client) owned.push({ groupId, key: `${String(scim.createdAt).padStart(15, "0")} ${scim.id}` });
  return owned.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ groupId }) => groupId);
}
