/**
 * Read schedule: the times at which a node may read from a broker, so that a thousand nodes never read at once.
 *
 * - At most one read is in flight.
 * - After a failure the next read waits a random time (full jitter) under a bound that doubles.
 * - Reads for a reason that many nodes notice together (a gap, a fan-out that is down or back) are spread over a short
 *   time.
 * - A node that catches up pauses between pages for as long as a page takes, so slow brokers get fewer requests.
 * - A grant shortens the rest of a wait, because it shows that brokers answer.
 *
 * Pure; random bytes are an argument.
 */
import { type Backoff, backoffMs, upTo } from "../runtime/jitter.ts";

export type ReadReason = "gap" | "granted" | "more" | "asked";

const backoff: Backoff = { first: 500, max: 4_000 };
/** The time (ms) over which nodes spread their reads after the same event. */
const spreadMs = { gap: 30, granted: 30, regained: 250 };
const pauseMsMax = 250;
/** The gap (ms) between two reads at the head that a broker did not hold open. */
const pollGapMs = 50;
/** The largest gap (ms) after a read that brought events: every node may get one event at a time. */
const burstGapMs = 100;
const never = Number.POSITIVE_INFINITY;

export class ReadSchedule {
  readonly #random: (size: number) => Uint8Array;
  /** No read before this time, after a failure. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #failures = 0;
  /** When the scheduled read may be sent; never: none is scheduled. */
  #sendAt = never;
  /** When to poll without a sign of new events; never: no poll. */
  #pollAt = never;

  constructor(random: (size: number) => Uint8Array) {
    this.#random = random;
  }

  get failures(): number {
    return this.#failures;
  }
  get sendAt(): number {
    return this.#sendAt;
  }
  get pollAt(): number {
    return this.#pollAt;
  }

  /** Schedules a read that the follower requested. */
  scheduleRead(reason: ReadReason, now: number, lastTookMs: number): void {
    const spread = reason === "more" ? Math.min(lastTookMs, pauseMsMax) : reason === "asked" ? 0 : spreadMs[reason];
    this.#pollAt = never;
    this.#sendAt = Math.max(this.#notBefore, spread === 0 ? now : now + upTo(spread, this.#random));
  }

  /** A caller waits for the scheduled read: only the backoff after a failure still delays it. */
  expedite(now: number): void {
    if (this.#sendAt !== never) this.#sendAt = Math.min(this.#sendAt, Math.max(this.#notBefore, now));
  }

  /** Brokers answer: shortens the rest of a wait. */
  brokersAnswer(now: number): void {
    if (this.#notBefore <= now) return;
    this.#notBefore = Math.min(this.#notBefore, now + upTo(spreadMs.regained, this.#random));
    if (this.#sendAt !== never) this.#sendAt = Math.min(this.#sendAt, this.#notBefore);
    if (this.#pollAt !== never) this.#pollAt = Math.min(this.#pollAt, this.#notBefore);
  }

  /** Returns true once when the scheduled read must be sent now, and unschedules it. */
  takeRead(now: number): boolean {
    if (now < this.#sendAt) return false;
    this.#sendAt = never;
    return true;
  }

  /** Returns true once when a poll is due, and unschedules it. */
  takePoll(now: number): boolean {
    if (now < this.#pollAt) return false;
    this.#pollAt = never;
    return true;
  }

  cancelRead(): void {
    this.#sendAt = never;
  }

  recordFailure(now: number): void {
    this.#failures += 1;
    this.#notBefore = now + backoffMs(backoff, this.#failures, this.#random);
  }

  recordAnswer(): void {
    this.#failures = 0;
    this.#notBefore = Number.NEGATIVE_INFINITY;
  }

  /** Schedules a poll; after a failure, at the end of its wait. */
  pollAfterFailure(): void {
    this.#pollAt = Math.min(this.#pollAt, this.#notBefore);
  }

  /** Schedules a poll at the head after an answered read. */
  pollAtHead(now: number, read: Readonly<{ tookMs: number; brought: boolean; heldOpen: boolean }>): void {
    const gap = read.brought
      ? upTo(burstGapMs, this.#random)
      : read.heldOpen
        ? upTo(pollGapMs, this.#random)
        : Math.max(pollGapMs - read.tookMs, 0) + upTo(pollGapMs, this.#random);
    this.#pollAt = Math.min(this.#pollAt, now + gap);
  }

  /** Schedules a poll at a random time within `ms`, because many nodes do the same. */
  pollWithin(ms: number, now: number): void {
    this.#pollAt = Math.min(this.#pollAt, Math.max(this.#notBefore, now + upTo(ms, this.#random)));
  }

  stopPolling(): void {
    this.#pollAt = never;
  }
}
