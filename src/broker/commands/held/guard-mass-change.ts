/**
 * Guard of mass changes: decides at the head whether a change takes groups from too many people at once, and holds it
 * then. Pure.
 *
 * - All people that lost a group by one source within the window count together, however its changes were split. Each
 *   change of a person is judged alone.
 * - A held change is recorded in full and has no effect. A repetition changes nothing. A later change of the source
 *   about the same subject joins it, or replaces it if it states everything.
 *
 * Why so: docs/adr/0050-mass-changes-are-held.md.
 */
import {
  type CardeaEvent,
  type CommandId,
  endsSubject,
  type HeldChange,
  heldBySourceMax,
  heldBySourcesMax,
  heldMax,
  heldPeopleBySourceMax,
  heldPeopleBySourcesMax,
  heldPeopleMax,
  lossesOf,
  massChangeFrom,
  originOf,
  type Projection,
  sourceOf,
  type UnixMs,
  type UserId,
} from "../../../events/index.ts";
import { type MassChangeLimits, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";

export const defaultMassChangeLimits: MassChangeLimits = {
  peopleMax: 500,
  shareMax: 0.2,
  peopleMin: 20,
  windowMs: 3_600_000,
  heldMs: 7 * 24 * 3_600_000,
};

/** A change that may be held, as its definition describes it. */
export type GuardedChange = Readonly<{
  commandId: CommandId;
  actor: string;
  subject: string;
  /** Held changes about these subjects end if this change is made. */
  replaces: readonly string[];
  /** It states everything about its subject. */
  isWhole: boolean;
  /** How many people the whole batch of its sender would take a group or access from, as far as the sender says. */
  announced: number;
  /** People whose access the sender is about to end. */
  ending: readonly UserId[];
  added: readonly UserId[];
  removed: readonly UserId[];
  /** The command without its lists, encoded. */
  template: () => Uint8Array;
}>;

export type MassChangeCount = Readonly<{
  /** Who would lose a group or their access by this change. */
  people: ReadonlySet<UserId>;
  /** The same with the people of the window, or what the sender has announced. */
  counted: number;
  limit: number;
}>;

const subjectCharsMax = 600;

export function guardMassChange(
  projection: Projection,
  change: GuardedChange,
  performed: Performed,
  tools: Pick<Tools, "now" | "massChange">,
): Performed {
  if (performed.type === "refused" || projection.level < massChangeFrom) return performed;
  const events = performed.type === "changes" ? performed.changes.events : [];
  const limits = tools.massChange ?? defaultMassChangeLimits;
  const count = countMassChange(projection, { ...change, events }, { now: tools.now, limits });
  const source = originOf(change.actor);
  if (projection.massChanges.allowedUntil(source) > tools.now || count.people.size === 0)
    return withEarlierEnded(projection, change, performed);
  const earlier = projection.massChanges.heldAbout(source, change.subject);
  const repeated = earlier !== undefined && earlier.expiresAt > tools.now ? repetitionOf(earlier, change, count) : null;
  if (repeated !== null) return repeated;
  if (count.counted <= count.limit) return withEarlierEnded(projection, change, performed);
  return holdChange(projection, { ...change, source, count }, { now: tools.now, heldMs: limits.heldMs });
}

/** @param change.events what the change would record */
export function countMassChange(
  projection: Projection,
  change: Pick<GuardedChange, "actor" | "announced" | "ending"> & Readonly<{ events: readonly CardeaEvent[] }>,
  { now, limits }: Readonly<{ now: UnixMs; limits: MassChangeLimits }>,
): MassChangeCount {
  const people = new Set(change.ending);
  for (const event of change.events) for (const userId of lossesOf(projection, event, now)) people.add(userId);
  const { peopleMax, peopleMin, shareMax, windowMs } = limits;
  // People whose access would end need not be in groups.
  const all = change.ending.length === 0 ? projection.peopleInGroups : projection.counts.users;
  const limit = Math.min(peopleMax, Math.max(peopleMin, Math.floor(shareMax * all)));
  const source = sourceOf(change.actor);
  const recent = new Set(people);
  if (source !== null && people.size > 0)
    for (const userId of projection.massChanges.lossesOf(source, now - windowMs)) recent.add(userId);
  return { people, counted: Math.max(recent.size, change.announced), limit };
}

/** The refusal of a change, or of a part of one, that is held or was dropped; null: it is another change. */
function repetitionOf(earlier: HeldChange, change: GuardedChange, { people }: MassChangeCount): Performed | null {
  if (earlier.status === "held") return isSaid(earlier, change) ? refuseHeld(earlier) : null;
  const { heldId, removed } = earlier;
  const known = new Set(removed);
  const isSame =
    change.removed.length === 0 || removed.length === 0
      ? change.removed.length === removed.length
      : [...people].every((userId) => known.has(userId));
  return isSame ? { ...refuseCommand("dropped", droppedMessage(earlier)), heldId } : null;
}

/** The change is made: what it says replaces what is held about the same people, or about the whole subject. */
function withEarlierEnded(projection: Projection, change: GuardedChange, performed: Performed): Performed {
  const source = originOf(change.actor);
  const ended: CardeaEvent[] = [];
  for (const subject of new Set([change.subject, ...change.replaces])) {
    const earlier = projection.massChanges.heldAbout(source, subject);
    if (earlier === undefined || earlier.status === "dropped") continue;
    const { heldId } = earlier;
    const said = new Set([...change.added, ...change.removed]);
    const held = [...earlier.added, ...earlier.removed];
    const withdrawn = held.filter((userId) => said.has(userId));
    const isOver = change.isWhole || subject !== change.subject || withdrawn.length === held.length;
    if (isOver) ended.push({ type: "HeldChangeEnded", heldId, outcome: "replaced", reason: "" });
    else if (withdrawn.length > 0) ended.push({ type: "HeldChangeNarrowed", heldId, withdrawn });
  }
  return withEvents(ended, performed);
}

/** The command's own events come last: the last one says what became of it. */
function withEvents(ended: readonly CardeaEvent[], performed: Performed): Performed {
  if (ended.length === 0 || performed.type === "refused") return performed;
  if (performed.type !== "changes") return recordChanges(ended);
  return { type: "changes", changes: { ...performed.changes, events: [...ended, ...performed.changes.events] } };
}

/** The source has said something else about these people, one by one. */
export function withAnsweredEnded(
  projection: Projection,
  { held, users }: Readonly<{ held: HeldChange; users: readonly UserId[] }>,
  performed: Performed,
): Performed {
  if (projection.level < massChangeFrom) return performed;
  const { heldId, removed } = held;
  const isOver = new Set(users).size === removed.length;
  return withEvents(
    [
      isOver
        ? { type: "HeldChangeEnded", heldId, outcome: "replaced", reason: "" }
        : { type: "HeldChangeNarrowed", heldId, withdrawn: users },
    ],
    performed,
  );
}

function holdChange(
  projection: Projection,
  change: GuardedChange & Readonly<{ source: string; count: MassChangeCount }>,
  { now, heldMs }: Readonly<{ now: number; heldMs: number }>,
): Performed {
  const { source, subject, count, added, removed, isWhole } = change;
  const { massChanges } = projection;
  const known = massChanges.heldAbout(source, subject);
  const live = known?.status === "held" && known.expiresAt > now ? known : undefined;
  const full = whyFull(massChanges.held(), { source, known, live, isWhole, people: added.length + removed.length });
  if (full !== null) return refuseCommand("held", fullMessage(count, subject, full));
  if (subject.length > subjectCharsMax)
    return refuseCommand("held", fullMessage(count, subject, "its subject is too long"));
  const held: CardeaEvent = {
    type: "MassChangeHeld",
    heldId: live?.heldId ?? change.commandId,
    source,
    subject,
    template: change.template(),
    base: isWhole ? "empty" : "current",
    added,
    removed,
    people: isWhole ? count.people.size : peopleWith(live, count),
    counted: count.counted,
    limit: count.limit,
    expiresAt: (now + heldMs) as HeldChange["expiresAt"],
  };
  const replaced: CardeaEvent[] =
    known === undefined || live !== undefined
      ? []
      : [{ type: "HeldChangeEnded", heldId: known.heldId, outcome: "replaced", reason: "" }];
  return recordChanges([...replaced, held], { held: held.heldId });
}

/**
 * Why one more change cannot be held; null: it can. A source has a part of the room, all sources together have most of
 * it, and the rest is for the changes of people.
 */
function whyFull(
  held: Iterable<HeldChange>,
  change: Readonly<{
    source: string;
    known: HeldChange | undefined;
    live: HeldChange | undefined;
    isWhole: boolean;
    people: number;
  }>,
): string | null {
  const { source, known, live, isWhole } = change;
  const isNew = live === undefined;
  const all = { changes: 1, people: change.people };
  const bySources = { ...all };
  const bySource = { ...all };
  for (const each of held) {
    // A change that is joined counts as one, and one that is replaced no longer counts.
    const isOver = each.heldId === known?.heldId && (live === undefined || isWhole);
    const people = isOver ? 0 : each.added.length + each.removed.length;
    const changes = each.heldId === known?.heldId ? 0 : 1;
    const sums = [
      all,
      ...(sourceOf(each.source) === null ? [] : [bySources]),
      ...(each.source === source ? [bySource] : []),
    ];
    for (const sum of sums) {
      sum.changes += changes;
      sum.people += people;
    }
  }
  if ((isNew && all.changes > heldMax) || all.people > heldPeopleMax) return "no more changes can be held";
  if (sourceOf(source) === null) return null;
  if ((isNew && bySource.changes > heldBySourceMax) || bySource.people > heldPeopleBySourceMax)
    return `no more changes of ${source} can be held (${heldBySourceMax}, with ${heldPeopleBySourceMax} people)`;
  const isFull = (isNew && bySources.changes > heldBySourcesMax) || bySources.people > heldPeopleBySourcesMax;
  return isFull ? "no more changes of SCIM clients and directories can be held" : null;
}

/** The held change has all of it already. */
function isSaid(live: HeldChange, { added, removed, isWhole }: GuardedChange): boolean {
  const [toAdd, toRemove] = [new Set(live.added), new Set(live.removed)];
  if (isWhole && (added.length !== toAdd.size || removed.length !== toRemove.size)) return false;
  return added.every((userId) => toAdd.has(userId)) && removed.every((userId) => toRemove.has(userId));
}

function peopleWith(live: HeldChange | undefined, { people }: MassChangeCount): number {
  if (live === undefined) return people.size;
  const known = new Set(live.removed);
  return live.people + [...people].filter((userId) => !known.has(userId)).length;
}

export function refuseHeld({
  heldId,
  people,
  subject,
  counted,
  limit,
}: HeldFacts): Extract<Performed, { type: "refused" }> {
  return { ...refuseCommand("held", describeHeld({ heldId, people, subject, counted, limit })), heldId };
}

type HeldFacts = Pick<HeldChange, "heldId" | "people" | "subject" | "counted" | "limit">;

/** What a caller reads: the change is in the log, and has no effect yet. */
function describeHeld({ heldId, people, subject, counted, limit }: HeldFacts): string {
  return (
    `held as ${heldId} and not made: it would ${effectOn(subject)} ${people} people` +
    `${counted > people ? `, ${counted} with the others of its source` : ""}, and more than ${limit} at once need an ` +
    "operator: `cardea held show`"
  );
}

const effectOn = (subject: string): string => (subject === endsSubject ? "end the access of" : "take a group from");

function fullMessage({ people, limit }: MassChangeCount, subject: string, why: string): string {
  return (
    `not made, and not held: it would ${effectOn(subject)} ${people.size} people, more than ${limit} at once need an ` +
    `operator, and ${why}; release or drop some: \`cardea held list\``
  );
}

function droppedMessage({ heldId }: HeldChange): string {
  return `not made: an operator has dropped this change (${heldId}); correct it at its source`;
}
