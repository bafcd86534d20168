/**
 * Abuse budget: bounds what a caller may make this side do without any use. Pure.
 *
 * - Overhead: frames that carry nothing (PING, SETTINGS, PRIORITY, windows, empty and unknown frames). Bytes of
 *   requests and responses pay for it, so that a client that measures its connection may send as many as it needs.
 * - Resets: streams that end before their response, whichever side ends them (rapid reset, CVE-2023-44487, and
 *   MadeYouReset, CVE-2025-8671). Nothing pays for them but time.
 */

/** Frames without use at once, per second, and for each frame with use. */
const overhead = { burst: 1_000, perMs: 0.1, perUsefulFrame: 3 };
/** As in nghttp2. */
const resets = { burst: 200, perMs: 0.02 };

export class AbuseBudget {
  readonly #now: () => number;
  #overhead = overhead.burst;
  #resets = resets.burst;
  #refilledAt: number;

  /** @param now monotonic milliseconds */
  constructor(now: () => number) {
    this.#now = now;
    this.#refilledAt = now();
  }

  onUsefulFrame(): void {
    if (this.#overhead < overhead.burst) this.#overhead += overhead.perUsefulFrame;
  }

  /** @returns false: the budget is used up */
  spendOverhead(frames: number): boolean {
    this.#overhead -= frames;
    if (this.#overhead < 0) this.#refill();
    return this.#overhead >= 0;
  }

  /** @returns false: the budget is used up */
  spendReset(): boolean {
    this.#resets -= 1;
    if (this.#resets < 0) this.#refill();
    return this.#resets >= 0;
  }

  #refill(): void {
    const now = this.#now();
    const ms = now - this.#refilledAt;
    this.#refilledAt = now;
    this.#overhead = Math.min(overhead.burst, this.#overhead + ms * overhead.perMs);
    this.#resets = Math.min(resets.burst, this.#resets + ms * resets.perMs);
  }
}
