/**
 * Leader liveness: whether a leader is alive, judged by its beats.
 *
 * Pure. A leader's beat count grows at least twice a second; one that has stood still for `silentMs` by our own monotonic
 * clock, seen over and over meanwhile, means that the seat is vacant. This only suggests who should open an epoch: safety
 * never depends on it, for whoever is wrong is fenced by the head row itself.
 */
import type { Incarnation, MonotonicMs } from "../../events/index.ts";
import type { Observation } from "../../replication/index.ts";

/** An epoch that was opened only to say that nobody leads: its holder stops, and the next may begin at once. */
const resignedPrefix = "resigned-";

export function resignation(random: string): string {
  return `${resignedPrefix}${random}`;
}

export function isResigned(incarnation: Incarnation | null): boolean {
  return incarnation?.startsWith(resignedPrefix) === true;
}

/** What was seen, and since when nothing has changed. */
export type LeaderLiveness = Readonly<{ seen: Observation; since: MonotonicMs }>;
export type Seat = "held" | "vacant";

/**
 * @param own incarnations of this process that lead no more
 * @returns the watch to go on with, and what it shows now
 */
export function watchSeat(
  watch: LeaderLiveness | null,
  now: Readonly<{ seen: Observation; at: MonotonicMs; silentMs: number; own: ReadonlySet<Incarnation> }>,
): readonly [LeaderLiveness, Seat] {
  const { seen, at, silentMs } = now;
  if (
    seen.epoch === 0 ||
    isResigned(seen.incarnation) ||
    (seen.incarnation !== null && now.own.has(seen.incarnation))
  ) {
    return [{ seen, since: at }, "vacant"];
  }
  if (watch === null || moved(watch.seen, seen)) return [{ seen, since: at }, "held"];
  return [{ seen, since: watch.since }, at - watch.since >= silentMs ? "vacant" : "held"];
}

function moved(before: Observation, after: Observation): boolean {
  return before.beat !== after.beat || before.epoch !== after.epoch || before.incarnation !== after.incarnation;
}
