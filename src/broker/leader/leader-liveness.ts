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
export type LeaderWatch = Readonly<{ seen: Observation; since: MonotonicMs }>;
export type Liveness = "alive" | "silent";

/**
 * @param own incarnations of this process that lead no more
 * @returns the watch to go on with, and what it shows now
 */
export function observeLiveness(
  previous: LeaderWatch | null,
  now: Readonly<{ seen: Observation; at: MonotonicMs; silentMs: number; ownIncarnations: ReadonlySet<Incarnation> }>,
): readonly [LeaderWatch, Liveness] {
  const { seen, at, silentMs } = now;
  if (
    seen.epoch === 0 ||
    isResigned(seen.incarnation) ||
    (seen.incarnation !== null && now.ownIncarnations.has(seen.incarnation))
  ) {
    return [{ seen, since: at }, "silent"];
  }
  if (previous === null || hasChanged(previous.seen, seen)) return [{ seen, since: at }, "alive"];
  return [{ seen, since: previous.since }, at - previous.since >= silentMs ? "silent" : "alive"];
}

function hasChanged(before: Observation, after: Observation): boolean {
  return before.beat !== after.beat || before.epoch !== after.epoch || before.incarnation !== after.incarnation;
}
