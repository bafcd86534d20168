/** Random: seeded random numbers. Pure: the same seed gives the same numbers on every machine. */

export type Random = Readonly<{
  /** From 0 (inclusive) to 1 (exclusive). */
  next(): number;
  /** An integer; both bounds are inclusive. */
  between(low: number, high: number): number;
  /** @throws RangeError when the list is empty */
  pick<T>(from: readonly T[]): T;
  shuffled<T>(list: readonly T[]): T[];
}>;

/** Mulberry32, by Tommy Ettinger (public domain): one 32-bit state, good enough to choose faults with. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    between,
    pick(from) {
      const picked = from[between(0, from.length - 1)];
      if (picked === undefined) throw new RangeError("nothing to pick from");
      return picked;
    },
    shuffled(list) {
      const rest = [...list];
      const result: typeof rest = [];
      while (rest.length > 0) result.push(...rest.splice(between(0, rest.length - 1), 1));
      return result;
    },
  };
}
