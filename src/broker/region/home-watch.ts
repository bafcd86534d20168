/**
 * Home watch: whether the home region can be reached, since when, and whether its leader answers. Pure.
 *
 * - Only an answer counts, not an open connection. The regional broker sends its own renew every second, so a caller
 *   never has to wait to learn that the home region is away.
 * - There are two questions, because the answers differ while the brokers of the home region have no leader.
 *   `leaderAnswers`: without a leader nothing is granted or recorded, so this region grants by age and may revoke by
 *   itself. `isOutOfReach`: no broker of the home region answers, so a command fails at once. While one answers, a
 *   command waits, because another broker will lead within seconds.
 */
import type { MonotonicMs } from "../../events/index.ts";

/** In renew intervals: a leader or a region that is silent for longer counts as away. */
const silentRenewsMax = 2.5;
const never = Number.NEGATIVE_INFINITY;

export type HomeChange = Readonly<{ state: "in reach" | "out of reach"; silentMs: number }>;

export class HomeWatch {
  readonly #silentMsMax: number;
  #leaderAnsweredAt: number = never;
  /** The leader's answers count here too. */
  #brokerAnsweredAt: number = never;
  #startedAt: number = never;
  #silentSince: number = never;
  #state: HomeChange["state"] = "in reach";

  constructor(renewMs: number) {
    this.#silentMsMax = silentRenewsMax * renewMs;
  }

  /** A process that has just started does not know yet: it counts from its start. */
  begin(now: MonotonicMs): void {
    if (this.#startedAt === never) this.#startedAt = now;
  }

  /** The leader has answered, through any broker of the home region. */
  recordLeaderAnswer(now: MonotonicMs): void {
    this.#leaderAnsweredAt = now;
    this.#brokerAnsweredAt = now;
  }

  /** A broker of the home region has answered. It need not know a leader. */
  recordBrokerAnswer(now: MonotonicMs): void {
    this.#brokerAnsweredAt = now;
  }

  leaderAnswers(now: MonotonicMs): boolean {
    return now - this.#leaderAnsweredAt <= this.#silentMsMax;
  }

  /** Since the leader's last answer. Null before the first one. */
  leaderSilentMs(now: MonotonicMs): number | null {
    return this.#leaderAnsweredAt === never ? null : now - this.#leaderAnsweredAt;
  }

  isOutOfReach(now: MonotonicMs): boolean {
    return now - this.#lastSign > this.#silentMsMax;
  }

  /** At this time it counts as out of reach if no broker answers before. Infinity: it counts so already. */
  get outOfReachAt(): number {
    return this.#state === "out of reach" ? Number.POSITIVE_INFINITY : this.#lastSign + this.#silentMsMax + 1;
  }

  /** @returns the state and how long the home region was silent, once after each change; null: no change */
  drainChange(now: MonotonicMs): HomeChange | null {
    const state = this.isOutOfReach(now) ? "out of reach" : "in reach";
    if (state === this.#state) return null;
    this.#state = state;
    if (state === "out of reach") this.#silentSince = this.#lastSign;
    return { state, silentMs: now - this.#silentSince };
  }

  /** The last answer; before the first one, the start. */
  get #lastSign(): number {
    return Math.max(this.#brokerAnsweredAt, this.#startedAt);
  }
}
