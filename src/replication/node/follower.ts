/**
 * Follower: keeps one copy in step with the log.
 *
 * - Pure. Inputs are facts (a delivery, a page, a failed read, a grant); outputs are effects. It never waits, reads a
 *   clock, or throws because of a failure outside.
 * - The caller has authenticated deliveries and grants, and verified snapshots. A link proves continuity, not origin.
 * - No event is applied twice, and each directly follows the one before. A batch is applied only if it links; so is the
 *   new part of a batch that overlaps.
 * - `applied` moves back only by a rebuild, which is announced first. At most one read is in flight.
 *
 *   following --gap, bad link, new epoch or a head ahead--> reading --page--> following, or reading again while there
 *   is more
 *   either    --proof that our suffix is not in the log---> rebuilding from genesis --at the head--> following
 *
 * A grant or a delivery of a newer epoch proves that a suffix is lost: both are from a leader whose commit was clean. A
 * "forked" answer to a read counts only when it names an epoch newer than the one applied here. Otherwise an old
 * primary may have answered (docs/protocol.md §4.2, §4.4).
 */
import {
  type Epoch,
  type Fact,
  type Incarnation,
  type Link,
  linkOf,
  noEpoch,
  type Position,
  type Recorded,
  sameLink,
  unreachable,
} from "../../events/index.ts";
import { type ChainHistory, emptyHistory, extendHistory, locateLink } from "../lease/chain-history.ts";

/** Consecutive events. A delivery that is already covered may lack its events. */
export type EventRange = Readonly<{ previous: Link; events: readonly Recorded[]; last: Link }>;
/** A range of events as an authenticated leader published it. */
export type PublishedRange = EventRange & Readonly<{ epoch: Epoch }>;

export type Follower = Readonly<{
  history: ChainHistory;
  /** The newest epoch named by an authenticated sender or applied here. */
  epoch: Epoch;
  /** The one read in flight. `stale`: requested before a rebuild began, so its answer is ignored. */
  reading: Readonly<{ after: Link; stale: boolean }> | null;
  /** The position requested while that read is in flight; Infinity: read again, whatever the answer. */
  readUpTo: number;
  /** Consecutive deliveries ahead of the page being read; they are applied when the page reaches them. */
  buffered: readonly PublishedRange[];
  /** `lost`: the link that was applied before. The rebuild ends at a head of at least the epoch `atLeast`. */
  rebuilding: Readonly<{ lost: Link; atLeast: Epoch }> | null;
  /** The log begins after our position, so a snapshot is needed. */
  truncated: Readonly<{ first: Position }> | null;
}>;

export type Input =
  | Fact<"delivery", { batch: PublishedRange }>
  | Fact<"page", { page: EventRange; head: Link }>
  | Fact<"forked", { head: Link }>
  | Fact<"truncated", { first: Position }>
  | Fact<"readFailed", unknown>
  | Fact<"granted", { epoch: Epoch; incarnation: Incarnation; start: Position; head: Link }>
  /** There may be more to read: a poll is due, a request waits, or a connection is new. */
  | Fact<"readRequested", unknown>
  /** A snapshot has been loaded that is ahead of `applied` or replaces the projection being rebuilt. */
  | Fact<"snapshotLoaded", { history: ChainHistory }>
  /** Our own projection is wrong, though we are on the chain. */
  | Fact<"projectionWrong", unknown>;

export type Effect =
  | Fact<"read", { after: Link }>
  | Fact<"apply", { events: readonly Recorded[] }>
  /** Start an empty projection beside the old one, which continues to deny; later events apply to the new one. */
  | Fact<"rebuild", { lost: Link }>
  /** The snapshot's projection is the base of later events. */
  | Fact<"adopt", unknown>
  /** The new projection replaces the old one. */
  | Fact<"rebuilt", { lost: Link; link: Link }>;

type Stepped = readonly [Follower, readonly Effect[]];

const bufferedBatchesMax = 256;
const bufferedEventsMax = 4_096;

export const newFollower: Follower = {
  history: emptyHistory,
  epoch: noEpoch,
  reading: null,
  readUpTo: 0,
  buffered: [],
  rebuilding: null,
  truncated: null,
};

export function step(state: Follower, input: Input): Stepped {
  switch (input.type) {
    case "delivery": // an accelerator: believed only if it continues what we have
      return input.batch.epoch < state.epoch
        ? [state, []]
        : onDelivery(noteEpoch(state, input.batch.epoch), input.batch);
    case "page":
      return state.reading === null ? [state, []] : onPage(state, input.page, input.head);
    case "forked": {
      if (state.reading === null || state.reading.stale) return finishRead(state);
      const proven = input.head.epoch > state.history.applied.epoch;
      return proven
        ? rebuild(noteEpoch({ ...state, reading: null }, input.head.epoch), input.head.epoch)
        : finishRead(state);
    }
    case "truncated":
      return state.reading?.stale === false
        ? finishRead({ ...state, truncated: { first: input.first } })
        : finishRead(state);
    case "readFailed": // the next grant or nudge tries again
      return state.reading?.stale === true ? finishRead(state) : [{ ...state, reading: null, readUpTo: 0 }, []];
    case "granted":
      return input.epoch < state.epoch ? [state, []] : onGrant(noteEpoch(state, input.epoch), input);
    case "readRequested":
      return requestRead(state, Number.POSITIVE_INFINITY);
    case "snapshotLoaded":
      return onSnapshot(state, input.history);
    case "projectionWrong":
      return rebuild(state, state.history.applied.epoch);
    default:
      return unreachable(input);
  }
}

function onDelivery(state: Follower, batch: PublishedRange): Stepped {
  const { applied } = state.history;
  if (batch.last.position <= applied.position) {
    // Covered. It matters only if its event is of a newer epoch than ours at that position: then our suffix is lost.
    return batch.last.epoch > applied.epoch ? rebuild(state, batch.epoch) : [state, []];
  }
  if (batch.previous.position > applied.position) return requestRead(bufferDelivery(state, batch), batch.last.position);
  const [next, effects] = applyIfLinked(state, batch);
  if (next !== state) return applyBuffered(next, effects);
  return meetingPoint(batch, applied).epoch > applied.epoch
    ? rebuild(state, batch.epoch)
    : requestRead(state, Number.POSITIVE_INFINITY);
}

function onPage(state: Follower, page: EventRange, head: Link): Stepped {
  if (state.reading?.stale === true) return finishRead(state);
  const before = state.history.applied.position;
  const [joined, joinEffects] = applyIfLinked(noteEpoch({ ...state, truncated: null }, page.last.epoch), page);
  const [next, effects] = applyBuffered(joined, joinEffects);
  const { applied } = next.history;
  const more = applied.position > before && applied.position < head.position;
  const [done, doneEffects] = more
    ? requestRead({ ...next, reading: null, readUpTo: 0 }, head.position)
    : finishRead(next);
  const over =
    done.rebuilding !== null && applied.position >= head.position && applied.epoch >= done.rebuilding.atLeast;
  if (!over || done.rebuilding === null) return [done, [...effects, ...doneEffects]];
  const rebuilt: Effect = { type: "rebuilt", lost: done.rebuilding.lost, link: applied };
  return [{ ...done, rebuilding: null }, [...effects, rebuilt, ...doneEffects]];
}

/** Ignores the answers to earlier requests and reads on, because there are surely more events. */
function onSnapshot(state: Follower, history: ChainHistory): Stepped {
  const held = state.buffered.filter((batch) => batch.last.position > history.applied.position);
  const jumped: Follower = { ...noteEpoch(state, history.applied.epoch), history, buffered: held, truncated: null };
  const [next, effects] = requestRead(
    jumped.reading === null ? jumped : { ...jumped, reading: { ...jumped.reading, stale: true } },
    Number.POSITIVE_INFINITY,
  );
  return [next, [{ type: "adopt" }, ...effects]];
}

type Grant = Extract<Input, { type: "granted" }>;

function onGrant(state: Follower, { epoch, incarnation, start, head }: Grant): Stepped {
  const { applied, epochs } = state.history;
  const mark = epochs.at(-1);
  const ahead = applied.epoch < epoch && applied.position >= start;
  const twin = mark?.epoch === epoch && mark.incarnation !== null && mark.incarnation !== incarnation;
  if (ahead || twin || locateLink(state.history, head) === "otherChain") return rebuild(state, epoch);
  return head.position > applied.position ? requestRead(state, head.position) : [state, []];
}

/**
 * Applies the new events of a range that links to `applied`. Returns the same state if it does not link or has none.
 */
function applyIfLinked(state: Follower, stretch: EventRange): Stepped {
  const { applied } = state.history;
  const skipped = applied.position - stretch.previous.position;
  if (skipped < 0 || skipped >= stretch.events.length || !sameLink(meetingPoint(stretch, applied), applied))
    return [state, []];
  const events = skipped === 0 ? stretch.events : stretch.events.slice(skipped);
  const history = extendHistory(state.history, events);
  return [{ ...state, history }, [{ type: "apply", events }]];
}

/** The range's own link at the applied position. */
function meetingPoint(stretch: EventRange, applied: Link): Link {
  const event = stretch.events[applied.position - stretch.previous.position - 1];
  return event === undefined ? stretch.previous : linkOf(event);
}

/** Buffers a delivery that is ahead of `applied`, in one unbroken run of bounded size. */
function bufferDelivery(state: Follower, batch: PublishedRange): Follower {
  const last = state.buffered.at(-1)?.last;
  if (last !== undefined && batch.last.position <= last.position) return state; // repeated or late: the page has it
  const count = state.buffered.reduce((sum, each) => sum + each.events.length, batch.events.length);
  const goesOn = last !== undefined && sameLink(last, batch.previous) && state.buffered.length < bufferedBatchesMax;
  return { ...state, buffered: goesOn && count <= bufferedEventsMax ? [...state.buffered, batch] : [batch] };
}

/**
 * Applies the buffered deliveries from where they link now. One step emits one `apply` effect, so no reader sees half
 * of it.
 */
function applyBuffered(state: Follower, effects: readonly Effect[]): Stepped {
  if (state.buffered.length === 0) return [state, effects];
  let next = state;
  const all = [...effects];
  for (const batch of state.buffered) {
    const [joined, more] = applyIfLinked(next, batch);
    next = joined;
    all.push(...more);
  }
  const events = all.flatMap((effect) => (effect.type === "apply" ? effect.events : []));
  const held = next.buffered.filter((batch) => batch.previous.position > next.history.applied.position);
  return [{ ...next, buffered: held }, events.length === 0 ? [] : [{ type: "apply", events }]];
}

/** Requests a read. While one is in flight, it notes how far the next one must go. */
function requestRead(state: Follower, upTo: number): Stepped {
  if (state.reading !== null) return [{ ...state, readUpTo: Math.max(state.readUpTo, upTo) }, []];
  const after = state.history.applied;
  return [{ ...state, reading: { after, stale: false }, readUpTo: 0 }, [{ type: "read", after }]];
}

/** Ends the read. Starts the next one if events requested meanwhile are still missing. */
function finishRead(state: Follower): Stepped {
  const settled: Follower = { ...state, reading: null, readUpTo: 0 };
  const again = state.reading?.stale === true || state.readUpTo > state.history.applied.position;
  return again ? requestRead(settled, state.readUpTo) : [settled, []];
}

function rebuild(state: Follower, atLeast: Epoch): Stepped {
  const lost = state.rebuilding?.lost ?? state.history.applied;
  const restarted: Follower = {
    ...state,
    history: emptyHistory,
    buffered: [],
    truncated: null,
    rebuilding: { lost, atLeast },
    reading: state.reading === null ? null : { ...state.reading, stale: true },
  };
  const [next, effects] = requestRead(restarted, Number.POSITIVE_INFINITY);
  return [next, [{ type: "rebuild", lost }, ...effects]];
}

function noteEpoch(state: Follower, epoch: Epoch): Follower {
  return epoch > state.epoch ? { ...state, epoch } : state;
}
