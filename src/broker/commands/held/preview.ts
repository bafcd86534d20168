/** Preview: from how many people a change would take a group, without making it. Pure. */
import {
  type CardeaEvent,
  type Command,
  type CommandRequest,
  endsSubject,
  type GroupId,
  type HeldChange,
  lossesOf,
  type Projection,
  type UnixMs,
  type UserId,
} from "../../../events/index.ts";
import { countChange, performStored, performUncounted } from "../catalog.ts";
import type { MassChangeLimits } from "../performed.ts";
import { defaultMassChangeLimits } from "./guard-mass-change.ts";

export type ChangePreview = Readonly<{
  /** The refusal of the change; null: it would be made or held. */
  refusal: string | null;
  people: readonly UserId[];
  /** The people with those of the window, and the limit above which the change is held. */
  counted: number;
  limit: number;
  /** The groups that they lose. */
  groups: readonly GroupId[];
  /** The groups that people gain. */
  given: ReadonlyMap<UserId, readonly GroupId[]>;
  taken: Readonly<{
    /** The groups that each of them loses. */
    groups: ReadonlyMap<UserId, readonly GroupId[]>;
    /** People who sign in and lose all access. */
    ended: readonly UserId[];
  }>;
}>;

/** Undefined: the change is never held. */
export function previewChange(
  projection: Projection,
  request: CommandRequest,
  { now, limits = defaultMassChangeLimits }: Readonly<{ now: UnixMs; limits?: MassChangeLimits }>,
): ChangePreview | undefined {
  const counted = countChange(projection, request, { now, limits });
  if (counted === undefined) return undefined;
  const { count, performed } = counted;
  const events = performed.type === "changes" ? performed.changes.events : [];
  return {
    refusal: performed.type === "refused" ? performed.message : null,
    people: [...count.people],
    counted: count.counted,
    limit: count.limit,
    groups: groupsOf(events),
    given: groupsGiven(projection, events, now),
    taken: { groups: groupsTaken(projection, events, now), ended: [] },
  };
}

/** Whether a command about people or their sessions would be refused, or change nothing, at this projection. */
export function previewEffect(
  projection: Projection,
  command: Command,
  now: UnixMs,
): Readonly<{ refusal: string | null; changes: boolean }> {
  const performed = performUncounted(projection, command, now);
  return {
    refusal: performed.type === "refused" ? performed.message : null,
    changes: performed.type === "changes" && performed.changes.events.length > 0,
  };
}

/** What a release would do at this projection. Undefined: this build cannot read the held change. */
export function previewHeld(
  projection: Projection,
  held: HeldChange,
  now: UnixMs,
): Pick<ChangePreview, "refusal" | "people" | "groups" | "taken"> | undefined {
  const stored = performStored(projection, held, now);
  if (stored === undefined) return undefined;
  const { performed, ending } = stored;
  const events = performed.type === "changes" ? performed.changes.events : [];
  return {
    refusal: performed.type === "refused" ? performed.message : null,
    people: [...new Set([...ending, ...events.flatMap((event) => lossesOf(projection, event, now))])],
    groups: groupsOf(events),
    taken: { groups: groupsTaken(projection, events, now), ended: held.subject === endsSubject ? held.added : [] },
  };
}

function groupsTaken(
  projection: Projection,
  events: readonly CardeaEvent[],
  now: UnixMs,
): ReadonlyMap<UserId, readonly GroupId[]> {
  const taken = new Map<UserId, GroupId[]>();
  for (const event of events) {
    const groupId = event.type === "GroupMembersChanged" || event.type === "GroupRemoved" ? event.groupId : undefined;
    for (const userId of groupId === undefined ? [] : lossesOf(projection, event, now)) {
      const known = taken.get(userId);
      if (groupId === undefined) continue;
      if (known === undefined) taken.set(userId, [groupId]);
      else known.push(groupId);
    }
  }
  return taken;
}

function groupsGiven(
  projection: Projection,
  events: readonly CardeaEvent[],
  now: UnixMs,
): ReadonlyMap<UserId, readonly GroupId[]> {
  const given = new Map<UserId, GroupId[]>();
  for (const event of events) {
    if (event.type !== "GroupMembersChanged") continue;
    const { groupId } = event;
    for (const userId of event.added) {
      if (projection.groupsOf(userId, now).has(groupId)) continue;
      const known = given.get(userId);
      if (known === undefined) given.set(userId, [groupId]);
      else known.push(groupId);
    }
  }
  return given;
}

function groupsOf(events: readonly CardeaEvent[]): readonly GroupId[] {
  const named = events.flatMap((event) =>
    event.type === "GroupRemoved" || (event.type === "GroupMembersChanged" && event.removed.length > 0)
      ? [event.groupId]
      : [],
  );
  return [...new Set(named)];
}
