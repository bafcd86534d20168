/**
 * SCIM users: create, read, replace, change and delete (RFC 7644 §3.3 to §3.6).
 *
 * - A change that changes nothing appends nothing.
 * - A deleted person keeps a record without data, which denies sign-ins until the client creates the person again,
 *   under another resource id.
 */
import { isDeepStrictEqual } from "node:util";
import {
  endsSubject,
  type GroupId,
  originOf,
  type ProvisionedRecord,
  provisionedProfile,
  provisionedUserId,
  type ScimResource,
  type UserId,
} from "../../../events/index.ts";
import { keyName, keyOfResource } from "./correlation.ts";
import { type JsonObject, textAttribute } from "./scim-attributes.ts";
import {
  type Attempt,
  catchUp,
  correlatePeople,
  requireMatch,
  type ScimAnswer,
  type ScimCaller,
  type ScimDeps,
  type ScimRequest,
  submitChange,
  uniqueness,
  withAttempts,
} from "./scim-context.ts";
import type { DirectoryEntry } from "./scim-directory.ts";
import { badValue, notFound, ScimError } from "./scim-error.ts";
import { applyPatch, parsePatch } from "./scim-patch.ts";
import { etagOf, normalizePatchedUser, normalizeUser, type ShownGroup, shownOf, showUser } from "./scim-user.ts";

/** In one command; the others follow one by one (`correlatePeople`). */
const peopleMax = 10_000;
/** Of one client. */
const recordsMax = 500_000;

export async function createUser(deps: ScimDeps, caller: ScimCaller, body: unknown): Promise<ScimAnswer> {
  const resource = normalizeUser(body);
  const userId = userIdOfResource(caller, resource);
  const answer = await withAttempts(deps, userId, async () => {
    const known = deps.directory.entry(userId);
    if (known?.isLive === true) throw uniqueness("a user with this identity exists");
    requireFreeName(deps, caller, resource, null);
    if (known === undefined) requireRoom(deps, caller);
    const at = new Date(deps.clock.wall()).toISOString();
    const version = (known?.version ?? 0) + 1;
    const record = { version, id: deps.uuid(), createdAt: at, changedAt: at, resource, movedTo: null };
    return submitRecord(deps, caller, { userId, expected: known?.version ?? 0, record, movedFrom: null });
  });
  return { ...answer, status: 201 };
}

export async function readUser(deps: ScimDeps, { client }: ScimCaller, id: string): Promise<ScimAnswer> {
  const entry = await findUser(deps, client.name, id);
  const body = shownUser(deps, entry.userId);
  if (body === undefined) throw notFound();
  return { status: 200, body, etag: etagOf(entry.version) };
}

/** PUT: what the client leaves out goes. */
export function replaceUser(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, body, ifMatch }: Readonly<{ id: string }> & Pick<ScimRequest, "body" | "ifMatch">,
): Promise<ScimAnswer> {
  const resource = normalizeUser(body);
  return changeUser(deps, caller, { id, ifMatch, change: () => resource });
}

export function patchUser(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, body, ifMatch }: Readonly<{ id: string }> & Pick<ScimRequest, "body" | "ifMatch">,
): Promise<ScimAnswer> {
  const operations = parsePatch(body);
  return changeUser(deps, caller, {
    id,
    ifMatch,
    change: (resource) => normalizePatchedUser(applyPatch(resource, operations)),
  });
}

export async function deleteUser(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, ifMatch }: Readonly<{ id: string; ifMatch: string | undefined }>,
): Promise<ScimAnswer> {
  const answer = await withAttempts(deps, id, async () => {
    const entry = await findUser(deps, caller.client.name, id);
    requireMatch(ifMatch, etagOf(entry.version));
    return submitRecord(deps, caller, {
      userId: entry.userId,
      expected: entry.version,
      record: emptyRecord(deps, entry, null),
      movedFrom: null,
    });
  });
  return { status: 204, ...(answer.link === undefined ? {} : { link: answer.link }) };
}

function changeUser(
  deps: ScimDeps,
  caller: ScimCaller,
  {
    id,
    ifMatch,
    change,
  }: Readonly<{ id: string; ifMatch: string | undefined; change: (resource: ScimResource) => ScimResource }>,
): Promise<ScimAnswer> {
  return withAttempts(deps, id, async (isCaughtUp) => {
    const entry = await findUser(deps, caller.client.name, id);
    const record = deps.directory.record(entry.userId);
    if (record === undefined || record.resource === null) throw notFound();
    requireMatch(ifMatch, etagOf(record.version));
    const resource = change(record.resource);
    const userId = userIdOfResource(caller, resource);
    const isMove = userId !== entry.userId;
    const isSame = !isMove && isDeepStrictEqual(resource, record.resource);
    if (isSame && !hasHeldEnd(deps, caller, userId)) return isCaughtUp ? unchanged(deps, caller, entry) : "again";
    requireFreeName(deps, caller, resource, entry.userId);
    const target = isMove ? deps.directory.entry(userId) : entry;
    if (isMove && target?.isLive === true) throw uniqueness("a user with this identity exists");
    if (isMove && target === undefined) requireRoom(deps, caller);
    const version = Math.max(record.version, target?.version ?? 0) + 1;
    const changedAt = new Date(deps.clock.wall()).toISOString();
    return submitRecord(deps, caller, {
      userId,
      expected: target?.version ?? 0,
      record: { ...record, version, changedAt, resource },
      movedFrom: isMove ? entry : null,
    });
  });
}

/** The end of the person's access waits for an operator. A statement of the client about the person ends that. */
function hasHeldEnd({ replica }: ScimDeps, { actor }: ScimCaller, userId: UserId): boolean {
  const held = replica.projection.massChanges.heldAbout(originOf(actor), endsSubject);
  return held?.status === "held" && held.removed.includes(userId);
}

/** @returns the user whose access a change would end; undefined: it ends none @throws ScimError where it would fail */
export function endedUser(
  { directory }: ScimDeps,
  { client }: ScimCaller,
  { method, id, body, ifMatch }: Readonly<{ method: string; id: string; body: unknown; ifMatch: string | undefined }>,
): UserId | undefined {
  const userId = directory.find(client.name, "id", id)?.userId;
  const record = userId && directory.record(userId);
  if (record === undefined || record.resource === null) return undefined;
  requireMatch(ifMatch, etagOf(record.version));
  if (method === "DELETE") return userId;
  const resource =
    method === "PUT" ? normalizeUser(body) : normalizeUser(applyPatch(record.resource, parsePatch(body)));
  return resource["active"] === true ? undefined : userId;
}

/** Nothing to append, unless a person who signs in still lacks what the record gives. */
async function unchanged(deps: ScimDeps, caller: ScimCaller, entry: DirectoryEntry): Promise<Attempt> {
  const link = await correlatePeople(deps, caller, { users: [entry.userId], link: deps.replica.applied });
  const body = shownUser(deps, entry.userId);
  return body === undefined ? "again" : { status: 200, body, etag: etagOf(entry.version), link };
}

type RecordChange = Readonly<{
  userId: UserId;
  /** The version of the record that the user has; 0: none. */
  expected: number;
  record: ProvisionedRecord;
  /** The user that has had the record. */
  movedFrom: DirectoryEntry | null;
}>;

async function submitRecord(
  deps: ScimDeps,
  caller: ScimCaller,
  { userId, expected, record, movedFrom }: RecordChange,
): Promise<Attempt> {
  const { directory } = deps;
  const { basis } = directory;
  const client = caller.client.name;
  const shown = record.resource === null ? { email: "", name: "" } : shownOf(record.resource);
  const isActive = record.resource?.["active"] === true;
  const aliases = [userId, ...(movedFrom === null ? [] : [movedFrom.userId])]
    .flatMap((each) => directory.aliasesOf(each))
    .filter((each) => each !== userId);
  const people = [userId, ...(movedFrom === null ? [] : [movedFrom.userId])].flatMap((each) =>
    directory.peopleOf(each),
  );
  const link = await submitChange(deps, caller, {
    type: isActive ? "writeProvisionedUser" : "endProvisionedUser",
    userId,
    client,
    expected,
    profile: provisionedProfile(client, record, shown),
    people: [...new Set(people)].slice(0, peopleMax),
    basis: basis.position,
    basisLink: basis,
    aliases: [...new Set(aliases)],
    movedFrom: movedFrom && {
      userId: movedFrom.userId,
      expected: movedFrom.version,
      profile: provisionedProfile(client, emptyRecord(deps, movedFrom, userId), { email: "", name: "" }),
    },
  });
  if (link === "again") return "again";
  const newest = await correlatePeople(deps, caller, { users: [userId], link });
  const body = shownUser(deps, userId);
  return { status: 200, ...(body === undefined ? {} : { body }), etag: etagOf(record.version), link: newest };
}

function emptyRecord(deps: ScimDeps, entry: DirectoryEntry, movedTo: UserId | null): ProvisionedRecord {
  return {
    version: entry.version + 1,
    id: entry.id,
    createdAt: entry.createdAt,
    changedAt: new Date(deps.clock.wall()).toISOString(),
    resource: null,
    movedTo,
  };
}

/** Names ignore case, and no two users of a client share one. */
function requireFreeName(
  { directory }: ScimDeps,
  { client }: ScimCaller,
  resource: ScimResource,
  own: UserId | null,
): void {
  const holder = directory.find(client.name, "userName", textAttribute(resource, "userName") ?? "");
  if (holder !== undefined && holder.userId !== own) throw uniqueness("a user with this userName exists");
}

function requireRoom({ directory }: ScimDeps, { client }: ScimCaller): void {
  if (directory.recordsOf(client.name) >= recordsMax)
    throw new ScimError(403, `a client has at most ${recordsMax} users, the deleted ones included`);
}

function userIdOfResource({ client }: ScimCaller, resource: ScimResource): UserId {
  const key = keyOfResource(client, resource);
  if (key === undefined)
    throw badValue(`people of this client are matched by ${client.match}, so each needs ${keyName(client)}`);
  return provisionedUserId(client.name, key);
}

/** @throws ScimError 404, once this node knows all of the log */
export async function findUser(deps: ScimDeps, client: string, id: string): Promise<DirectoryEntry> {
  await deps.directory.settled();
  const found = deps.directory.find(client, "id", id);
  if (found !== undefined) return found;
  await catchUp(deps);
  const later = deps.directory.find(client, "id", id);
  if (later === undefined) throw notFound();
  return later;
}

export function shownUser(deps: ScimDeps, userId: UserId): JsonObject | undefined {
  const record = deps.directory.record(userId);
  return record && showUser(record, { base: deps.base, groups: groupsOf(deps, userId) });
}

function groupsOf({ replica, base }: ScimDeps, userId: UserId): readonly ShownGroup[] {
  const groups: ShownGroup[] = [];
  for (const [groupId, { sources }] of replica.projection.memberships(userId)) {
    const id = sources.includes("scim") ? replica.projection.group(groupId)?.scim?.id : undefined;
    if (id !== undefined) groups.push({ value: id, display: groupId satisfies GroupId, $ref: `${base}/Groups/${id}` });
  }
  return groups.sort((a, b) => (a.display < b.display ? -1 : 1));
}
