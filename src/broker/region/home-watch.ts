/**
 * Home watch: whether the brokers of the home region answer, and when that changes. Pure.
 *
 * - Only an answer counts, not an open connection. The regional broker sends its own renew every second, so a caller
 *   never has to wait to learn that the home region is away.
 * - A home broker that answers only that no broker leads is within reach: another one will lead within seconds. While
 *   the home region is out of reach, nothing that needs the leader can succeed.
 */
import type { MonotonicMs } from "../../events/index.ts";

/**
 * In renew intervals: the home region counts as away after this much silence.
 */
const silentRenewsMax = 2.5;

export type HomeChange = Readonly<{ state: "in reach" | "out of reach"; silentMs: number }>;

export class HomeWatch {
  readonly #silentMsMax: number;
  #heardAt: number = Number.NEGATIVE_INFINITY;
  #startedAt: number | null = null;
  #silentSince: number = Number.NEGATIVE_INFINITY;
  #state: HomeChange["state"] = "in reach";
  #reachedAt: number = Number.NEGATIVE_INFINITY;

  constructor(renewMs: number) {
    this.#silentMsMax = silentRenewsMax * renewMs;
  }

  /** A broker of the home region has answered. */
  recordAnswer(now: MonotonicMs): void {
    this.#heardAt = now;
    this.#reachedAt = now;
  }

  /** A broker of the home region has answered that no broker leads. */
  recordReached(now: MonotonicMs): void {
    this.#reachedAt = now;
  }

  /** A process that has just started does not know yet: it counts from its start. */
  begin(now: MonotonicMs): void {
    this.#reachedAt = Math.max(this.#reachedAt, now);
  }

  isOutOfReach(now: MonotonicMs): boolean {
    return now - this.#reachedAt > this.#silentMsMax;
  }

  /** Null before the first answer. */
  silentMs(now: MonotonicMs): number | null {
    const silentMs = now - this.#heardAt;
    return Number.isFinite(silentMs) ? silentMs : null;
  }

  answers(now: MonotonicMs): boolean {
    return now - this.#heardAt <= this.#silentMsMax;
  }

  /** At this time it counts as out of reach if no broker answers before. Infinity: it counts so already. */
  get outOfReachAt(): number {
    return this.#state === "out of reach" ? Number.POSITIVE_INFINITY : this.#lastSign + this.#silentMsMax + 1;
  }

  /** @returns the state and how long the home region was silent, once after each change; null: no change */
  drainChange(now: MonotonicMs): HomeChange | null {
    this.#startedAt ??= now;
    const state = now - this.#lastSign <= this.#silentMsMax ? "in reach" : "out of reach";
    if (state === this.#state) return null;
    this.#state = state;
    if (state === "out of reach") this.#silentSince = this.#lastSign;
    return { state, silentMs: now - this.#silentSince };
  }

  /** The last answer; before the first one, the start. */
  get #lastSign(): number {
    return Math.max(this.#heardAt, this.#startedAt ?? Number.NEGATIVE_INFINITY);
  }
}
