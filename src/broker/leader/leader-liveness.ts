/**
 * Leader liveness: whether the leader is alive, by its beats. Pure.
 *
 * A leader's beat count grows at least twice a second. A count that stays the same for `silentMs` of our monotonic
 * clock, over many observations, means that the leader is silent. This only suggests who should open an epoch. Safety
 * never depends on it: a broker that is wrong is fenced by the head row.
 */
import type { Incarnation, MonotonicMs } from "../../events/index.ts";
import type { Observation } from "../../replication/log/index.ts";

/** Marks an epoch that was opened only to resign: the next leader may open its epoch immediately. */
const resignedPrefix = "resigned-";

export function resignedIncarnation(random: string): string {
  return `${resignedPrefix}${random}`;
}

export function isResigned(incarnation: Incarnation | null): boolean {
  return incarnation?.startsWith(resignedPrefix) === true;
}

/** The head row as last seen, and since when it has not changed. */
export type LeaderWatch = Readonly<{ seen: Observation; since: MonotonicMs }>;
export type Liveness = "alive" | "silent";

/**
 * @param now.ownIncarnations incarnations of this process that no longer lead
 * @returns the next watch, and whether the leader is alive
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
