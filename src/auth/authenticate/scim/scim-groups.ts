/**
 * SCIM groups: create, read, replace, change and delete (RFC 7644 §3.3 to §3.6).
 *
 * - The group's id in policies is its `displayName`. No two SCIM clients share one.
 * - A change of members is worked out from the operations alone, so its cost does not grow with the group, unless it
 *   replaces all members.
 */
import {
  deletionSubject,
  type GroupId,
  groupStream,
  type HeldChange,
  isPlainText,
  type NeededLink,
  originOf,
  parseGroupId,
  type ScimGroup,
  type UserId,
} from "../../../events/index.ts";
import { attributeOf, groupSchema, isObject, type JsonObject, textAttribute } from "./scim-attributes.ts";
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
import { badValue, notFound, ScimError } from "./scim-error.ts";
import { type Filter, meetsFilter } from "./scim-filter.ts";
import { type PatchOperation, parsePatch, withPaths } from "./scim-patch.ts";
import { etagOf } from "./scim-user.ts";

/** Of one request, the people who correlate included: bounds the command. */
const changedMembersMax = 20_000;

/** Filters that do not name members, in one request: each is evaluated for every member. */
const memberFiltersMax = 10;
const groupsMax = 100_000;
const membersMax = 50_000;

/** A change to a group. `base`: what `added` and `removed` start from. */
type GroupChange = Readonly<{
  displayName?: string;
  externalId?: string | null;
  base: "current" | "empty";
  added: ReadonlySet<string>;
  removed: ReadonlySet<string>;
}>;

export async function createGroup(deps: ScimDeps, caller: ScimCaller, body: unknown): Promise<ScimAnswer> {
  const change = changeIn(body);
  const groupId = nameOf(change.displayName);
  const answer = await withAttempts(deps, groupId, async () => {
    const basisLink = deps.replica.appliedLink;
    requireFree(deps, groupId);
    if (deps.directory.groups >= groupsMax)
      throw new ScimError(403, `the SCIM clients together have at most ${groupsMax} groups`);
    const at = deps.clock.wall();
    const scim: ScimGroup = {
      client: caller.client.name,
      id: deps.uuid(),
      externalId: change.externalId ?? null,
      version: 1,
      createdAt: at,
      changedAt: at,
    };
    const members = await membersOf(deps, caller, change.added);
    const lists = { added: members, removed: [] };
    return submitGroup(deps, caller, { groupId, scim, expected: 0, renamedFrom: null, ...lists, basisLink });
  });
  return { ...answer, status: 201 };
}

export async function readGroup(
  deps: ScimDeps,
  { client }: ScimCaller,
  { id, withMembers }: Readonly<{ id: string; withMembers: boolean }>,
): Promise<ScimAnswer> {
  const groupId = await findGroup(deps, client.name, id);
  const body = showGroup(deps, groupId, { withMembers });
  if (body === undefined) throw notFound();
  return { status: 200, body, etag: etagOf(deps.replica.projection.group(groupId)?.scim?.version ?? 0) };
}

export function replaceGroup(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, body, ifMatch }: Readonly<{ id: string }> & Pick<ScimRequest, "body" | "ifMatch">,
): Promise<ScimAnswer> {
  const change = changeIn(body);
  nameOf(change.displayName);
  return changeGroup(deps, caller, { id, ifMatch, changeFrom: () => ({ externalId: null, ...change }) });
}

export function patchGroup(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, body, ifMatch }: Readonly<{ id: string }> & Pick<ScimRequest, "body" | "ifMatch">,
): Promise<ScimAnswer> {
  const operations = parsePatch(body);
  return changeGroup(deps, caller, { id, ifMatch, changeFrom: (shown) => patchChange(operations, shown) });
}

export async function deleteGroup(
  deps: ScimDeps,
  caller: ScimCaller,
  { id, ifMatch }: Readonly<{ id: string; ifMatch: string | undefined }>,
): Promise<ScimAnswer> {
  const answer = await withAttempts(deps, id, async () => {
    const groupId = await findGroup(deps, caller.client.name, id);
    const basisLink = deps.replica.appliedLink;
    const scim = deps.replica.projection.group(groupId)?.scim;
    if (scim === undefined) return "again";
    requireMatch(ifMatch, etagOf(scim.version));
    return submitGroup(deps, caller, {
      groupId,
      scim: null,
      expected: scim.version,
      renamedFrom: null,
      added: [],
      removed: [],
      basisLink,
    });
  });
  return { status: 204, ...(answer.link === undefined ? {} : { link: answer.link }) };
}

/** @throws ScimError 404, once this node knows all of the log */
export async function findGroup(deps: ScimDeps, client: string, id: string): Promise<GroupId> {
  const found = deps.directory.groupOf(client, id);
  if (found !== undefined) return found;
  await catchUp(deps);
  const later = deps.directory.groupOf(client, id);
  if (later === undefined) throw notFound();
  return later;
}

export function showGroup(
  { replica, directory, base }: ScimDeps,
  groupId: GroupId,
  { withMembers }: Readonly<{ withMembers: boolean }>,
): JsonObject | undefined {
  const group = replica.projection.group(groupId);
  const scim = group?.scim;
  if (group === undefined || scim === undefined) return undefined;
  const { id, externalId, version, createdAt, changedAt } = scim;
  const shownMember = (userId: UserId): JsonObject | undefined => {
    const entry = directory.entry(userId);
    return entry?.isLive === true && entry.client === scim.client
      ? { value: entry.id, type: "User", $ref: `${base}/Users/${entry.id}` }
      : undefined;
  };
  return {
    schemas: [groupSchema],
    id,
    ...(externalId === null ? {} : { externalId }),
    displayName: group.name,
    ...(withMembers
      ? { members: [...replica.projection.membersOf(groupId)].map(shownMember).filter((each) => each !== undefined) }
      : {}),
    meta: {
      resourceType: "Group",
      created: new Date(createdAt).toISOString(),
      lastModified: new Date(changedAt).toISOString(),
      location: `${base}/Groups/${id}`,
      version: etagOf(version),
    },
  };
}

function changeGroup(
  deps: ScimDeps,
  caller: ScimCaller,
  {
    id,
    ifMatch,
    changeFrom,
  }: Readonly<{ id: string; ifMatch: string | undefined; changeFrom: (members: MembersMeeting) => GroupChange }>,
): Promise<ScimAnswer> {
  return withAttempts(deps, id, async (isCaughtUp) => {
    const groupId = await findGroup(deps, caller.client.name, id);
    const basisLink = deps.replica.appliedLink;
    const scim = deps.replica.projection.group(groupId)?.scim;
    if (scim === undefined) return "again";
    requireMatch(ifMatch, etagOf(scim.version));
    const change = changeFrom((filter) => membersMeeting(deps, groupId, filter));
    const newId = change.displayName === undefined ? groupId : nameOf(change.displayName);
    if (newId !== groupId) requireFree(deps, newId);
    const externalId = change.externalId === undefined ? scim.externalId : change.externalId;
    const { added, removed } = await membersChanged(deps, caller, { groupId, change });
    if (added.length > 0 && deps.replica.projection.membersOf(groupId).size + added.length > membersMax)
      throw new ScimError(403, `a group has at most ${membersMax} members, the people who sign in included`);
    const replacesHeld = change.base === "empty" && heldAbout(deps, caller, groupId).length > 0;
    if (!replacesHeld && newId === groupId && externalId === scim.externalId && added.length + removed.length === 0)
      return isCaughtUp ? unchanged(deps, caller, { groupId, change }) : "again";
    return submitGroup(deps, caller, {
      groupId: newId,
      scim: { ...scim, externalId, version: scim.version + 1, changedAt: deps.clock.wall() },
      expected: scim.version,
      renamedFrom: newId === groupId ? null : groupId,
      added,
      removed,
      basisLink,
      ...(change.base === "empty" ? { isWhole: true } : {}),
    });
  });
}

/** Who would lose the group by a change, as the log has it now. @throws ScimError where the change would fail */
export async function losersOfGroupChange(
  deps: ScimDeps,
  caller: ScimCaller,
  { method, id, body, ifMatch }: Readonly<{ method: string; id: string; body: unknown; ifMatch: string | undefined }>,
): Promise<readonly UserId[]> {
  const { projection } = deps.replica;
  const groupId = deps.directory.groupOf(caller.client.name, id);
  const scim = groupId && projection.group(groupId)?.scim;
  if (groupId === undefined || scim === undefined) return [];
  requireMatch(ifMatch, etagOf(scim.version));
  const all = (): readonly UserId[] =>
    [...projection.membersOf(groupId)].filter(
      (userId) => projection.membership(userId, groupId)?.sources.includes("scim") === true,
    );
  if (method === "DELETE") return all();
  const change =
    method === "PUT"
      ? changeIn(body)
      : patchChange(parsePatch(body), (filter) => membersMeeting(deps, groupId, filter));
  // A new name takes the earlier one from everyone.
  if (change.displayName !== undefined && nameOf(change.displayName) !== groupId) return all();
  return (await membersChanged(deps, caller, { groupId, change })).removed;
}

/** What is held of this client's changes to a group (src/events/mass-change.ts). */
function heldAbout({ replica }: ScimDeps, { actor }: ScimCaller, groupId: GroupId): readonly HeldChange[] {
  const { massChanges } = replica.projection;
  if (massChanges.heldCount === 0) return [];
  const source = originOf(actor);
  return [groupStream(groupId), deletionSubject(groupStream(groupId))]
    .map((subject) => massChanges.heldAbout(source, subject))
    .filter((held) => held !== undefined)
    .filter(({ status }) => status === "held");
}

type MembersMeeting = (filter: Filter) => readonly string[];

function membersMeeting({ replica, directory }: ScimDeps, groupId: GroupId, filter: Filter): readonly string[] {
  return [...replica.projection.membersOf(groupId)]
    .map((userId) => directory.entry(userId))
    .filter((entry) => entry?.isLive === true && meetsFilter({ value: entry.id, type: "User" }, filter))
    .map((entry) => entry?.id ?? "");
}

/** The members who really change. */
async function membersChanged(
  deps: ScimDeps,
  caller: ScimCaller,
  { groupId, change }: Readonly<{ groupId: GroupId; change: GroupChange }>,
): Promise<Readonly<{ added: readonly UserId[]; removed: readonly UserId[] }>> {
  const { projection } = deps.replica;
  const isIn = (userId: UserId): boolean => projection.membership(userId, groupId)?.sources.includes("scim") === true;
  const wanted = new Set(await membersOf(deps, caller, change.added));
  const gone =
    change.base === "current"
      ? [...change.removed]
          .map((id) => deps.directory.find(caller.client.name, "id", id)?.userId)
          .filter((userId) => userId !== undefined)
      : [...projection.membersOf(groupId)].filter(
          (userId) => deps.directory.entry(userId)?.isLive === true && !wanted.has(userId),
        );
  // The removal of a member may be held: that the client names the member again ends that.
  const held = new Set(heldAbout(deps, caller, groupId).flatMap(({ removed }) => removed));
  return { added: [...wanted].filter((userId) => !isIn(userId) || held.has(userId)), removed: gone.filter(isIn) };
}

/** @throws ScimError for a member that is not a user of the client */
async function membersOf(deps: ScimDeps, { client }: ScimCaller, ids: ReadonlySet<string>): Promise<readonly UserId[]> {
  const findAll = () => [...ids].map((id) => [id, deps.directory.find(client.name, "id", id)?.userId] as const);
  let found = findAll();
  if (found.some(([, userId]) => userId === undefined)) {
    await catchUp(deps);
    found = findAll();
  }
  return found.map(([id, userId]) => {
    if (userId === undefined) throw badValue(`a member is not a user of this client: ${id.slice(0, 100)}`);
    return userId;
  });
}

async function unchanged(
  deps: ScimDeps,
  caller: ScimCaller,
  { groupId, change }: Readonly<{ groupId: GroupId; change: GroupChange }>,
): Promise<Attempt> {
  const users = [...change.added, ...change.removed]
    .map((id) => deps.directory.find(caller.client.name, "id", id)?.userId)
    .filter((userId) => userId !== undefined);
  const link = await correlatePeople(deps, caller, { users, link: deps.replica.applied });
  return groupAnswer(deps, groupId, link);
}

function groupAnswer(deps: ScimDeps, groupId: GroupId, link: NonNullable<ScimAnswer["link"]>): ScimAnswer {
  const version = deps.replica.projection.group(groupId)?.scim?.version ?? 0;
  const body = showGroup(deps, groupId, { withMembers: false });
  return { status: 200, ...(body === undefined ? {} : { body }), etag: etagOf(version), link };
}

async function submitGroup(
  deps: ScimDeps,
  caller: ScimCaller,
  command: Readonly<{
    groupId: GroupId;
    scim: ScimGroup | null;
    expected: number;
    renamedFrom: GroupId | null;
    added: readonly UserId[];
    removed: readonly UserId[];
    /** What this node had applied before it read the group. */
    basisLink: NeededLink;
    isWhole?: boolean;
  }>,
): Promise<Attempt> {
  const withPeople = (users: readonly UserId[]): readonly UserId[] => [
    ...new Set(users.flatMap((userId) => [userId, ...deps.directory.peopleOf(userId)])),
  ];
  const added = withPeople(command.added);
  const removed = withPeople(command.removed);
  if (added.length + removed.length > changedMembersMax)
    throw new ScimError(400, "the request changes too many members at once", "tooMany");
  const touched =
    command.scim === null
      ? [...deps.replica.projection.membersOf(command.groupId)]
      : [...command.added, ...command.removed];
  const link = await submitChange(deps, caller, {
    type: "writeProvisionedGroup",
    client: caller.client.name,
    ...command,
    added,
    removed,
    ...(caller.losing === undefined ? {} : { losing: caller.losing }),
  });
  if (link === "again") return "again";
  const newest = await correlatePeople(deps, caller, { users: touched, link });
  return groupAnswer(deps, command.groupId, newest);
}

/** The whole of a group in a request. @throws ScimError */
function changeIn(body: unknown): GroupChange {
  if (!isObject(body)) throw new ScimError(400, "the body is not a JSON object", "invalidSyntax");
  const displayName = textAttribute(body, "displayName");
  const externalId = textAttribute(body, "externalId");
  return {
    ...(displayName === undefined ? {} : { displayName }),
    ...(externalId === undefined ? {} : { externalId: checkExternalId(externalId) }),
    base: "empty",
    added: new Set(memberIds(attributeOf(body, "members") ?? [])),
    removed: new Set(),
  };
}

function patchChange(operations: readonly PatchOperation[], members: MembersMeeting): GroupChange {
  let displayName: string | undefined;
  let externalId: string | null | undefined;
  let base: GroupChange["base"] = "current";
  let memberFilters = 0;
  const added = new Set<string>();
  const removed = new Set<string>();
  const leave = (ids: readonly string[]): void => {
    for (const id of ids) {
      added.delete(id);
      removed.add(id);
    }
  };
  for (const { op, path, value } of operations.flatMap(withPaths)) {
    const name = path.schema === null ? path.name?.toLowerCase() : undefined;
    if (name === "displayname") {
      if (op === "remove" || typeof value !== "string") throw badValue("displayName is required");
      displayName = value;
    } else if (name === "externalid") {
      if (op !== "remove" && typeof value !== "string") throw badValue("externalId is not text");
      externalId = op === "remove" ? null : checkExternalId(String(value));
    } else if (name === "members" && path.sub === null) {
      if (path.filter !== null) {
        if (op !== "remove") throw new ScimError(400, "members have no attributes to change", "mutability");
        const named = namedIn(path.filter);
        if (named === undefined) memberFilters += 1;
        if (memberFilters > memberFiltersMax) throw new ScimError(400, "there are too many filters", "tooMany");
        leave(named ?? [...members(path.filter), ...added]);
      } else if (op === "remove" && value !== undefined && value !== null) leave(memberIds(value));
      else {
        if (op !== "add") {
          base = "empty";
          added.clear();
          removed.clear();
        }
        for (const id of op === "remove" ? [] : memberIds(value)) {
          removed.delete(id);
          added.add(id);
        }
      }
    }
    // Other attributes are not kept, and Okta sends the id of the group along.
  }
  return {
    ...(displayName === undefined ? {} : { displayName }),
    ...(externalId === undefined ? {} : { externalId }),
    base,
    added,
    removed,
  };
}

/** The ids in `value eq "a" or value eq "b"`; undefined: the filter says more. */
function namedIn(filter: Filter): readonly string[] | undefined {
  if (filter.type === "or") {
    const [left, right] = [namedIn(filter.left), namedIn(filter.right)];
    return left && right && [...left, ...right];
  }
  const isNamed = filter.type === "compare" && filter.op === "eq" && filter.path.name?.toLowerCase() === "value";
  return isNamed && typeof filter.value === "string" ? [filter.value] : undefined;
}

/** @throws ScimError */
function memberIds(value: unknown): readonly string[] {
  const list = Array.isArray(value) ? value : [value];
  if (list.length > changedMembersMax) throw new ScimError(400, "there are too many members", "tooMany");
  return list.map((each) => {
    if (isObject(each) && /^group$/i.test(textAttribute(each, "type") ?? ""))
      throw badValue("groups inside groups are not supported");
    const id = isObject(each) ? attributeOf(each, "value") : each;
    if (typeof id !== "string" || id === "") throw badValue("a member has no value");
    return id;
  });
}

/** @throws ScimError */
function nameOf(displayName: string | undefined): GroupId {
  if (displayName === undefined || displayName.trim() === "") throw badValue("displayName is missing");
  if (displayName.length > 256 || !isPlainText(displayName))
    throw badValue("displayName is longer than 256 characters, or has control characters");
  return parseGroupId(displayName);
}

function checkExternalId(externalId: string): string {
  if (externalId.length > 256 || !isPlainText(externalId)) throw badValue("externalId is too long, or not plain text");
  return externalId;
}

function requireFree({ replica }: ScimDeps, groupId: GroupId): void {
  if (replica.projection.group(groupId)?.scim !== undefined)
    throw uniqueness("a SCIM client has a group of this displayName");
}
