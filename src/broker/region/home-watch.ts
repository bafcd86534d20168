/**
 * Home watch: whether the brokers of the home region answer. Pure.
 *
 * Only an answer counts, never a connection that merely stands. The regional broker's own renews ask every second, so
 * while the home region is away no caller has to find out by waiting for it.
 */
import type { MonotonicMs } from "../../events/index.ts";

/**
 * The home region counts as away once two of the broker's own renews, and half of the time for a third, have passed.
 */
const silentRenewsMax = 2.5;

export class HomeWatch {
  readonly #silentMsMax: number;
  #heardAt: number = Number.NEGATIVE_INFINITY;

  constructor(renewMs: number) {
    this.#silentMsMax = silentRenewsMax * renewMs;
  }

  /** A broker of the home region has answered. */
  recordAnswer(now: MonotonicMs): void {
    this.#heardAt = now;
  }

  /** Null before the first answer. */
  silentMs(now: MonotonicMs): number | null {
    const silentMs = now - this.#heardAt;
    return Number.isFinite(silentMs) ? silentMs : null;
  }

  answers(now: MonotonicMs): boolean {
    return now - this.#heardAt <= this.#silentMsMax;
  }
}
