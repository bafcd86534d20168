/**
 * Mass change: what the log holds of changes that would take groups from many people at once, and its bounds. Pure.
 *
 * - A *source* is what makes a change by itself: a SCIM client or a directory. A person is none: each of an operator's
 *   changes is judged alone.
 * - A held change has no effect until an operator releases it.
 *
 * Why so: docs/adr/0050-mass-changes-are-held.md.
 */
import type { CommandId, Fact, Position, UnixMs, UserId } from "./ids.ts";

/** The cluster level from which changes are counted and held. */
export const massChangeFrom = 5;

/** People who lost a group are remembered for this long; a configured window is shorter. */
export const lossMsMax = 24 * 3_600_000;
/** The people of one source that are remembered, the newest ones. A configured limit is lower. */
export const lossesMax = 10_000;
/** Sources that are remembered. Beyond it, the one that was silent for longest is forgotten. */
export const sourcesMax = 32;
/** Held and dropped changes of the whole cluster. */
export const heldMax = 256;
/** Ids in all of them together: about 8 MB. */
export const heldPeopleMax = 200_000;
/** Of one source, so that none takes the room of another. */
export const heldBySourceMax = 64;
export const heldPeopleBySourceMax = 100_000;
/** Of all sources together. What is left is for the changes of people. */
export const heldBySourcesMax = 192;
export const heldPeopleBySourcesMax = 150_000;
/** The longest time for which one source may make mass changes after an operator has allowed them. */
export const allowedMsMax = 24 * 3_600_000;

export type HeldChange = Readonly<{
  /** The id of the first command that was held. */
  heldId: CommandId;
  /** Grows with each change of what is held, and with its drop: an operator releases what they have seen. */
  version: number;
  /** The source, or the person who made the change. */
  source: string;
  actor: string;
  /** What the change is about. A source has one held change about it. */
  subject: string;
  /** The newest command, encoded, with empty lists of people. */
  template: Uint8Array;
  added: readonly UserId[];
  removed: readonly UserId[];
  /** How many people it would take a group from, when it was held. */
  people: number;
  /** The same with the people who had lost one by this source within the window. */
  counted: number;
  /** The limit that `counted` exceeds. */
  limit: number;
  heldAt: UnixMs;
  /** The position of the event that set the current version. */
  position: Position;
  expiresAt: UnixMs;
  /** `dropped`: the source gets the same refusal until `expiresAt`. */
  status: "held" | "dropped";
}>;

/**
 * A change would take groups from too many people at once and waits for an operator (mass-change.ts). `base`: `current`
 * joins the lists with what is held already under this id.
 */
export type MassChangeHeld = Fact<
  "MassChangeHeld",
  {
    heldId: CommandId;
    source: string;
    subject: string;
    template: Uint8Array;
    base: "empty" | "current";
    added: readonly UserId[];
    removed: readonly UserId[];
    people: number;
    counted: number;
    limit: number;
    expiresAt: UnixMs;
  }
>;
/** The source has said something else about these people since. */
export type HeldChangeNarrowed = Fact<"HeldChangeNarrowed", { heldId: CommandId; withdrawn: readonly UserId[] }>;
/** `released`: the change itself is recorded with this event. `replaced`: by a later change of its source. */
export type HeldChangeEnded = Fact<
  "HeldChangeEnded",
  { heldId: CommandId; outcome: "released" | "dropped" | "expired" | "replaced"; reason: string }
>;
/** An operator allows mass changes of a source until a time; a time that has passed withdraws that. */
export type MassChangesAllowed = Fact<"MassChangesAllowed", { source: string; until: UnixMs; reason: string }>;

/** The subject of a deletion. No other subject begins like it, whatever the names of groups. */
export const deletionSubject = (group: string): string => `delete ${group}`;

/** The subject of what a source would end of people's access. A source has one such held change. */
export const endsSubject = "people";

const persons = /^(?:operator|user):/;

/** The source or person behind an actor, whatever token it used. */
export function originOf(actor: string): string {
  const end = actor.indexOf("#");
  return end < 0 ? actor : actor.slice(0, end);
}

/** The source behind an actor; null: a person. */
export function sourceOf(actor: string): string | null {
  return persons.test(actor) ? null : originOf(actor);
}
