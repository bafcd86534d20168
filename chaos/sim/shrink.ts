/**
 * Shrinker: reduces the faults or actions of a failing seed to the ones that it needs (delta debugging, after Zeller).
 *
 * - Pure and deterministic: only `fails` decides whether a reduced list still fails.
 * - At most `asksMax` calls of `fails`.
 * - The result still fails; a smaller one may exist.
 */

export type Shrunk<T> = Readonly<{ left: readonly T[]; runs: number }>;

/**
 * @param fails whether the run still fails with these items alone; the caller knows that it fails with all of them
 * @param asksMax maximum number of calls of `fails`
 */
export async function shrinkList<T>(
  all: readonly T[],
  fails: (some: readonly T[]) => Promise<boolean> | boolean,
  runsMax: number,
): Promise<Shrunk<T>> {
  let left = all;
  let runs = 0;
  const attempt = (some: readonly T[]): Promise<boolean> | boolean => {
    runs += 1;
    return fails(some);
  };
  if (all.length > 0 && runsMax > 0 && (await attempt([]))) return { left: [], runs };
  let parts = 2;
  while (left.length > 1 && runs < runsMax) {
    const size = Math.ceil(left.length / parts);
    let shorter: readonly T[] | undefined;
    for (let from = 0; from < left.length && runs < runsMax; from += size) {
      const without = [...left.slice(0, from), ...left.slice(from + size)];
      if (without.length === left.length || !(await attempt(without))) continue;
      shorter = without;
      break;
    }
    if (shorter !== undefined) {
      left = shorter;
      parts = Math.max(2, parts - 1);
    } else if (size === 1) break;
    else parts = Math.min(left.length, parts * 2);
  }
  return { left, runs };
}
