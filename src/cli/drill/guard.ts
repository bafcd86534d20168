/**
 * Guard: stops a drill before it harms anyone.
 *
 * - Pure. It takes what was observed each second and answers with the reason to stop, once there is one.
 * - What cannot be observed counts against the drill: it may not run on blindly.
 */
export type GuardRules = Readonly<{
  /** The process that the drill stops; null: it stops none. */
  target: string | null;
  /** Share of people's requests that may fail. */
  peopleErrorsMax: number;
  /** Whether people's errors must be observable. */
  needsMetrics: boolean;
}>;

export type GuardInput = Readonly<{
  atMs: number;
  /** Null: no status could be read. */
  status: Readonly<{
    leads: boolean;
    /** Nodes whose digest differs from the leader's. */
    differing: readonly string[];
    /** Nodes without a lease for longer than `silentMs`. */
    silent: readonly string[];
  }> | null;
  /** People's requests and errors since the last input, over all proxies. */
  people: Readonly<{ requests: number; errors: number }>;
  /** Proxies whose metrics could not be read. */
  unreadable: readonly string[];
}>;

/** A node without a lease for this long counts as silent. A takeover takes less. */
export const silentMs = 10_000;
const leaderlessMsMax = 20_000;
const windowMs = 10_000;
/** So many errors within the window are harm, whatever their share of little traffic. */
const errorsMin = 5;
const sightings = 3;
const unreadableMax = 5;

export type Guard = Readonly<{
  people: readonly Readonly<{ atMs: number; requests: number; errors: number }>[];
  /** When a leader was last seen. */
  ledAt: number | null;
  silentTimes: number;
  unreadableTimes: number;
}>;

export const newGuard: Guard = { people: [], ledAt: null, silentTimes: 0, unreadableTimes: 0 };

/** @returns the reason to stop; null: the drill may continue */
export function stepGuard(guard: Guard, input: GuardInput, rules: GuardRules): readonly [Guard, string | null] {
  const { atMs, status, people, unreadable } = input;
  const others = (names: readonly string[]): readonly string[] =>
    names.filter((name) => rules.target === null || !isTarget(name, rules.target));
  const silent = others(status?.silent ?? []);
  const unseen = others(unreadable);
  const next: Guard = {
    people: [...guard.people.filter((one) => one.atMs > atMs - windowMs), { atMs, ...people }],
    ledAt: status?.leads === true ? atMs : (guard.ledAt ?? atMs),
    silentTimes: silent.length > 0 ? guard.silentTimes + 1 : 0,
    unreadableTimes: rules.needsMetrics && unseen.length > 0 ? guard.unreadableTimes + 1 : 0,
  };
  return [next, reasonOf(next, { atMs, differing: status?.differing ?? [], silent, unseen }, rules)];
}

type Seen = Readonly<{
  atMs: number;
  differing: readonly string[];
  silent: readonly string[];
  unseen: readonly string[];
}>;

function reasonOf(guard: Guard, { atMs, differing, silent, unseen }: Seen, rules: GuardRules): string | null {
  const people = peopleWithin(guard);
  if (isHarm(people, rules.peopleErrorsMax))
    return `people saw ${people.errors} errors in ${people.requests} requests within ${windowMs / 1_000} s`;
  if (differing.length > 0) return `the digest of ${differing.slice(0, 3).join(", ")} differs from the leader's`;
  if (guard.silentTimes >= sightings)
    return `${silent.slice(0, 3).join(", ")} has had no lease for ${silentMs / 1_000} s`;
  if (guard.ledAt !== null && atMs - guard.ledAt >= leaderlessMsMax)
    return `no broker was seen to lead for ${leaderlessMsMax / 1_000} s`;
  if (guard.unreadableTimes >= unreadableMax)
    return `the metrics of ${unseen.slice(0, 3).join(", ")} cannot be read, so errors of people would not be noticed`;
  return null;
}

export type PeopleCounts = Readonly<{ requests: number; errors: number }>;

/** People's requests of the last ten seconds. */
export function peopleWithin({ people }: Guard): PeopleCounts {
  return {
    requests: people.reduce((sum, one) => sum + one.requests, 0),
    errors: people.reduce((sum, one) => sum + one.errors, 0),
  };
}

export function isHarm(people: PeopleCounts, errorsMax: number): boolean {
  return people.errors >= errorsMin && shareOf(people) > errorsMax;
}

/** The share of errors; 0 without a request. */
export function shareOf({ requests, errors }: PeopleCounts): number {
  return requests === 0 ? 0 : errors / requests;
}

/** Workers of a process are nodes of their own: `proxy-1-w2`. */
export function isTarget(node: string, target: string): boolean {
  return node === target || (node.startsWith(`${target}-w`) && /^\d+$/.test(node.slice(target.length + 2)));
}
