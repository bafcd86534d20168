/**
 * Entra source: people, groups and members of a Microsoft Entra ID tenant, from Microsoft Graph.
 *
 * - `users/delta` and `groups/delta` list everything first, and later what has changed.
 * - A full run notes two delta tokens before it lists anything, and the next run begins there. So a change during the
 *   run is read again, and what was removed meanwhile is removed then.
 * - Members of a large group come in several pieces, anywhere in the list.
 * - A change may name a person by the changed properties alone; the person is then read.
 * - When Graph has forgotten a token (410, or 400 with its code), the next run is full.
 */
import * as z from "zod";
import { fingerprintChars } from "../../adapter-contract.ts";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp } from "../../directory-fetch.ts";
import { plainText } from "../../page-check.ts";
import {
  cursorCharsMax,
  type DirectoryGroup,
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  type DirectorySource,
  emptyPage,
  type ReadRequest,
} from "../../source.ts";
import type { AccessTokens } from "../shared/oauth-client.ts";
import { addressOf, pathPart, relativeLink } from "../shared/page-links.ts";

export type EntraOptions = Readonly<{
  http: DirectoryHttp;
  graph: URL;
  tokens: AccessTokens;
}>;

const userSelect = "id,userPrincipalName,mail,displayName,accountEnabled";
const lists = {
  people: { path: "v1.0/users/delta", select: userSelect },
  groups: { path: "v1.0/groups/delta", select: "id,displayName,members" },
} as const;

const id = z.string().min(1).max(128);
const removed = z.object({ reason: z.string().optional() }).optional();
const link = z.string().min(1).optional();
const links = { "@odata.nextLink": link, "@odata.deltaLink": link };
const text = z.string().nullish();
const user = z.object({
  id,
  userPrincipalName: text,
  mail: text,
  displayName: text,
  accountEnabled: z.boolean().nullish(),
  "@removed": removed,
});
const member = z.object({ "@odata.type": z.string().optional(), id, "@removed": removed });
const group = z.object({ id, displayName: text, "members@delta": z.array(member).optional(), "@removed": removed });
const usersAnswer = z.object({ ...links, value: z.array(user).max(5_000) });
const groupsAnswer = z.object({ ...links, value: z.array(group).max(5_000) });
const emptyAnswer = z.object({ ...links, value: z.array(z.unknown()).max(0) });
const memberOfAnswer = z.object({
  ...links,
  value: z.array(z.object({ "@odata.type": z.string().optional(), id, displayName: text })).max(999),
});

/** A run's position: the list and the query of its present page. */
const cursorSchema = z.strictObject({
  list: z.enum(["people", "groups"]),
  query: z.string().max(cursorCharsMax),
  /** The queries of the delta that the next run begins with. */
  delta: z.strictObject({ people: z.string(), groups: z.string() }),
  pages: z.number().int().min(0).max(100_000),
});
type Cursor = z.infer<typeof cursorSchema>;
const deltaSchema = cursorSchema.shape.delta;

type Get = (url: URL, signal: AbortSignal) => Promise<DirectoryAnswer>;

export function createEntraSource(options: EntraOptions): DirectorySource {
  const { graph } = options;
  const get: Get = (url, signal) => callGraph(options, { url, signal });

  async function firstCursor({ since, signal }: ReadRequest): Promise<Cursor> {
    if (since !== null) {
      const delta = parseText(deltaSchema, since);
      return { list: "people", query: delta.people, delta, pages: 0 };
    }
    const latest = async (list: keyof typeof lists): Promise<string> => {
      const answer = parse(emptyAnswer, await get(listUrl(graph, list, "?$deltatoken=latest"), signal));
      const found = answer["@odata.deltaLink"];
      if (found === undefined) throw malformed("Graph names no delta link for the present state");
      return queryOf(found, list, graph);
    };
    const delta = { people: await latest("people"), groups: await latest("groups") };
    return { list: "people", query: "", delta, pages: 0 };
  }

  async function read(request: ReadRequest): Promise<DirectoryPage> {
    const { signal, since } = request;
    signal.throwIfAborted();
    const cursor = request.cursor === null ? await firstCursor(request) : parseText(cursorSchema, request.cursor);
    const mode = since === null ? "full" : "delta";
    const answer = await get(listUrl(graph, cursor.list, cursor.query), signal);
    if (cursor.list === "people") {
      const parsed = parse(usersAnswer, answer);
      const content = await peopleOf(parsed.value, mode, (personId) => getUser(personId, { get, graph, signal }));
      return { ...emptyPage, ...content, ...following(cursor, parsed, { graph, mode }) };
    }
    const parsed = parse(groupsAnswer, answer);
    return { ...emptyPage, ...groupsOf(parsed.value, mode), ...following(cursor, parsed, { graph, mode }) };
  }

  return {
    read,
    readPerson: (personId, signal) => readPerson(personId, { get, graph, signal }),
    close: async () => {},
  };
}

/** The first query of a list selects; later ones have it in their token. */
function listUrl(graph: URL, list: keyof typeof lists, query: string): URL {
  const { path, select } = lists[list];
  const url = addressOf(path, graph);
  if (query === "") url.search = `?$select=${select}`;
  else url.search = query === "?$deltatoken=latest" ? `?$select=${select}&$deltatoken=latest` : query;
  return url;
}

function following(
  cursor: Cursor,
  answer: Readonly<{ "@odata.nextLink"?: string | undefined; "@odata.deltaLink"?: string | undefined }>,
  { graph, mode }: Readonly<{ graph: URL; mode: "full" | "delta" }>,
): Pick<DirectoryPage, "next" | "delta"> {
  const { "@odata.nextLink": next, "@odata.deltaLink": end } = answer;
  if ((next === undefined) === (end === undefined)) throw malformed("Graph names no next page, or two");
  const { list, pages } = cursor;
  if (next !== undefined) {
    const query = queryOf(next, list, graph);
    if (query === cursor.query) throw malformed("Graph names the same page as the next one, without end");
    return { next: format(cursorSchema, { ...cursor, query, pages: pages + 1 }), delta: null };
  }
  // A full run keeps the tokens from its beginning.
  const delta = mode === "full" ? cursor.delta : { ...cursor.delta, [list]: queryOf(end ?? "", list, graph) };
  if (list === "groups") return { next: null, delta: format(deltaSchema, delta) };
  const query = mode === "full" ? "" : delta.groups;
  return { next: format(cursorSchema, { list: "groups", query, delta, pages: pages + 1 }), delta: null };
}

/** The query of a link to the same list; it has the token and nothing else that we need. */
function queryOf(target: string, list: keyof typeof lists, graph: URL): string {
  const [path, query = ""] = splitOnce(relativeLink(target, graph));
  // Graph also writes the function's full name.
  if (path.replace("/microsoft.graph.delta", "/delta").replace(/\(\)$/, "") !== lists[list].path || query === "")
    throw malformed("Graph names a next page of another list");
  return `?${query}`;
}

function splitOnce(relative: string): readonly [string, string?] {
  const at = relative.indexOf("?");
  return at < 0 ? [relative] : [relative.slice(0, at), relative.slice(at + 1)];
}

type UserRecord = z.infer<typeof user>;

async function peopleOf(
  values: readonly UserRecord[],
  mode: "full" | "delta",
  readUser: (personId: string) => Promise<DirectoryPerson | null>,
): Promise<Pick<DirectoryPage, "people" | "removedPeople">> {
  const people: DirectoryPerson[] = [];
  const removedPeople: string[] = [];
  for (const value of new Map(values.map((each) => [each.id, each])).values()) {
    if (value["@removed"] !== undefined) {
      if (mode === "delta") removedPeople.push(value.id);
      continue;
    }
    const person = personOf(value);
    if (person !== null) people.push(person);
    else if (mode === "full")
      throw new DirectoryError("Graph does not say whether accounts are enabled; grant User.Read.All", {
        kind: "forbidden",
      });
    else {
      const found = await readUser(value.id);
      if (found === null) removedPeople.push(value.id);
      else people.push(found);
    }
  }
  return { people, removedPeople };
}

/** Null: the record lacks what a person needs. */
function personOf({
  id: personId,
  userPrincipalName,
  mail,
  displayName,
  accountEnabled,
}: UserRecord): DirectoryPerson | null {
  if (typeof accountEnabled !== "boolean" || typeof userPrincipalName !== "string") return null;
  const email = plainText(mail ?? "");
  return {
    id: personId,
    userName: plainText(userPrincipalName),
    email: email === "" ? null : email,
    name: plainText(displayName ?? ""),
    active: accountEnabled,
  };
}

type GroupRecord = z.infer<typeof group>;

/** The last word about each group and each of its members counts, as they may be repeated on a page. */
function groupsOf(
  values: readonly GroupRecord[],
  mode: "full" | "delta",
): Pick<DirectoryPage, "groups" | "members" | "removedGroups" | "removedMembers"> {
  const records = new Map<string, GroupRecord>();
  const memberRecords = new Map<string, Map<string, z.infer<typeof member>>>();
  for (const value of values) {
    records.set(value.id, { ...records.get(value.id), ...value, "@removed": value["@removed"] });
    const members = memberRecords.get(value.id) ?? new Map();
    for (const each of value["members@delta"] ?? []) members.set(each.id, each);
    memberRecords.set(value.id, members);
  }
  const groups: DirectoryGroup[] = [];
  const removedGroups: string[] = [];
  const members: DirectoryMembers[] = [];
  const removedMembers: DirectoryMembers[] = [];
  for (const value of records.values()) {
    if (value["@removed"] !== undefined) {
      if (mode === "delta") removedGroups.push(value.id);
      continue;
    }
    // A change of members alone may come without the name.
    if (typeof value.displayName === "string")
      groups.push({ id: value.id, name: plainText(value.displayName).slice(0, 256) || value.id });
    else if (mode === "full") groups.push({ id: value.id, name: value.id });
    const all = [...(memberRecords.get(value.id)?.values() ?? [])];
    const present = all.filter((each) => each["@removed"] === undefined);
    const gone = all.filter((each) => each["@removed"] !== undefined);
    if (present.length > 0) members.push(membersOf(value.id, present));
    if (mode === "delta" && gone.length > 0) removedMembers.push(membersOf(value.id, gone));
  }
  return { groups, members, removedGroups, removedMembers };
}

/** Devices, applications and contacts are members too, and count for nothing here. */
function membersOf(groupId: string, all: readonly z.infer<typeof member>[]): DirectoryMembers {
  const idsOf = (type: string): readonly string[] =>
    all.flatMap((each) => (each["@odata.type"] === type ? [each.id] : []));
  return { groupId, people: idsOf("#microsoft.graph.user"), groups: idsOf("#microsoft.graph.group") };
}

type PersonRequest = Readonly<{ get: Get; graph: URL; signal: AbortSignal }>;

async function getUser(personId: string, { get, graph, signal }: PersonRequest): Promise<DirectoryPerson | null> {
  const url = addressOf(`v1.0/users/${pathPart(personId)}`, graph);
  url.search = `?$select=${userSelect}`;
  const answer = await get(url, signal);
  if (answer.status === 404) return null;
  const value = parse(user, answer);
  const person = personOf(value);
  if (person === null || value.id !== personId) throw malformed("Graph answered without the person");
  return person;
}

async function readPerson(personId: string, request: PersonRequest): Promise<DirectoryPage | null> {
  const person = await getUser(personId, request);
  if (person === null) return null;
  const { graph } = request;
  const groups: DirectoryGroup[] = [];
  let url = addressOf(`v1.0/users/${pathPart(personId)}/memberOf`, graph);
  url.search = "?$select=id,displayName&$top=999";
  for (let pages = 0; pages < personPagesMax; pages++) {
    const page = parse(memberOfAnswer, await request.get(url, request.signal));
    // Roles and administrative units are listed too.
    for (const each of page.value)
      if (each["@odata.type"] === "#microsoft.graph.group")
        groups.push({ id: each.id, name: plainText(each.displayName ?? "").slice(0, 256) || each.id });
    const next = page["@odata.nextLink"];
    if (next === undefined) {
      const members = groups.map(({ id: groupId }): DirectoryMembers => ({ groupId, people: [personId], groups: [] }));
      return { ...emptyPage, people: [person], groups, members };
    }
    url = addressOf(relativeLink(next, graph), graph);
  }
  throw malformed("a person is in more groups than are read");
}

const personPagesMax = 20;

const errorAnswer = z.object({ error: z.object({ code: z.string() }) });
const expired = /^(syncStateNotFound|syncStateInvalid|resyncRequired)$/i;

/** An answer of 200 or 404. @throws DirectoryError */
async function callGraph(
  { http, tokens }: EntraOptions,
  { url, signal }: Readonly<{ url: URL; signal: AbortSignal }>,
): Promise<DirectoryAnswer> {
  const headers = { authorization: `Bearer ${await tokens.get(signal)}` };
  const answer = await http.request({ url, headers, signal, accept: [400, 401, 403, 404, 410] });
  const { status } = answer;
  if (status === 401) {
    tokens.drop();
    throw new DirectoryError("Graph refuses the access token", { kind: "unauthorized" });
  }
  if (status === 403)
    throw new DirectoryError("Graph refuses: grant the application User.Read.All and GroupMember.Read.All", {
      kind: "forbidden",
    });
  if (status === 410 || (status === 400 && expired.test(errorCodeOf(answer))))
    throw new DirectoryError("Graph no longer has the changes since the last run", { kind: "deltaExpired" });
  if (status === 400) throw malformed("Graph answers with the status 400");
  return answer;
}

function errorCodeOf(answer: DirectoryAnswer): string {
  const parsed = errorAnswer.safeParse(answer.json());
  return parsed.success ? parsed.data.error.code : "";
}

function parse<T>(schema: z.ZodType<T>, answer: DirectoryAnswer): T {
  if (answer.status === 404) throw malformed("Graph answers with the status 404");
  const parsed = schema.safeParse(answer.json());
  if (parsed.success) return parsed.data;
  throw malformed(`the answer of Graph lacks what is needed: ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
}

function format<T>(_schema: z.ZodType<T>, value: T): string {
  const written = JSON.stringify(value);
  if (written.length > cursorCharsMax - fingerprintChars) throw malformed("the tokens of Graph are too long to keep");
  return written;
}

function parseText<T>(schema: z.ZodType<T>, written: string): T {
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch {
    value = null;
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DirectoryError("the cursor is of another version", { kind: "deltaExpired" });
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
