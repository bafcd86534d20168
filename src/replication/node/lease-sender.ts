/**
 * Lease sender: sends renewals, confirmations and the goodbye to the leader, on time and bounded in number.
 *
 * - It sends a renew every second with jitter, and one goodbye. Confirmations are sent at once, one in flight; the
 *   newest state follows when it is answered.
 * - The leader of several nodes names a pause between two confirmations. Then each also waits for a random part of it:
 *   a thousand nodes do not confirm one change together, and nodes of one machine all enforce a change before any
 *   confirms it. A renew meanwhile makes the confirmation unnecessary.
 * - It builds a message when it sends it, so the moment of a renew is never later than its sending.
 * - A failed renew does not hurry the next one: a thousand nodes without a leader send no more often than before.
 * - Pure: the caller passes the time, and `due` is the next time it must be called.
 */
import type { LeaseRefusal } from "../lease/lease-refusal.ts";
import { addJitter, upTo } from "../runtime/jitter.ts";
import type { LeaseMessage, NodeEffect } from "./messages.ts";

export type LeaseSenderOptions = Readonly<{
  random: (size: number) => Uint8Array;
  renewMs: number;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  /** Null: the node needs no more renews. */
  nextRenew: () => LeaseMessage | null;
  nextConfirm: () => LeaseMessage;
  nextGoodbye: () => LeaseMessage;
  /** Whether renews may still be sent early: before the first grant the sender does not wait the full second. */
  isHurried: () => boolean;
}>;

type Kind = LeaseMessage["type"];
type InFlight = Readonly<{ kind: Kind; at: number; until: number }>;

/** The timeout of an answer. An older renew is of no use, because newer ones have been sent. */
const answerMsMax = 5_000;
const renewsInFlightMax = 5;
/** A confirmation waits for one to two of so many parts of the pause, at random. */
const confirmWaitShare = 8;
/** In a small cluster at least so long (ms): the nodes of one machine have then all enforced the change. */
const confirmWaitMsMin = 5;
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
  /** When the confirmation that waits for a pause is sent. */
  #confirmAt = never;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #confirmPauseMs = 0;
  #confirmWaitMs = 0;
  /** The newest renew that replaced a confirmation. A leader that refuses it may not have counted what it says. */
  #carriedBy = 0;
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
    let due = Math.min(this.#renewAt, this.#confirmAt, this.#goodbyeAt);
    for (const { until } of this.#inFlight.values()) due = Math.min(due, until);
    return due;
  }

  /** Sends a renew now and schedules the next one. */
  renew(now: number): void {
    if (this.#stopped) return;
    this.#renewAt = now + addJitter(this.#renewDelayMs(), this.#options.random);
    if (this.#count("renew") >= renewsInFlightMax) return;
    const message = this.#options.nextRenew();
    if (message === null) return;
    this.#counts.renews += 1;
    this.#renewedAt = now;
    const carries = this.#confirmAt !== never || this.#confirmAgain;
    this.#confirmAt = never; // the renew says the same
    this.#confirmAgain = false;
    const id = this.#send(message, now, answerMsMax);
    if (carries) this.#carriedBy = id;
  }

  /** @param pauseMs the least time between two confirmations, as the leader wants it; 0: none */
  pauseConfirms(pauseMs: number): void {
    this.#confirmPauseMs = pauseMs;
    const shareMs = pauseMs / confirmWaitShare;
    this.#confirmWaitMs = Math.max(shareMs, confirmWaitMsMin) + upTo(shareMs, this.#options.random);
  }

  /** Sends a confirmation, or schedules it: `enforced` has moved past a change that a receipt may wait for. */
  confirm(now: number): void {
    this.#confirmAgain = true;
    if (this.#stopped || this.#goodbyes > 0 || this.#count("confirm") > 0) return;
    if (this.#confirmPauseMs === 0) {
      this.#sendConfirm(now);
      return;
    }
    if (this.#confirmAt !== never) return;
    this.#confirmAt = Math.max(now + this.#confirmWaitMs, this.#confirmedAt + this.#confirmPauseMs);
  }

  #sendConfirm(now: number): void {
    this.#confirmAt = never;
    this.#confirmAgain = false;
    this.#confirmedAt = now;
    this.#counts.confirms += 1;
    this.#send(this.#options.nextConfirm(), now, answerMsMax);
  }

  /** Sends a goodbye, repeated a few times on failure; no renew or confirmation follows. */
  leave(now: number): void {
    if (this.#goodbyes > 0) return;
    this.#renewAt = never;
    this.#confirmAt = never;
    this.#sendGoodbye(now);
  }

  stop(): void {
    this.#stopped = true;
    this.#renewAt = never;
    this.#confirmAt = never;
    this.#goodbyeAt = never;
    for (const id of this.#inFlight.keys()) this.#options.emit({ type: "cancel", id });
    this.#inFlight.clear();
  }

  /** @returns the message that it answers; undefined: no message is waiting for this answer */
  onAnswer(
    id: number,
    answer: Readonly<{ type: string; error?: unknown; refusal?: LeaseRefusal }>,
    now: number,
  ): InFlight | undefined {
    const call = this.#inFlight.get(id);
    if (call === undefined) return undefined;
    this.#inFlight.delete(id);
    if (answer.type === "failed" || answer.type === "refused") this.#recordFailure(call.kind, answer);
    else this.#failuresInARow = 0;
    if (call.kind === "goodbye") this.#afterGoodbye(answer.type === "taken", now);
    if (id === this.#carriedBy && answer.type === "refused") this.confirm(now);
    // After a failure, the next renew carries the same state.
    if (call.kind === "confirm" && this.#confirmAgain && answer.type === "taken") this.confirm(now);
    return call;
  }

  wake(now: number): void {
    for (const [id, { kind, until }] of this.#inFlight) {
      if (now < until) continue;
      this.#options.emit({ type: "cancel", id });
      this.onAnswer(id, { type: "failed", error: new Error(`no answer to a ${kind} in time`) }, now);
    }
    if (now >= this.#goodbyeAt) this.#sendGoodbye(now);
    if (now >= this.#renewAt) this.renew(now);
    if (now >= this.#confirmAt) this.#sendConfirm(now);
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
    else this.#goodbyeAt = now + addJitter(goodbyeGapMs, this.#options.random);
  }

  #send(message: LeaseMessage, now: number, withinMs: number): number {
    const id = this.#options.nextId();
    this.#inFlight.set(id, { kind: message.type, at: now, until: now + withinMs });
    this.#options.emit({ type: "sendLease", id, message });
    return id;
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
