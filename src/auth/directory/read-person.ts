/**
 * Read person: asks one directory about one person now, and applies what it says.
 *
 * - What it takes from this one person is never held as a mass change.
 * - A directory names only the groups that list the person. With groups inside groups the others are left to a run.
 * - A group that the log does not have yet is left to a run as well: it would have one member of many.
 */
import {
  type DirectoryPersonAnswer,
  directoryClient,
  type GroupId,
  type Position,
  type Profile,
  type Projection,
  provisionedUserId,
  type UserId,
} from "../../events/index.ts";
import type { ProvisionedFor } from "../authenticate/scim/correlation.ts";
import { type Applied, type ApplyParts, applyPlan } from "./apply-plan.ts";
import { DirectoryError } from "./directory-error.ts";
import type { DirectoryIndex } from "./directory-index.ts";
import { checkPage, plainText } from "./page-check.ts";
import { type PlanInput, planRun, type RunPlan } from "./run-plan.ts";
import { type DirectoryMembers, type DirectoryPage, type DirectorySource, emptyPage } from "./source.ts";
import { StagedRun } from "./staged-run.ts";

export type PersonParts = Readonly<{
  directory: PlanInput["directory"] & Readonly<{ source: DirectorySource }>;
  userId: UserId;
  /** Of the person who signs in. */
  profile: Profile | undefined;
  provisionedFor: ProvisionedFor;
  index: DirectoryIndex;
  projection: Projection;
  /** What the last complete run has said; undefined: not known. */
  isNested: boolean | undefined;
  apply: ApplyParts;
  /** Runs before the changes: a run that is reading meanwhile must not undo them. */
  onPlanned: (users: readonly UserId[]) => void;
  signal: AbortSignal;
}>;

export type PersonAnswer = Omit<DirectoryPersonAnswer, "answeredAt">;

/** @throws RunEndedError when the epoch has ended */
export async function readPerson(parts: PersonParts): Promise<PersonAnswer> {
  const { directory, signal } = parts;
  const { source } = directory;
  if (source.readPerson === undefined)
    return cannot("it cannot be asked about one person; cardea directories sync reads it whole");
  const id = idOf(parts);
  if (id === undefined) return cannot("the log has no record of the person; cardea directories sync reads it whole");
  let page: DirectoryPage | null;
  try {
    const read = await source.readPerson(id, signal);
    page = read === null ? null : checkPerson(checkPage(read, "full"), id);
  } catch (error) {
    parts.apply.signal.throwIfAborted();
    if (signal.aborted) return failed("it did not answer in time");
    if (!(error instanceof DirectoryError)) throw error;
    return failed(plainText(error.message));
  }
  return applyPage(page, id, parts);
}

const cannot = (said: string): PersonAnswer => ({ result: "cannot", said, changed: false, position: null });
const failed = (said: string): PersonAnswer => ({ result: "failed", said, changed: false, position: null });

/** The directory's own id of the person: of the record, or what the person signs in with. */
function idOf(parts: PersonParts): string | undefined {
  const { directory, profile, provisionedFor, index } = parts;
  const client = directoryClient(directory.name);
  const record = index.recordAmong(client, recordsOf(parts));
  if (record !== undefined) return record.id;
  if (profile === undefined || directory.match !== "subject") return undefined;
  const { subject } = profile;
  return provisionedFor(profile).includes(provisionedUserId(client, subject)) ? subject : undefined;
}

/** The users that may have a record of the person. */
function recordsOf({ userId, profile, provisionedFor }: PersonParts): readonly UserId[] {
  return [userId, ...(profile === undefined ? [] : provisionedFor(profile))];
}

/** @throws DirectoryError */
function checkPerson(page: DirectoryPage, id: string): DirectoryPage {
  const [person, another] = page.people;
  if (person?.id === id && another === undefined && page.next === null && page.problems.length === 0) return page;
  throw new DirectoryError("it answered about another person, or only in part", { kind: "malformed" });
}

async function applyPage(page: DirectoryPage | null, id: string, parts: PersonParts): Promise<PersonAnswer> {
  const { directory, index, projection } = parts;
  const staged = new StagedRun("delta");
  const listed = page === null ? [] : page.groups.map((group) => group.id);
  const { own, kept, unknown } = groupsOf(listed, id, parts);
  const members = (groupId: string): DirectoryMembers => ({ groupId, people: [id], groups: [] });
  staged.add(
    page === null
      ? { ...emptyPage, removedPeople: [id] }
      : {
          ...emptyPage,
          people: page.people,
          members: own.added.map(members),
          removedMembers: own.removed.map(members),
        },
  );
  const plan = await finish(planRun({ directory, staged, index, projection }), parts.apply.pause);
  const users = [...plan.writes, ...plan.ends, ...plan.gone].flatMap(({ userId, movedFrom }) =>
    movedFrom === null ? [userId] : [userId, movedFrom.userId],
  );
  const inGroups = plan.groups.flatMap(({ added, removed }) => [...added, ...removed]);
  const record = index.recordAmong(directoryClient(directory.name), recordsOf(parts));
  parts.onPlanned([...new Set([...users, ...inGroups, ...(record === undefined ? [] : [record.userId])])]);
  let position: Position | null = null;
  const applied = await applyPlan(
    plan,
    { removals: true, isOnePerson: true },
    { ...parts.apply, onRecorded: (at) => (position = at) },
  );
  return {
    result: applied.refused + applied.held > 0 ? "failed" : "answered",
    said: sentenceOf({ page, listed: listed.length, kept, unknown }, applied),
    changed: position !== null,
    position: position ?? projection.applied.position,
  };
}

type OwnGroups = Readonly<{
  own: Readonly<{ added: readonly string[]; removed: readonly string[] }>;
  /** Groups that the person may have through groups inside groups. */
  kept: number;
  /** Groups that the log does not have. */
  unknown: number;
}>;

function groupsOf(
  listed: readonly string[],
  id: string,
  { directory, index, projection, isNested }: PersonParts,
): OwnGroups {
  const client = directoryClient(directory.name);
  const owned = new Map<string, GroupId>();
  for (const { groupId, scim } of projection.groups()) if (scim?.client === client) owned.set(scim.id, groupId);
  const userId = index.recordOf(client, id)?.userId;
  const wanted = new Set(listed);
  const isIn = (groupId: GroupId): boolean =>
    userId !== undefined && projection.membership(userId, groupId)?.sources.includes("directory") === true;
  const absent = [...owned].flatMap(([groupOwn, groupId]) =>
    !wanted.has(groupOwn) && isIn(groupId) ? [groupOwn] : [],
  );
  // Who is in no group at all is in none through another one.
  const isCertain = isNested === false || wanted.size === 0;
  return {
    own: { added: listed.filter((each) => owned.has(each)), removed: isCertain ? absent : [] },
    kept: isCertain ? 0 : absent.length,
    unknown: listed.filter((each) => !owned.has(each)).length,
  };
}

async function finish(steps: Generator<void, RunPlan>, pause: () => Promise<void>): Promise<RunPlan> {
  for (;;) {
    const { value, done } = steps.next();
    if (done === true) return value;
    await pause();
  }
}

function sentenceOf(
  said: Readonly<{ page: DirectoryPage | null; listed: number; kept: number; unknown: number }>,
  { held, refused }: Applied,
): string {
  const { page, listed, kept, unknown } = said;
  const left = kept + unknown;
  const state = page === null ? "not in the directory" : page.people[0]?.active === true ? "active" : "not active";
  return [
    page === null ? state : `${state}, in ${listed} ${listed === 1 ? "group" : "groups"}`,
    ...(left === 0 ? [] : [`${left} groups are left to the next run`]),
    ...(held === 0 ? [] : [`${held} changes wait for an operator: cardea held list`]),
    ...(refused === 0 ? [] : [`${refused} changes were refused, because something else has changed: ask again`]),
  ].join("; ");
}
