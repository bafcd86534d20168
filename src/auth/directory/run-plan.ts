/**
 * Run plan: the changes that turn what the log has of a directory into what a run has read. Pure.
 *
 * - It is built in steps: each `yield` lets other work of the process go first.
 * - Applying a plan twice, or one that was applied in part, changes nothing more: the next plan has the rest.
 * - What a plan takes away (people, groups, members) is kept apart from what it gives, so that a partial run can give
 *   without taking. That a person is explicitly not active is neither: it is `ends`.
 */
import {
  deletionSubject,
  directoryActor,
  directoryClient,
  type GroupId,
  groupStream,
  type Projection,
  provisionedUserId,
  type ScimGroup,
  type ScimResource,
  type UserId,
} from "../../events/index.ts";
import { keyOfPerson } from "../authenticate/scim/correlation.ts";
import { type DirectoryIndex, digestOfResource, type IndexedRecord } from "./directory-index.ts";
import type { DirectoryPerson } from "./source.ts";
import type { StagedGroup, StagedRun } from "./staged-run.ts";

/** A new record of a person. `movedFrom`: the user that has had it. */
export type PersonChange = Readonly<{
  userId: UserId;
  id: string;
  /** Null: the directory no longer has the person. */
  resource: ScimResource | null;
  before: IndexedRecord | undefined;
  movedFrom: IndexedRecord | null;
}>;

export type GroupChange = Readonly<{
  groupId: GroupId;
  id: string;
  before: ScimGroup | undefined;
  renamedFrom: GroupId | null;
  /** The run has listed all members. */
  isWhole: boolean;
  /** People of the directory; those who correlate are added when the change is submitted. */
  added: readonly UserId[];
  removed: readonly UserId[];
}>;

export type RunPlan = Readonly<{
  writes: readonly PersonChange[];
  /** Explicitly not active. */
  ends: readonly PersonChange[];
  gone: readonly PersonChange[];
  groups: readonly GroupChange[];
  goneGroups: readonly Readonly<{ groupId: GroupId; scim: ScimGroup; members: number }>[];
  counts: Readonly<{
    people: number;
    groups: number;
    memberships: number;
    added: number;
    /** Memberships that would be withdrawn, also those of groups that are gone or renamed. */
    removed: number;
    /** People of the directory who are active in the log. */
    known: number;
    /** People who would lose access or a group. */
    losing: number;
  }>;
  /** No people, no groups or no members are left, and the log has some of this directory. */
  isSuddenlyEmpty: boolean;
  /** Groups left out: another directory or SCIM client has the name, or the directory has it twice. */
  skipped: readonly string[];
}>;

export type PlanInput = Readonly<{
  directory: Readonly<{
    name: string;
    match: "subject" | "claim" | "email";
    groups: "name" | "id";
  }>;
  staged: StagedRun;
  index: DirectoryIndex;
  projection: Projection;
}>;

const perStep = 500;
const groupIdCharsMax = 256;
const skippedMax = 20;

export function* planRun(input: PlanInput): Generator<void, RunPlan> {
  const client = directoryClient(input.directory.name);
  const people = yield* chosenPeople(input, client);
  const persons = yield* planPeople(input, client, people);
  const groups = yield* planGroups(input, client, people.userIds);
  const ended = [...persons.gone, ...persons.ends].map(({ userId }) => userId);
  const losing = new Set(ended);
  for (const { removed } of groups.groups) for (const userId of removed) losing.add(userId);
  for (const userId of groups.losing) losing.add(userId);
  // Who has lost access already loses nothing more that counts.
  for (const userId of losing) if (!mayLose(input, userId)) losing.delete(userId);
  const { known } = persons;
  const isFull = input.staged.mode === "full";
  const hasGroups = groups.owned > 0 && groups.count === 0;
  // As if the directory hid the attribute with the members. The last member of the last group may leave it.
  const stillListed = new Set(groups.groups.flatMap(({ removed }) => removed.filter((id) => people.byUser.has(id))));
  const hasMembers = groups.memberships === 0 && stillListed.size >= 2;
  return {
    ...persons,
    groups: groups.groups,
    goneGroups: groups.gone,
    counts: {
      people: people.byUser.size,
      groups: groups.count,
      memberships: groups.memberships,
      added: groups.groups.reduce((sum, { added }) => sum + added.length, 0),
      removed: groups.removed,
      known,
      losing: losing.size,
    },
    isSuddenlyEmpty: isFull && ((people.byUser.size === 0 && known > 0) || hasGroups || hasMembers),
    skipped: groups.skipped,
  };
}

type Chosen = Readonly<{
  byUser: ReadonlyMap<UserId, DirectoryPerson>;
  /** By the number of the staged person. */
  userIds: ReadonlyMap<number, UserId>;
}>;

/** One person for each key: of several, an active one, then the one that the log has, then the smallest id. */
function* chosenPeople({ staged, index, directory }: PlanInput, client: string): Generator<void, Chosen> {
  const byUser = new Map<UserId, DirectoryPerson>();
  const numbers = new Map<UserId, number>();
  let at = 0;
  for (const [number, person] of staged.people) {
    if (++at % perStep === 0) yield;
    const key = keyOfPerson(directory, person);
    if (key === undefined) continue;
    const userId = provisionedUserId(client, key);
    const other = byUser.get(userId);
    if (other !== undefined && !isPreferred(person, other, index.record(userId))) continue;
    byUser.set(userId, person);
    numbers.set(userId, number);
  }
  return { byUser, userIds: new Map([...numbers].map(([userId, number]) => [number, userId])) };
}

function isPreferred(person: DirectoryPerson, other: DirectoryPerson, record: IndexedRecord | undefined): boolean {
  if (person.active !== other.active) return person.active;
  if (record?.digest != null && (record.id === person.id || record.id === other.id)) return record.id === person.id;
  return person.id < other.id;
}

/** A person that the log does not know yet counts if a person who signs in correlates. */
export function mayLose(
  { projection, index }: Readonly<{ projection: Pick<Projection, "user">; index: DirectoryIndex }>,
  userId: UserId,
): boolean {
  const user = projection.user(userId);
  return user === undefined ? index.peopleOf(userId).length > 0 : user.status === "active";
}

function* planPeople(
  { staged, index, projection }: PlanInput,
  client: string,
  { byUser }: Chosen,
): Generator<void, Pick<RunPlan, "writes" | "ends" | "gone"> & Readonly<{ known: number }>> {
  const writes: PersonChange[] = [];
  const ends: PersonChange[] = [];
  const gone: PersonChange[] = [];
  const moved = new Set<UserId>();
  let at = 0;
  for (const [userId, person] of byUser) {
    if (++at % perStep === 0) yield;
    const user = projection.user(userId);
    if (user?.status === "erased") continue;
    const before = index.record(userId);
    const resource = resourceOf(person);
    const isSame = before?.digest === digestOfResource(resource) && before.id === person.id;
    const isBarred = user?.status === "suspended";
    if (isSame && isBarred === !person.active) continue;
    const earlier = before?.digest == null ? index.recordOf(client, person.id) : undefined;
    const canMove = earlier?.digest != null && earlier.userId !== userId && !byUser.has(earlier.userId);
    if (canMove) moved.add(earlier.userId);
    const change = { userId, id: person.id, resource, before, movedFrom: canMove ? earlier : null };
    if (person.active) writes.push(change);
    else ends.push(change);
  }
  const removed = new Set([...staged.removedPeople].map((number) => staged.idOf(number)));
  let known = 0;
  for (const record of index.recordsOf(client)) {
    if (++at % perStep === 0) yield;
    const { userId, digest, id } = record;
    const status = projection.user(userId)?.status;
    if (digest === null || status === "erased") continue;
    if (status === "active") known += 1;
    if (byUser.has(userId) || moved.has(userId)) continue;
    if (staged.mode === "full" || removed.has(id))
      gone.push({ userId, id, resource: null, before: record, movedFrom: null });
  }
  return { writes, ends, gone, known };
}

function resourceOf({ id, userName, name, email, active }: DirectoryPerson): ScimResource {
  return {
    externalId: id,
    userName,
    ...(name === "" ? {} : { displayName: name }),
    ...(email === null ? {} : { emails: [{ value: email, primary: true }] }),
    active,
  };
}

type PlannedGroups = Readonly<{
  groups: readonly GroupChange[];
  gone: RunPlan["goneGroups"];
  /** People who lose a group that is gone or renamed. */
  losing: ReadonlySet<UserId>;
  removed: number;
  count: number;
  owned: number;
  memberships: number;
  skipped: readonly string[];
}>;

function* planGroups(
  input: PlanInput,
  client: string,
  userIds: ReadonlyMap<number, UserId>,
): Generator<void, PlannedGroups> {
  const { staged, projection } = input;
  const owned = new Map<string, Readonly<{ groupId: GroupId; scim: ScimGroup }>>();
  for (const { groupId, scim } of projection.groups())
    if (scim?.client === client) owned.set(scim.id, { groupId, scim });
  const { names, skipped } = chosenNames(input, client, owned);
  const groups: GroupChange[] = [];
  const gone: RunPlan["goneGroups"][number][] = [];
  const losing = new Set<UserId>();
  let removed = 0;
  let memberships = 0;
  for (const [id, groupId] of names) {
    yield;
    const group = staged.groups.get(id);
    const before = owned.get(id);
    const change = group && changeOf(input, { client, group, groupId, before, userIds });
    if (change === undefined) continue;
    memberships += change.memberships;
    removed += change.removed.length;
    const { renamedFrom } = change;
    for (const userId of renamedFrom === null ? [] : ownMembers(input, client, renamedFrom)) {
      losing.add(userId);
      removed += 1;
    }
    const isNew = before === undefined || renamedFrom !== null;
    const isSame = !isNew && change.added.length + change.removed.length === 0;
    // A change that changes nothing withdraws one that waits for an operator.
    if (!isSame || (change.isWhole && isHeld(input, groupId))) groups.push(change);
  }
  for (const [id, { groupId, scim }] of owned) {
    yield;
    if (names.has(id) || (staged.mode === "delta" && !staged.removedGroups.has(id))) continue;
    const members = ownMembers(input, client, groupId);
    for (const userId of members) losing.add(userId);
    removed += members.length;
    gone.push({ groupId, scim, members: members.length });
  }
  return { groups, gone, losing, removed, count: names.size, owned: owned.size, memberships, skipped };
}

function isHeld({ projection, directory }: PlanInput, groupId: GroupId): boolean {
  const source = directoryActor(directory.name);
  const stream = groupStream(groupId);
  return [stream, deletionSubject(stream)].some(
    (subject) => projection.massChanges.heldAbout(source, subject)?.status === "held",
  );
}

/**
 * The group in policies of each group of the directory. No two have one: the group that the log has keeps its name, and
 * of two new ones the smaller id gets it.
 */
function chosenNames(
  { staged, projection, directory }: PlanInput,
  client: string,
  owned: ReadonlyMap<string, Readonly<{ groupId: GroupId }>>,
): Readonly<{ names: ReadonlyMap<string, GroupId>; skipped: readonly string[] }> {
  const names = new Map<string, GroupId>();
  const holders = new Map<GroupId, string>();
  const skipped: string[] = [];
  for (const id of [...staged.groups.keys()].sort()) {
    const known = owned.get(id)?.groupId;
    const name = directory.groups === "id" ? id : staged.groups.get(id)?.name;
    const groupId = name === null || name === undefined ? known : (name as GroupId);
    if (groupId === undefined) continue; // members of a group that the directory has not described
    const other = projection.group(groupId)?.scim;
    const isFree = other === undefined || (other.client === client && other.id === id);
    const fits = groupId.length <= groupIdCharsMax;
    if (!fits || !isFree || holders.has(groupId)) {
      if (skipped.length < skippedMax) skipped.push(groupId.slice(0, 80));
      // It keeps what it has: a name that is taken is no reason to remove anyone.
      if (known !== undefined && !holders.has(known)) {
        names.set(id, known);
        holders.set(known, id);
      }
      continue;
    }
    names.set(id, groupId);
    holders.set(groupId, id);
  }
  return { names, skipped };
}

function changeOf(
  { staged, index, projection }: PlanInput,
  of: Readonly<{
    client: string;
    group: StagedGroup;
    groupId: GroupId;
    before: Readonly<{ groupId: GroupId; scim: ScimGroup }> | undefined;
    userIds: ReadonlyMap<number, UserId>;
  }>,
): GroupChange & Readonly<{ memberships: number }> {
  const { client, group, groupId, before, userIds } = of;
  const userOf = (number: number): UserId | undefined => {
    const known = userIds.get(number);
    if (known !== undefined || staged.mode === "full") return known;
    const record = index.recordOf(client, staged.idOf(number));
    return record?.digest == null ? undefined : record.userId;
  };
  const presentGroup = before?.groupId ?? groupId;
  const isIn = (userId: UserId): boolean =>
    projection.membership(userId, presentGroup)?.sources.includes("directory") === true;
  const wanted = new Set<UserId>();
  for (const number of staged.membersOf(group.id)) {
    const userId = userOf(number);
    if (userId !== undefined && projection.user(userId)?.status !== "erased") wanted.add(userId);
  }
  const removed: UserId[] = [];
  if (group.isWhole) {
    for (const userId of before === undefined ? [] : projection.membersOf(presentGroup))
      if (!wanted.has(userId) && index.record(userId)?.client === client && isIn(userId)) removed.push(userId);
  } else {
    for (const number of group.members) {
      const userId = number < 0 ? userOf(-number) : undefined;
      if (userId !== undefined && !wanted.has(userId) && isIn(userId)) removed.push(userId);
    }
  }
  return {
    groupId,
    id: group.id,
    before: before?.scim,
    renamedFrom: presentGroup === groupId ? null : presentGroup,
    isWhole: group.isWhole,
    added: [...wanted].filter((userId) => !isIn(userId)),
    removed: [...new Set(removed)],
    memberships: wanted.size,
  };
}

function ownMembers({ index, projection }: PlanInput, client: string, groupId: GroupId): readonly UserId[] {
  return [...projection.membersOf(groupId)].filter(
    (userId) =>
      index.record(userId)?.client === client &&
      projection.membership(userId, groupId)?.sources.includes("directory") === true,
  );
}
