/**
 * Home watch: whether the brokers of the home region answer. Pure.
 *
 * Only an answer counts, not an open connection. The regional broker sends its own renew every second, so a caller
 * never has to wait to learn that the home region is away.
 */
import type { MonotonicMs } from "../../events/index.ts";

/**
 * In renew intervals: the home region counts as away after this much silence.
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
