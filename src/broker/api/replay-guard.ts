/**
 * Replay guard: remembers each call for as long as its proof is valid, so that none is accepted twice.
 *
 * Kept by the second in which a proof ends. What is forgotten leaves a floor behind: a proof that ends at or below it is refused
 * without a look, so a clock that is set back lets no old call in again; nor does a restart, for what was made before our time is
 * refused. Bounded: when full, nothing new is let in. Pure; times are arguments, all in seconds since 1970.
 */
export type ReplayGuard = Readonly<{
  /** Lets a call in once. @param call.until when its proof ends @param nowS of the clock that judged the proof */
  admit: (call: Readonly<{ id: string; issuedAt: number; until: number }>, nowS: number) => "new" | "replayed" | "full";
  count: () => number;
}>;

export function createReplayGuard(
  of: Readonly<{
    /** When our time begins: what was made earlier may have been answered by another process. */
    since: number;
    /** For so long after its end a proof is still good. */
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
