/**
 * Fair limiter: bounds concurrent work and shares it between callers, so that one caller cannot use it all.
 *
 * Pure. A caller holds at most an eighth of the free slots, and always one while any is free. So it takes more than
 * twenty callers to use 64 slots, and a single caller gets at most eight.
 */
export class FairLimiter {
  readonly #max: number;
  readonly #inUseBy = new Map<string, number>();
  #inUse = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @returns a function that releases the slot, to be called once; undefined: no slot for this caller */
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
