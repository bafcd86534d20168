/**
 * StepContext: the time, the outgoing effects, the pending log calls and the internal messages of one core step.
 *
 * No I/O: a question goes out as an effect with a number, and whoever asked it is found again by that number. A question without
 * an answer is given up on after a bound; an answer that comes after that finds nobody.
 */
import type { CommandId, LostTightening, MonotonicMs, Position, Recorded } from "../../events/index.ts";
import type { Moment } from "../../replication/index.ts";
import type { DuplicateCheckCall, DuplicateLookup, PriorOutcome } from "../leader/duplicate-check.ts";
import type { LeaderEnd, OpenedEpoch } from "../leader/epoch.ts";
import type { EpochClaim } from "../leader/epoch-claims.ts";
import type { CommandWaiter } from "../leader/pending-commands.ts";
import type { RefreshedFor } from "../state/broker-state-sync.ts";
import type { BrokerEffect, CommandAnswer, LogAnswer, LogCall } from "./messages.ts";

/** Who asked a question, and what for. `term` numbers the epochs of this process: an answer to an earlier one finds nobody. */
export type LogCallOwner =
  | Readonly<{ to: "election"; of: "observe" | "open" | "resign" }>
  | Readonly<{ to: "state-sync" }>
  | DuplicateCheckCall
  | Readonly<{ to: "leader"; leadershipNo: number; of: "beat" | "append" }>
  | Readonly<{ to: "leader"; leadershipNo: number; of: "versions" | "keys"; requestId: number }>
  | Readonly<{ to: "lease-requests"; leadershipNo: number; requestId: number }>
  | Readonly<{ to: "claims"; leadershipNo: number }>
  | Readonly<{ to: "receipts"; leadershipNo: number; requestId: number; of: "command" | "chain" }>
  | Readonly<{ to: "receipts"; leadershipNo: number; requestId: number; of: "previous" | "event"; position: Position }>
  | Readonly<{ to: "publisher"; leadershipNo: number; of: "page" | "keys" }>
  | Readonly<{ to: "pages"; requestId: number; of: "page" | "keys" }>
  | Readonly<{ to: "duties" }>;

/** What one machine tells the others. */
export type InternalMessage =
  | Readonly<{ type: "leadershipChanged"; leadershipState: LeadershipState }>
  | Readonly<{ type: "contending" }>
  | Readonly<{ type: "opened"; opened: OpenedEpoch }>
  | Readonly<{ type: "resigned"; opened: OpenedEpoch | null }>
  | Readonly<{ type: "electionEnded" }>
  | Readonly<{ type: "refreshed"; for: RefreshedFor; ok: boolean }>
  | Readonly<{ type: "headReached"; ok: boolean }>
  | Readonly<{ type: "eventsFolded"; events: readonly Recorded[] }>
  | Readonly<{ type: "denialsLost"; events: readonly LostTightening[] }>
  | Readonly<{ type: "duplicateChecked"; lookup: DuplicateLookup; answer: PriorOutcome }>
  | Readonly<{ type: "answered"; waiter: CommandWaiter; commandId: CommandId; answer: CommandAnswer }>
  | Readonly<{ type: "epochClaimed"; claim: EpochClaim }>
  | Readonly<{ type: "leaderEnded"; end: LeaderEnd }>;

/** `opening`: an epoch of ours is being opened, or opened again; commands are taken meanwhile. */
export type LeadershipState = "following" | "opening" | "leading";

type PendingCall = Readonly<{ owner: LogCallOwner; write: boolean; dueAt: number }>;

const writes: ReadonlySet<LogCall["op"]> = new Set(["openEpoch", "append", "beat"]);

export class StepContext {
  at: Moment = { monotonic: 0 as MonotonicMs, wall: 0 as Moment["wall"] };
  readonly messages: InternalMessage[] = [];
  readonly #answerMsMax: number;
  readonly #pendingCalls = new Map<number, PendingCall>();
  #effects: BrokerEffect[] = [];
  #callCount = 0;

  /** @param answerMsMax a question to the log that takes longer is given up on; a write is then indeterminate */
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

  /** Whose answer this is; undefined when nobody waits for it any more. */
  takeOwner(id: number): LogCallOwner | undefined {
    const pending = this.#pendingCalls.get(id);
    this.#pendingCalls.delete(id);
    return pending?.owner;
  }

  /** Questions that are given up on now, with what is answered in place of an answer. */
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

  /** All have the same patience, so the first one asked is the first one due. */
  get callDueAt(): number {
    for (const { dueAt } of this.#pendingCalls.values()) return dueAt;
    return Number.POSITIVE_INFINITY;
  }

  /** What is to be done, in order. */
  takeEffects(): readonly BrokerEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
