/**
 * Seen numbers: which records of which boot a reader had already, as ranges of numbers. Pure.
 *
 * Numbers of a boot are dense and mostly ascend, so a boot needs few ranges, however many records it has. Beyond the
 * bound the boot that was read longest ago is forgotten: its records could then be seen twice.
 */
import { NumberRanges } from "./number-ranges.ts";

const rangesMaxDefault = 200_000;

export class SeenNumbers {
  readonly #boots = new Map<string, NumberRanges>();
  readonly #rangesMax: number;
  #ranges = 0;

  constructor({ rangesMax = rangesMaxDefault }: Readonly<{ rangesMax?: number }> = {}) {
    this.#rangesMax = rangesMax;
  }

  /** @returns whether the number is new */
  add(boot: string, number: number): boolean {
    const ranges = this.#boots.get(boot) ?? new NumberRanges();
    const before = ranges.count;
    const isNew = ranges.add(number);
    this.#ranges += ranges.count - before;
    this.#boots.delete(boot); // last in the order of forgetting
    this.#boots.set(boot, ranges);
    while (this.#ranges > this.#rangesMax) this.#forgetOldest();
    return isNew;
  }

  #forgetOldest(): void {
    for (const [boot, ranges] of this.#boots) {
      this.#boots.delete(boot);
      this.#ranges -= ranges.count;
      return;
    }
  }
}
