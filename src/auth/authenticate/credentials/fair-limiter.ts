/**
 * Fair places: how much may be under way at once, shared so that nobody leaves nothing for others.
 *
 * Pure. Nobody holds more than an eighth of what is free, and everybody may hold one while any is: of many that come at once, each gets
 * fewer. So it takes more than twenty callers to fill 64 places, and one that takes all it can get has eight at most.
 */
export class FairLimiter {
  readonly #max: number;
  readonly #inUseBy = new Map<string, number>();
  #inUse = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @returns gives the place back, to be called once; undefined: there is none, for this caller */
  acquire(caller: string): (() => void) | undefined {
    const held = this.#inUseBy.get(caller) ?? 0;
    const free = this.#max - this.#inUse;
    if (free <= 0 || held >= Math.max(1, Math.ceil(free / 8))) return undefined;
    this.#inUse++;
    this.#inUseBy.set(caller, held + 1);
    return () => {
      this.#inUse--;
      const left = (this.#inUseBy.get(caller) ?? 0) - 1;
      if (left > 0) this.#inUseBy.set(caller, left);
      else this.#inUseBy.delete(caller);
    };
  }
}
