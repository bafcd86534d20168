/**
 * Shrink: makes the story of a failing seed short, by leaving out what it does not need (delta debugging, after
 * Zeller).
 *
 * Pure: whether what is left still fails is asked of `fails`. Deterministic, and bounded by the number of questions;
 * what comes out fails as the whole did, though something smaller may exist.
 */

export type Shrunk<T> = Readonly<{ left: readonly T[]; asked: number }>;

/**
 * @param fails whether these alone still do it; known to be so for all
 * @param asksMax how often it may be asked
 */
export function shrinkList<T>(all: readonly T[], fails: (some: readonly T[]) => boolean, asksMax: number): Shrunk<T> {
  let left = all;
  let asked = 0;
  const ask = (some: readonly T[]): boolean => {
    asked += 1;
    return fails(some);
  };
  if (all.length > 0 && asksMax > 0 && ask([])) return { left: [], asked };
  let parts = 2;
  while (left.length > 1 && asked < asksMax) {
    const size = Math.ceil(left.length / parts);
    let shorter: readonly T[] | undefined;
    for (let from = 0; from < left.length && asked < asksMax; from += size) {
      const without = [...left.slice(0, from), ...left.slice(from + size)];
      if (without.length === left.length || !ask(without)) continue;
      shorter = without;
      break;
    }
    if (shorter !== undefined) {
      left = shorter;
      parts = Math.max(2, parts - 1);
    } else if (size === 1) break;
    else parts = Math.min(left.length, parts * 2);
  }
  return { left, asked };
}
