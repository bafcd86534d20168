/**
 * Follower: keeps one copy in step with the log.
 *
 * Pure. Facts come in (a delivery, a page, a failed read, a grant); effects go out. It never waits, reads a clock, or
 * throws over bad luck, so a simulation can run days of it in seconds. Whoever calls it has authenticated deliveries and
 * grants, and verified snapshots: a link proves continuity, not origin.
 *
 *   following --gap, bad link, new epoch or a head ahead--> reading --page--> following, or reading again while there is more
 *   either    --proof that our suffix is not in the log---> rebuilding from genesis --at the head--> following
 *
 * Always: an event is applied once, right behind the one before; a batch is applied only if it links (the new part of an
 * overlapping one too, if it links where we are); `applied` moves back only by a rebuild, which is announced first; at most
 * one read is in flight; what is already applied costs nothing.
 *
 * When is a suffix lost? A grant proves it, and so does a delivery of a newer epoch: both come from a leader whose commit
 * was clean. An answer to a mere read ("forked") is believed only when the log it speaks of is in a newer epoch than what we
 * hold; otherwise it may be an old primary speaking (docs/protocol.md §4.2, §4.4).
 */
import {
  type Epoch,
  type Fact,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  type Recorded,
  sameLink,
  unreachable,
} from "../../events/index.ts";
import { type ChainHistory, emptyHistory, follow, locateLink } from "../lease/chain-history.ts";

/** Consecutive events. A delivery that is already covered may come without its events. */
export type EventRange = Readonly<{ previous: Link; events: readonly Recorded[]; last: Link }>;
/** A stretch as an authenticated leader published it. */
export type Delivery = EventRange & Readonly<{ epoch: Epoch }>;

export type Follower = Readonly<{
  trail: ChainHistory;
  /** The newest epoch that an authenticated sender has spoken of, or that we have applied. */
  epoch: Epoch;
  /** The one read in flight. `stale`: asked before a rebuild began, so that its answer means nothing any more. */
  reading: Readonly<{ after: Link; stale: boolean }> | null;
  /** What was asked for while that read is in flight: up to which position; Infinity: look again whatever it brings. */
  sought: number;
  /** A run of deliveries that came ahead of the page we are reading: applied when the page reaches them. */
  held: readonly Delivery[];
  /** `lost`: where we were. It is over at a head of at least this epoch. */
  rebuilding: Readonly<{ lost: Link; atLeast: Epoch }> | null;
  /** The log begins behind our place and a snapshot is needed. */
  truncated: Readonly<{ first: Position }> | null;
}>;

export type Input =
  | Fact<"delivery", { batch: Delivery }>
  | Fact<"page", { page: EventRange; head: Link }>
  | Fact<"forked", { head: Link }>
  | Fact<"truncated", { first: Position }>
  | Fact<"readFailed", unknown>
  | Fact<"granted", { epoch: Epoch; incarnation: Incarnation; start: Position; head: Link }>
  /** Somebody has reason to think that there is more: the poll, a request that waits, a new connection. */
  | Fact<"nudge", unknown>
  /** A snapshot has been loaded, further on than where we are or in place of what is being rebuilt. */
  | Fact<"jumped", { trail: ChainHistory }>
  /** Our own projection is wrong, though we are on the chain. */
  | Fact<"distrusted", unknown>;

export type Effect =
  | Fact<"read", { after: Link }>
  | Fact<"apply", { events: readonly Recorded[] }>
  /** Start an empty projection beside the old one, which goes on denying; what follows is applied to the new one. */
  | Fact<"rebuild", { lost: Link }>
  /** The snapshot's projection is the base of what follows. */
  | Fact<"adopt", unknown>
  /** The new projection takes the old one's place. */
  | Fact<"rebuilt", { lost: Link; link: Link }>;

type Stepped = readonly [Follower, readonly Effect[]];

const heldBatchesMax = 256;
const heldEventsMax = 4_096;

export const newFollower: Follower = {
  trail: emptyHistory,
  epoch: 0 as Epoch,
  reading: null,
  sought: 0,
  held: [],
  rebuilding: null,
  truncated: null,
};

export function step(state: Follower, input: Input): Stepped {
  switch (input.type) {
    case "delivery": // an accelerator: believed only if it continues what we have
      return input.batch.epoch < state.epoch ? [state, []] : onDelivery(hear(state, input.batch.epoch), input.batch);
    case "page":
      return state.reading === null ? [state, []] : onPage(state, input.page, input.head);
    case "forked": {
      if (state.reading === null || state.reading.stale) return settle(state);
      const proven = input.head.epoch > state.trail.applied.epoch;
      return proven ? rebuild(hear({ ...state, reading: null }, input.head.epoch), input.head.epoch) : settle(state);
    }
    case "truncated":
      return state.reading?.stale === false ? settle({ ...state, truncated: { first: input.first } }) : settle(state);
    case "readFailed": // the next grant or nudge tries again
      return state.reading?.stale === true ? settle(state) : [{ ...state, reading: null, sought: 0 }, []];
    case "granted":
      return input.epoch < state.epoch ? [state, []] : onGrant(hear(state, input.epoch), input);
    case "nudge":
      return look(state, Number.POSITIVE_INFINITY);
    case "jumped":
      return onJump(state, input.trail);
    case "distrusted":
      return rebuild(state, state.trail.applied.epoch);
    default:
      return unreachable(input);
  }
}

function onDelivery(state: Follower, batch: Delivery): Stepped {
  const { applied } = state.trail;
  if (batch.last.position <= applied.position) {
    // Covered. Only an event of a newer epoch at a place where ours is older tells something: our suffix is lost.
    return batch.last.epoch > applied.epoch ? rebuild(state, batch.epoch) : [state, []];
  }
  if (batch.previous.position > applied.position) return look(hold(state, batch), batch.last.position);
  const [next, effects] = join(state, batch);
  if (next !== state) return replayHeld(next, effects);
  return meetingPoint(batch, applied).epoch > applied.epoch
    ? rebuild(state, batch.epoch)
    : look(state, Number.POSITIVE_INFINITY);
}

function onPage(state: Follower, page: EventRange, head: Link): Stepped {
  if (state.reading?.stale === true) return settle(state);
  const before = state.trail.applied.position;
  const [joined, joinEffects] = join(hear({ ...state, truncated: null }, page.last.epoch), page);
  const [next, effects] = replayHeld(joined, joinEffects);
  const { applied } = next.trail;
  const more = applied.position > before && applied.position < head.position;
  const [done, doneEffects] = more ? look({ ...next, reading: null, sought: 0 }, head.position) : settle(next);
  const over =
    done.rebuilding !== null && applied.position >= head.position && applied.epoch >= done.rebuilding.atLeast;
  if (!over || done.rebuilding === null) return [done, [...effects, ...doneEffects]];
  const rebuilt: Effect = { type: "rebuilt", lost: done.rebuilding.lost, link: applied };
  return [{ ...done, rebuilding: null }, [...effects, rebuilt, ...doneEffects]];
}

/** What was asked before means nothing any more, and there is surely more to read. */
function onJump(state: Follower, trail: ChainHistory): Stepped {
  const held = state.held.filter((batch) => batch.last.position > trail.applied.position);
  const jumped: Follower = { ...hear(state, trail.applied.epoch), trail, held, truncated: null };
  const [next, effects] = look(
    jumped.reading === null ? jumped : { ...jumped, reading: { ...jumped.reading, stale: true } },
    Number.POSITIVE_INFINITY,
  );
  return [next, [{ type: "adopt" }, ...effects]];
}

type Grant = Extract<Input, { type: "granted" }>;

function onGrant(state: Follower, { epoch, incarnation, start, head }: Grant): Stepped {
  const { applied, epochs } = state.trail;
  const mark = epochs.at(-1);
  const ahead = applied.epoch < epoch && applied.position >= start;
  const twin = mark?.epoch === epoch && mark.incarnation !== null && mark.incarnation !== incarnation;
  if (ahead || twin || locateLink(state.trail, head) === "foreign") return rebuild(state, epoch);
  return head.position > applied.position ? look(state, head.position) : [state, []];
}

/** Applies what is new in a stretch that links where we are; the same state when it does not, or holds nothing new. */
function join(state: Follower, stretch: EventRange): Stepped {
  const { applied } = state.trail;
  const skipped = applied.position - stretch.previous.position;
  if (skipped < 0 || skipped >= stretch.events.length || !sameLink(meetingPoint(stretch, applied), applied))
    return [state, []];
  const events = skipped === 0 ? stretch.events : stretch.events.slice(skipped);
  const trail = follow(state.trail, events);
  return [{ ...state, trail }, [{ type: "apply", events }]];
}

/** The stretch's own link at our place. */
function meetingPoint(stretch: EventRange, applied: Link): Link {
  const event = stretch.events[applied.position - stretch.previous.position - 1];
  return event === undefined ? stretch.previous : linkOf(event);
}

/** Keeps a delivery that is ahead of us, in one unbroken run of bounded size. */
function hold(state: Follower, batch: Delivery): Follower {
  const last = state.held.at(-1)?.last;
  if (last !== undefined && batch.last.position <= last.position) return state; // repeated or late: the page brings it
  const count = state.held.reduce((sum, each) => sum + each.events.length, batch.events.length);
  const goesOn = last !== undefined && sameLink(last, batch.previous) && state.held.length < heldBatchesMax;
  return { ...state, held: goesOn && count <= heldEventsMax ? [...state.held, batch] : [batch] };
}

/** Goes on with the held run where it links now. What is applied in one step is one effect: nobody sees half of it. */
function replayHeld(state: Follower, effects: readonly Effect[]): Stepped {
  if (state.held.length === 0) return [state, effects];
  let next = state;
  const all = [...effects];
  for (const batch of state.held) {
    const [joined, more] = join(next, batch);
    next = joined;
    all.push(...more);
  }
  const events = all.flatMap((effect) => (effect.type === "apply" ? effect.events : []));
  const held = next.held.filter((batch) => batch.previous.position > next.trail.applied.position);
  return [{ ...next, held }, events.length === 0 ? [] : [{ type: "apply", events }]];
}

/** Asks for a read, or remembers to, when one is in flight. */
function look(state: Follower, upTo: number): Stepped {
  if (state.reading !== null) return [{ ...state, sought: Math.max(state.sought, upTo) }, []];
  const after = state.trail.applied;
  return [{ ...state, reading: { after, stale: false }, sought: 0 }, [{ type: "read", after }]];
}

/** The read is over; what was asked for meanwhile and is still missing is looked for now. */
function settle(state: Follower): Stepped {
  const settled: Follower = { ...state, reading: null, sought: 0 };
  const again = state.reading?.stale === true || state.sought > state.trail.applied.position;
  return again ? look(settled, state.sought) : [settled, []];
}

function rebuild(state: Follower, atLeast: Epoch): Stepped {
  const lost = state.rebuilding?.lost ?? state.trail.applied;
  const restarted: Follower = {
    ...state,
    trail: emptyHistory,
    held: [],
    truncated: null,
    rebuilding: { lost, atLeast },
    reading: state.reading === null ? null : { ...state.reading, stale: true },
  };
  const [next, effects] = look(restarted, Number.POSITIVE_INFINITY);
  return [next, [{ type: "rebuild", lost }, ...effects]];
}

function hear(state: Follower, epoch: Epoch): Follower {
  return epoch > state.epoch ? { ...state, epoch } : state;
}
