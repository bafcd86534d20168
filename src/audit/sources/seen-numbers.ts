/**
 * Seen numbers: which records of which boot a reader had already, as ranges of numbers. Pure.
 *
 * Numbers of a boot are dense and mostly ascend, so a boot needs few ranges, however many records it has. Beyond the
 * bound the boot that was read longest ago is forgotten: its records could then be seen twice.
 */
const rangesMaxDefault = 200_000;

export class SeenNumbers {
  /** First and last number of each range of a boot, ascending. */
  readonly #boots = new Map<string, number[]>();
  readonly #rangesMax: number;
  #ranges = 0;

  constructor({ rangesMax = rangesMaxDefault }: Readonly<{ rangesMax?: number }> = {}) {
    this.#rangesMax = rangesMax;
  }

  /** @returns whether the number is new */
  add(boot: string, number: number): boolean {
    const ranges = this.#boots.get(boot) ?? [];
    const before = ranges.length;
    const isNew = addTo(ranges, number);
    this.#ranges += (ranges.length - before) / 2;
    this.#boots.delete(boot); // last in the order of forgetting
    this.#boots.set(boot, ranges);
    while (this.#ranges > this.#rangesMax) this.#forgetOldest();
    return isNew;
  }

  #forgetOldest(): void {
    for (const [boot, ranges] of this.#boots) {
      this.#boots.delete(boot);
      this.#ranges -= ranges.length / 2;
      return;
    }
  }
}

function addTo(ranges: number[], number: number): boolean {
  let at = ranges.length;
  while (at > 0 && number < (ranges[at - 2] as number)) at -= 2;
  // `at` is behind the last range that begins at or before the number
  const last = at > 0 ? (ranges[at - 1] as number) : Number.NEGATIVE_INFINITY;
  if (number <= last) return false;
  const touchesBefore = number === last + 1;
  const touchesAfter = at < ranges.length && ranges[at] === number + 1;
  if (touchesBefore && touchesAfter) ranges.splice(at - 1, 2);
  else if (touchesBefore) ranges[at - 1] = number;
  else if (touchesAfter) ranges[at] = number;
  else ranges.splice(at, 0, number, number);
  return true;
}
