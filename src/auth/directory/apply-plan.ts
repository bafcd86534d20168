/**
 * Apply plan: submits the changes of a run plan, in an order in which each step is safe alone.
 *
 * - What would end people's access is announced first, and judged whole (docs/adr/0050-mass-changes-are-held.md).
 * - First what ends access, then people, then groups and members, then groups that are gone. Who is gone loses their
 *   groups with their access, as one person, so no change of a group counts them once more.
 * - A change that the log refuses, because something else has changed it meanwhile, is left to the next run.
 * - Several changes are in flight at once. Those of one group follow each other.
 */
import {
  type Command,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  directoryActor,
  directoryClient,
  endsSubject,
  type Position,
  type Projection,
  type ProvisionedRecord,
  provisionedProfile,
  type ScimGroup,
  type UserId,
} from "../../events/index.ts";
import { shownOf } from "../authenticate/scim/scim-user.ts";
import type { DirectoryIndex, IndexedRecord } from "./directory-index.ts";
import { type GroupChange, mayLose, type PersonChange, type RunPlan } from "./run-plan.ts";

/** `removals`: what a plan takes away for being absent. That a person is explicitly not active is none. */
export type Permitted = Readonly<{
  removals: boolean;
  /** The plan is about one person, who is never held. Absent: it is a run. */
  isOnePerson?: true;
}>;
/** `held`: mass changes that wait for an operator, or that an operator has dropped (docs/mass-changes.md). */
export type Applied = Readonly<{ added: number; removed: number; ended: number; refused: number; held: number }>;

export type ApplyParts = Readonly<{
  directory: string;
  index: DirectoryIndex;
  /** Of this process, which leads. */
  projection: Projection;
  submit: (request: CommandRequest) => Promise<CommandResult>;
  leads: () => boolean;
  uuid: () => string;
  /** The wall clock (ms). */
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  pause: () => Promise<void>;
  signal: AbortSignal;
  /** People with a newer answer of the directory than the plan's pages. Absent: none. */
  except?: ReadonlySet<UserId>;
  /** Gets the position of each change that was recorded. */
  onRecorded?: (position: Position) => void;
  log: Readonly<{ warn(fields: object, message: string): void }>;
}>;

/**
 * Of the changes in flight. Many share one commit, but all of a batch are folded in one step, and decisions of the same
 * process wait for it.
 */
const costMax = 1_536;
const personCost = 16;
/** A group weighs as much as its changed memberships; two with a person in common cannot share a commit. */
const groupCost = 64;
/** Of one command, the people who correlate included. */
const membersPerCommand = 2_000;
const peopleMax = 10_000;
/** People whose end is held at once; a release records one event for each. The others wait for another run. */
const announcedMax = 5_000;
const attemptsMax = 8;

/** The epoch of the run has ended; the next leader begins the run again. */
export class RunEndedError extends Error {}

/** @throws RunEndedError */
export async function applyPlan(plan: RunPlan, permitted: Permitted, parts: ApplyParts): Promise<Applied> {
  const { signal } = parts;
  const people = { signal, costOf: () => personCost };
  const totals = { added: 0, removed: 0, ended: 0, refused: 0, held: 0 };
  const submit = async (command: Command): Promise<boolean> => {
    const outcome = await submitCommand(command, parts);
    if (outcome !== "done") totals[outcome] += 1;
    await parts.pause();
    return outcome === "done";
  };
  /** People without a record yet: a group that named one would be refused whole. */
  const missing = new Set<UserId>();
  const writePerson = async (change: PersonChange): Promise<boolean> => {
    if (parts.except?.has(change.userId) === true) return false;
    const isDone = await submit(personCommand(change, parts));
    if (!isDone && change.before === undefined) missing.add(change.userId);
    return isDone;
  };
  const endPerson = async (change: PersonChange): Promise<void> => {
    if (await writePerson(change)) totals.ended += 1;
  };
  const ending = [...plan.ends, ...(permitted.removals ? plan.gone : [])];
  const announcing = { ...parts, submit, isComplete: permitted.removals };
  const waiting = permitted.isOnePerson === true ? new Set<UserId>() : await announceAll(ending, announcing);
  const mayEnd = ({ userId }: PersonChange): boolean => !waiting.has(userId);
  for (const { userId, before } of plan.ends) if (before === undefined && waiting.has(userId)) missing.add(userId);
  await forEach(plan.ends.filter(mayEnd), people, endPerson);
  if (permitted.removals) await forEach(plan.gone.filter(mayEnd), people, endPerson);
  await forEach(plan.writes, people, async (change) => void (await writePerson(change)));
  const groups = plan.groups
    .map((change) => (permitted.removals ? withoutPeople(change, waiting) : withoutRemovals(change)))
    .map((change) =>
      missing.size === 0 ? change : { ...change, added: change.added.filter((userId) => !missing.has(userId)) },
    );
  const costOf = ({ added, removed }: GroupChange): number => groupCost + added.length + removed.length;
  await forEach(groups, { signal, costOf }, async (change) => {
    for (const { command, added, removed } of groupCommands(withoutNewer(change, parts), plan.counts.losing, parts)) {
      if (!(await submit(command))) continue;
      totals.added += added;
      totals.removed += removed;
    }
  });
  if (!permitted.removals) return totals;
  const costOfGone = ({ members }: Readonly<{ members: number }>): number => groupCost + members;
  await forEach(plan.goneGroups, { signal, costOf: costOfGone }, async ({ groupId, scim, members }) => {
    const { client, version: expected } = scim;
    const { losing } = plan.counts;
    const gone = { groupId, client, expected, scim: null, added: [], removed: [], renamedFrom: null, losing };
    if (await submit({ type: "writeProvisionedGroup", ...gone })) totals.removed += members;
  });
  return totals;
}

/**
 * Announces whose access the run would end. Those who wait for an operator since an earlier run are announced apart, so
 * that no other person waits with them. A run that has not read everything says nothing new of them.
 * @returns the people who must not be ended now
 */
async function announceAll(
  changes: readonly PersonChange[],
  parts: Pick<ApplyParts, "index" | "projection" | "directory" | "now"> &
    Readonly<{ isComplete: boolean; submit: (command: Command) => Promise<boolean> }>,
): Promise<ReadonlySet<UserId>> {
  const { index, projection, directory, now, isComplete, submit } = parts;
  const users = changes.map(({ userId }) => userId).filter((userId) => mayLose({ index, projection }, userId));
  const held = projection.massChanges.heldAbout(directoryActor(directory), endsSubject);
  const earlier = new Set(held !== undefined && held.expiresAt > now() ? held.removed : []);
  const again = users.filter((userId) => earlier.has(userId));
  const fresh = users.filter((userId) => !earlier.has(userId));
  const announce = async (
    some: readonly UserId[],
    fields: Readonly<{ isWhole?: true }>,
  ): Promise<readonly UserId[]> => {
    const named = some.slice(0, announcedMax);
    const correlated = new Set(named.flatMap((userId) => index.peopleOf(userId)));
    const isDone = await submit({
      type: "announceEnds",
      client: directoryClient(directory),
      users: named,
      people: [...correlated].slice(0, peopleMax),
      losing: some.length,
      ...fields,
    });
    return isDone ? [] : some;
  };
  const waiting = isComplete && earlier.size > 0 ? await announce(again, { isWhole: true }) : again;
  return new Set([...waiting, ...(fresh.length === 0 ? [] : await announce(fresh, {}))]);
}

/** Whose end waits loses no group either, before an operator has decided. */
function withoutPeople({ removed, ...change }: GroupChange, waiting: ReadonlySet<UserId>): GroupChange {
  return { ...change, removed: waiting.size === 0 ? removed : removed.filter((userId) => !waiting.has(userId)) };
}

function withoutNewer(change: GroupChange, { except }: Pick<ApplyParts, "except">): GroupChange {
  if (except === undefined || except.size === 0) return change;
  const { added, removed } = change;
  return {
    ...change,
    added: added.filter((userId) => !except.has(userId)),
    removed: removed.filter((userId) => !except.has(userId)),
    // The list is no longer complete.
    isWhole: false,
  };
}

/** A rename takes the earlier name from every member, so it counts as a removal. What waits of the group still does. */
function withoutRemovals({ renamedFrom, groupId, ...change }: GroupChange): GroupChange {
  return { ...change, groupId: renamedFrom ?? groupId, renamedFrom: null, removed: [], isWhole: false };
}

/**
 * Performs several at once, up to a cost in flight. After the first failure no further one begins, and nothing is in
 * flight any more when this settles. @throws that failure; RunEndedError when the epoch has ended
 */
async function forEach<T>(
  items: readonly T[],
  { signal, costOf }: Pick<ApplyParts, "signal"> & Readonly<{ costOf: (item: T) => number }>,
  perform: (item: T) => Promise<void>,
): Promise<void> {
  let weight = 0;
  let failure: Readonly<{ error: unknown }> | undefined;
  let next = Promise.withResolvers<void>();
  const run = async (item: T, own: number): Promise<void> => {
    try {
      await perform(item);
    } catch (error) {
      failure ??= { error };
    }
    weight -= own;
    next.resolve();
  };
  const waitFor = async (isDone: () => boolean): Promise<void> => {
    while (!isDone()) {
      next = Promise.withResolvers();
      await next.promise;
    }
  };
  for (const item of items) {
    const own = costOf(item);
    await waitFor(() => weight === 0 || weight + own <= costMax || failure !== undefined);
    if (failure !== undefined || signal.aborted) break;
    weight += own;
    void run(item, own);
  }
  await waitFor(() => weight === 0);
  if (failure !== undefined) throw failure.error;
  if (signal.aborted) throw new RunEndedError("the run has ended");
}

/** @throws RunEndedError */
async function submitCommand(command: Command, parts: ApplyParts): Promise<"done" | "held" | "refused"> {
  const commandId = parts.uuid() as CommandId;
  const request = { commandId, actor: directoryActor(parts.directory), command };
  for (let attempt = 1; ; attempt++) {
    const result = await parts.submit(request);
    if (result.type === "done") {
      if (result.changed) parts.onRecorded?.(result.link.position);
      return "done";
    }
    if (result.type === "refused" && (result.code === "held" || result.code === "dropped")) return "held";
    if (result.type === "refused") {
      const { directory } = parts;
      const facts = { directory, command: command.type, code: result.code, message: result.message };
      parts.log.warn(facts, "a change of a directory was refused; the next run looks at it again");
      return "refused";
    }
    if (!parts.leads() || attempt >= attemptsMax || parts.signal.aborted)
      throw new RunEndedError("the log did not accept the change");
    await parts.sleep(Math.min(5_000, Math.max(100, result.retryAfterMs)));
  }
}

function personCommand(
  { userId, id, resource, before, movedFrom }: PersonChange,
  { index, directory, now }: ApplyParts,
): Command {
  const client = directoryClient(directory);
  const changedAt = new Date(now()).toISOString();
  const version = Math.max(before?.version ?? 0, movedFrom?.version ?? 0) + 1;
  const createdAt = movedFrom?.createdAt ?? before?.createdAt ?? changedAt;
  const record: ProvisionedRecord = { version, id, createdAt, changedAt, resource, movedTo: null };
  const shown = resource === null ? { email: "", name: "" } : shownOf(resource);
  const own = [userId, ...(movedFrom === null ? [] : [movedFrom.userId])];
  const aliases = own.flatMap((each) => index.aliasesOf(each)).filter((each) => each !== userId);
  return {
    type: resource?.["active"] === true ? "writeProvisionedUser" : "endProvisionedUser",
    userId,
    client,
    expected: before?.version ?? 0,
    profile: provisionedProfile(client, record, shown),
    people: [...new Set(own.flatMap((each) => index.peopleOf(each)))].slice(0, peopleMax),
    aliases: [...new Set(aliases)],
    movedFrom: movedFrom && {
      userId: movedFrom.userId,
      expected: movedFrom.version,
      profile: provisionedProfile(client, movedRecord(movedFrom, { movedTo: userId, changedAt }), {
        email: "",
        name: "",
      }),
    },
  };
}

function movedRecord(
  { version, id, createdAt }: IndexedRecord,
  { movedTo, changedAt }: Readonly<{ movedTo: UserId; changedAt: string }>,
): ProvisionedRecord {
  return { version: version + 1, id, createdAt, changedAt, resource: null, movedTo };
}

type GroupStep = Readonly<{ command: Command; added: number; removed: number }>;

/** What gives comes before what takes: only the latter may be held. */
function* groupCommands(
  change: GroupChange,
  losing: number,
  { index, directory, now }: ApplyParts,
): Generator<GroupStep> {
  const client = directoryClient(directory);
  const { groupId, id, before, renamedFrom } = change;
  const isNew = before === undefined || renamedFrom !== null;
  const scim: ScimGroup = {
    client,
    id,
    externalId: null,
    version: (before?.version ?? 0) + (isNew ? 1 : 0),
    createdAt: before?.createdAt ?? (now() as ScimGroup["createdAt"]),
    changedAt: isNew || before === undefined ? (now() as ScimGroup["changedAt"]) : before.changedAt,
  };
  const all = [
    ...change.added.map((userId) => ({ userId, isAdded: true })),
    ...change.removed.map((userId) => ({ userId, isAdded: false })),
  ];
  let at = 0;
  for (let isFirst = true; isFirst || at < all.length; isFirst = false) {
    const step = { added: 0, removed: 0 };
    const lists = { added: new Set<UserId>(), removed: new Set<UserId>() };
    for (; at < all.length && lists.added.size + lists.removed.size < membersPerCommand; at++) {
      const { userId, isAdded } = all[at] ?? { userId: "" as UserId, isAdded: false };
      step[isAdded ? "added" : "removed"] += 1;
      for (const each of [userId, ...index.peopleOf(userId)]) lists[isAdded ? "added" : "removed"].add(each);
    }
    const command: Command = {
      type: "writeProvisionedGroup",
      groupId,
      client,
      scim,
      expected: isFirst ? (before?.version ?? 0) : scim.version,
      renamedFrom: isFirst ? renamedFrom : null,
      added: [...lists.added],
      removed: [...lists.removed],
      // The first one replaces what is held of the group; the others join it.
      ...(isFirst && change.isWhole ? { isWhole: true } : {}),
      losing,
    };
    yield { command, ...step };
  }
}
