/**
 * Lease sender: sends renewals, confirmations and the goodbye to the leader, on time and bounded in number.
 *
 * A renew every second with jitter, a confirmation as soon as there is one (one in flight, the newest word follows),
 * and one goodbye. What is said is asked for when it is sent, so that a renew's own moment is never later than its
 * sending. A failed renew does not hurry the next one: a thousand nodes whose leader is gone ask no more often than
 * before. Pure: it is told the time, and says when it is next due.
 */
import type { LeaseRefusal } from "../lease/lease-refusal.ts";
import { jittered } from "../runtime/jitter.ts";
import type { LeaseMessage, NodeEffect } from "./messages.ts";

export type LeaseSenderOptions = Readonly<{
  random: (size: number) => Uint8Array;
  renewMs: number;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  /** Null: there is nothing to renew any more. */
  nextRenew: () => LeaseMessage | null;
  nextConfirm: () => LeaseMessage;
  nextGoodbye: () => LeaseMessage;
  /** How many turns may still be taken early: before the first grant we do not wait the whole second. */
  isHurried: () => boolean;
}>;

type Kind = LeaseMessage["type"];
type InFlight = Readonly<{ kind: Kind; at: number; until: number }>;

/** A renew older than this has lost its worth; the next ones have long been sent. */
const answerMsMax = 5_000;
const renewsInFlightMax = 5;
const hurryMs = { first: 250, growth: 1.15 };
const goodbyeAttempts = 4;
const goodbyeGapMs = 250;
const goodbyeMsMax = 1_000;
const never = Number.POSITIVE_INFINITY;

export class LeaseSender {
  readonly #options: LeaseSenderOptions;
  readonly #inFlight = new Map<number, InFlight>();
  readonly #counts = { renews: 0, confirms: 0, leaseFailures: 0 };
  #renewAt = never;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #hurried = 0;
  #confirmAgain = false;
  #goodbyes = 0;
  #goodbyeAt = never;
  #stopped = false;
  #failuresInARow = 0;

  constructor(options: LeaseSenderOptions) {
    this.#options = options;
  }

  get counts(): Readonly<{ renews: number; confirms: number; leaseFailures: number }> {
    return this.#counts;
  }
  /** When the newest renew was sent. */
  get renewedAt(): number {
    return this.#renewedAt;
  }
  get due(): number {
    let due = Math.min(this.#renewAt, this.#goodbyeAt);
    for (const { until } of this.#inFlight.values()) due = Math.min(due, until);
    return due;
  }

  /** Takes a turn now, and the next ones in time. */
  renew(now: number): void {
    if (this.#stopped) return;
    this.#renewAt = now + jittered(this.#renewDelayMs(), this.#options.random);
    if (this.#count("renew") >= renewsInFlightMax) return;
    const message = this.#options.nextRenew();
    if (message === null) return;
    this.#counts.renews += 1;
    this.#renewedAt = now;
    this.#send(message, now, answerMsMax);
  }

  /** `enforced` has moved past something that somebody may wait for. */
  confirm(now: number): void {
    this.#confirmAgain = true;
    if (this.#stopped || this.#goodbyes > 0 || this.#count("confirm") > 0) return;
    this.#confirmAgain = false;
    this.#counts.confirms += 1;
    this.#send(this.#options.nextConfirm(), now, answerMsMax);
  }

  /** Says goodbye, a few times if need be; nothing else is said any more. */
  leave(now: number): void {
    if (this.#goodbyes > 0) return;
    this.#renewAt = never;
    this.#sendGoodbye(now);
  }

  stop(): void {
    this.#stopped = true;
    this.#renewAt = never;
    this.#goodbyeAt = never;
    for (const id of this.#inFlight.keys()) this.#options.emit({ type: "cancel", id });
    this.#inFlight.clear();
  }

  /** @returns what it is the answer to; undefined: nothing that anybody waits for any more */
  onAnswer(
    id: number,
    answer: Readonly<{ type: string; error?: unknown; refusal?: LeaseRefusal }>,
    now: number,
  ): InFlight | undefined {
    const asked = this.#inFlight.get(id);
    if (asked === undefined) return undefined;
    this.#inFlight.delete(id);
    if (answer.type === "failed" || answer.type === "refused") this.#recordFailure(asked.kind, answer);
    else this.#failuresInARow = 0;
    if (asked.kind === "goodbye") this.#afterGoodbye(answer.type === "taken", now);
    // After a failure the next renew says the same.
    if (asked.kind === "confirm" && this.#confirmAgain && answer.type === "taken") this.confirm(now);
    return asked;
  }

  wake(now: number): void {
    for (const [id, { kind, until }] of this.#inFlight) {
      if (now < until) continue;
      this.#options.emit({ type: "cancel", id });
      this.onAnswer(id, { type: "failed", error: new Error(`no answer to a ${kind} in time`) }, now);
    }
    if (now >= this.#goodbyeAt) this.#sendGoodbye(now);
    if (now >= this.#renewAt) this.renew(now);
  }

  #renewDelayMs(): number {
    const { renewMs, isHurried } = this.#options;
    if (!isHurried()) return renewMs;
    this.#hurried += 1;
    return Math.min(renewMs, hurryMs.first * hurryMs.growth ** Math.min(this.#hurried, 100));
  }

  #sendGoodbye(now: number): void {
    this.#goodbyeAt = never;
    this.#goodbyes += 1;
    this.#send(this.#options.nextGoodbye(), now, goodbyeMsMax);
  }

  #afterGoodbye(taken: boolean, now: number): void {
    if (taken || this.#goodbyes >= goodbyeAttempts) this.#options.emit({ type: "left", taken });
    else this.#goodbyeAt = now + jittered(goodbyeGapMs, this.#options.random);
  }

  #send(message: LeaseMessage, now: number, withinMs: number): void {
    const id = this.#options.nextId();
    this.#inFlight.set(id, { kind: message.type, at: now, until: now + withinMs });
    this.#options.emit({ type: "sendLease", id, message });
  }

  #recordFailure(kind: Kind, { error, refusal }: Readonly<{ error?: unknown; refusal?: LeaseRefusal }>): void {
    this.#counts.leaseFailures += 1;
    this.#failuresInARow += 1;
    const level = Number.isInteger(Math.log2(this.#failuresInARow)) ? "warn" : "debug";
    const message = refusal === undefined ? `a ${kind} was not answered` : `a ${kind} was refused`;
    this.#options.emit({
      type: "log",
      level,
      message,
      fields: { err: error, reason: refusal?.message, inARow: this.#failuresInARow },
    });
  }

  #count(kind: Kind): number {
    let count = 0;
    for (const each of this.#inFlight.values()) if (each.kind === kind) count += 1;
    return count;
  }
}
