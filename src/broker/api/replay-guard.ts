/**
 * Replay guard: remembers each call for as long as its proof is valid, so that none is accepted twice.
 *
 * - Calls are grouped by the second in which their proof ends. Forgotten calls leave a floor: a proof that ends at or
 *   below it is refused, so a clock that is set back admits no old call.
 * - A proof made before this process started is refused, so a restart admits none either.
 * - Bounded: when full, it admits nothing new.
 * - Pure; times are arguments, in seconds since 1970.
 */
export type ReplayGuard = Readonly<{
  /** Admits a call once. @param call.until when its proof ends @param nowS of the clock that checked the proof */
  admit: (call: Readonly<{ id: string; issuedAt: number; until: number }>, nowS: number) => "new" | "replayed" | "full";
  count: () => number;
}>;

export function createReplayGuard(
  of: Readonly<{
    /** The start of this process: another process may have answered earlier calls. */
    since: number;
    /** A proof stays valid for this long after its end. */
    toleranceS: number;
    callsMax: number;
  }>,
): ReplayGuard {
  const callsByEnd = new Map<number, Set<string>>();
  let floor = Number.NEGATIVE_INFINITY;
  let count = 0;

  function forget(nowS: number): void {
    for (const [until, ids] of callsByEnd) {
      if (until >= nowS - of.toleranceS) continue;
      callsByEnd.delete(until);
      count -= ids.size;
      floor = Math.max(floor, until);
    }
  }

  return {
    admit({ id, issuedAt, until }, nowS) {
      forget(nowS);
      if (issuedAt < of.since || until <= floor) return "replayed";
      const ids = callsByEnd.get(until) ?? new Set();
      if (ids.has(id)) return "replayed";
      if (count >= of.callsMax) return "full";
      callsByEnd.set(until, ids.add(id));
      count += 1;
      return "new";
    },
    count: () => count,
  };
}
