/**
 * StepContext: the time, the outgoing effects, the pending log calls and the internal messages of one core step.
 *
 * No I/O: a log call leaves as an effect with a number, and its owner is found by that number when the answer arrives.
 * A call without an answer times out; a late answer finds no owner.
 */
import type { MonotonicMs } from "../../events/index.ts";
import type { Moment } from "../../replication/lease/index.ts";
import type { InternalMessage, LogCallOwner } from "./internal-messages.ts";
import type { BrokerEffect, LogAnswer, LogCall } from "./messages.ts";

type PendingCall = Readonly<{ owner: LogCallOwner; write: boolean; dueAt: number }>;

const writes: ReadonlySet<LogCall["op"]> = new Set(["openEpoch", "append", "beat"]);

export class StepContext {
  at: Moment = { monotonic: 0 as MonotonicMs, wall: 0 as Moment["wall"] };
  readonly messages: InternalMessage[] = [];
  readonly #answerMsMax: number;
  readonly #pendingCalls = new Map<number, PendingCall>();
  #effects: BrokerEffect[] = [];
  #callCount = 0;

  /** @param answerMsMax a log call that takes longer times out; a write is then indeterminate */
  constructor(answerMsMax: number) {
    this.#answerMsMax = answerMsMax;
  }

  get now(): MonotonicMs {
    return this.at.monotonic;
  }

  begin(at: Moment): void {
    this.at = at;
  }

  emit(effect: BrokerEffect): void {
    this.#effects.push(effect);
  }

  logger(level: "debug" | "info" | "warn" | "error", message: string, fields: object = {}): void {
    this.emit({ type: "logger", level, message, fields });
  }

  post(message: InternalMessage): void {
    this.messages.push(message);
  }

  callLog(call: LogCall, owner: LogCallOwner): void {
    this.#callCount += 1;
    const dueAt = this.now + this.#answerMsMax;
    this.#pendingCalls.set(this.#callCount, { owner, write: writes.has(call.op), dueAt });
    this.emit({ type: "log", id: this.#callCount, call });
  }

  /** The owner of this answer; undefined: none waits for it. */
  takeOwner(id: number): LogCallOwner | undefined {
    const pending = this.#pendingCalls.get(id);
    this.#pendingCalls.delete(id);
    return pending?.owner;
  }

  /** Calls that time out now, each with the outcome that stands in for its answer. */
  takeTimedOut(): readonly Readonly<{ owner: LogCallOwner; outcome: LogAnswer }>[] {
    if (this.callDueAt > this.now) return [];
    const timedOut: { owner: LogCallOwner; outcome: LogAnswer }[] = [];
    for (const [id, { owner, write, dueAt }] of this.#pendingCalls) {
      if (dueAt > this.now) break;
      this.#pendingCalls.delete(id);
      timedOut.push({ owner, outcome: { type: write ? "indeterminate" : "failed", cause: "no answer in time" } });
    }
    return timedOut;
  }

  /** All calls have the same time limit, so the oldest one is due first. */
  get callDueAt(): number {
    for (const { dueAt } of this.#pendingCalls.values()) return dueAt;
    return Number.POSITIVE_INFINITY;
  }

  /** The effects of this step, in order. */
  takeEffects(): readonly BrokerEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
