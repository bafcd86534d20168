/**
 * Read schedule: when a node may read from a broker, so that a thousand of them never do at once.
 *
 * At most one read is in flight. After a failure the next one waits under a bound that doubles, anywhere within it
 * (full jitter); what many nodes notice together (a gap, a fan-out that is gone or back) is spread over a short while;
 * whoever catches up pauses between pages for as long as pages take, so that brokers that are slow are asked less. A
 * grant shortens what is left of a wait, for it shows that brokers answer. Pure; random bytes are an argument.
 */
import { type Backoff, backoffMs, upTo } from "../runtime/jitter.ts";

export type ReadReason = "gap" | "granted" | "more" | "asked";

const backoff: Backoff = { first: 500, max: 4_000 };
/** How long those who notice the same thing take to ask about it. */
const spreadMs = { gap: 30, granted: 30, regained: 250 };
const pauseMsMax = 250;
/** Between two reads at the head that a broker did not hold open. */
const pollGapMs = 50;
/** Between two that brought something: it may be one event at a time, to everybody. */
const burstGapMs = 100;
const never = Number.POSITIVE_INFINITY;

export class ReadSchedule {
  readonly #random: (size: number) => Uint8Array;
  /** No read before this: brokers have not answered. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #failures = 0;
  /** When the read that is wanted may be sent; never: none is. */
  #sendAt = never;
  /** When to look again although nobody has said that there is more. */
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

  /** The follower wants a read. */
  scheduleRead(reason: ReadReason, now: number, lastTookMs: number): void {
    const spread = reason === "more" ? Math.min(lastTookMs, pauseMsMax) : reason === "asked" ? 0 : spreadMs[reason];
    this.#pollAt = never;
    this.#sendAt = Math.max(this.#notBefore, spread === 0 ? now : now + upTo(spread, this.#random));
  }

  /** Somebody waits for what is wanted already: it is only held back by brokers that do not answer. */
  expedite(now: number): void {
    if (this.#sendAt !== never) this.#sendAt = Math.min(this.#sendAt, Math.max(this.#notBefore, now));
  }

  /** Brokers answer: what is left of a wait is over soon. */
  brokersAnswer(now: number): void {
    if (this.#notBefore <= now) return;
    this.#notBefore = Math.min(this.#notBefore, now + upTo(spreadMs.regained, this.#random));
    if (this.#sendAt !== never) this.#sendAt = Math.min(this.#sendAt, this.#notBefore);
    if (this.#pollAt !== never) this.#pollAt = Math.min(this.#pollAt, this.#notBefore);
  }

  /** True when the wanted read is to be sent now; it is not wanted any more then. */
  takeRead(now: number): boolean {
    if (now < this.#sendAt) return false;
    this.#sendAt = never;
    return true;
  }

  /** True when it is time to look again. */
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

  /** Look again: after a failure when its wait is over. */
  pollAfterFailure(): void {
    this.#pollAt = Math.min(this.#pollAt, this.#notBefore);
  }

  /** Look again at the head, where a read has just been answered. */
  pollAtHead(now: number, read: Readonly<{ tookMs: number; brought: boolean; heldOpen: boolean }>): void {
    const gap = read.brought
      ? upTo(burstGapMs, this.#random)
      : read.heldOpen
        ? upTo(pollGapMs, this.#random)
        : Math.max(pollGapMs - read.tookMs, 0) + upTo(pollGapMs, this.#random);
    this.#pollAt = Math.min(this.#pollAt, now + gap);
  }

  /** Look again within a while, as many others will. */
  pollWithin(ms: number, now: number): void {
    this.#pollAt = Math.min(this.#pollAt, Math.max(this.#notBefore, now + upTo(ms, this.#random)));
  }

  stopPolling(): void {
    this.#pollAt = never;
  }
}
