/**
 * StepContext: the time, the outgoing effects, the pending log calls and the internal messages of one core step.
 *
 * No I/O: a question goes out as an effect with a number, and whoever asked it is found again by that number. A question without
 * an answer is given up on after a bound; an answer that comes after that finds nobody.
 */
import type { CommandId, LostTightening, MonotonicMs, Position, Recorded } from "../../events/index.ts";
import type { Moment } from "../../replication/index.ts";
import type { FirstLookup, FirstQuestion, PriorOutcome } from "../leader/duplicate-check.ts";
import type { LeaderEnd, OpenedEpoch } from "../leader/epoch.ts";
import type { EpochClaim } from "../leader/epoch-claims.ts";
import type { CommandWaiter } from "../leader/pending-commands.ts";
import type { RefreshedFor } from "../state/broker-state-sync.ts";
import type { BrokerEffect, CommandAnswer, LogAnswer, LogCall } from "./messages.ts";

/** Who asked a question, and what for. `term` numbers the epochs of this process: an answer to an earlier one finds nobody. */
export type LogCallOwner =
  | Readonly<{ to: "election"; of: "observe" | "open" | "resign" }>
  | Readonly<{ to: "keeper" }>
  | FirstQuestion
  | Readonly<{ to: "leader"; term: number; of: "beat" | "append" }>
  | Readonly<{ to: "leader"; term: number; of: "versions" | "keys"; ask: number }>
  | Readonly<{ to: "desk"; term: number; ask: number }>
  | Readonly<{ to: "claims"; term: number }>
  | Readonly<{ to: "receipts"; term: number; ask: number; of: "command" | "chain" }>
  | Readonly<{ to: "receipts"; term: number; ask: number; of: "previous" | "event"; position: Position }>
  | Readonly<{ to: "relay"; term: number; of: "page" | "keys" }>
  | Readonly<{ to: "pages"; ask: number; of: "page" | "keys" }>
  | Readonly<{ to: "duties" }>;

/** What one machine tells the others. */
export type InternalMessage =
  | Readonly<{ type: "standing"; standing: LeadershipState }>
  | Readonly<{ type: "contending" }>
  | Readonly<{ type: "opened"; opened: OpenedEpoch }>
  | Readonly<{ type: "resigned"; opened: OpenedEpoch | null }>
  | Readonly<{ type: "over" }>
  | Readonly<{ type: "refreshed"; for: RefreshedFor; ok: boolean }>
  | Readonly<{ type: "reached"; ok: boolean }>
  | Readonly<{ type: "folded"; events: readonly Recorded[] }>
  | Readonly<{ type: "lost"; events: readonly LostTightening[] }>
  | Readonly<{ type: "firstAnswer"; lookup: FirstLookup; answer: PriorOutcome }>
  | Readonly<{ type: "answered"; waiter: CommandWaiter; commandId: CommandId; answer: CommandAnswer }>
  | Readonly<{ type: "epochClaimed"; claim: EpochClaim }>
  | Readonly<{ type: "ended"; end: LeaderEnd }>;

/** `opening`: an epoch of ours is being opened, or opened again; commands are taken meanwhile. */
export type LeadershipState = "following" | "opening" | "leading";

type Asked = Readonly<{ purpose: LogCallOwner; write: boolean; dueAt: number }>;

const writes: ReadonlySet<LogCall["op"]> = new Set(["openEpoch", "append", "beat"]);

export class StepContext {
  at: Moment = { monotonic: 0 as MonotonicMs, wall: 0 as Moment["wall"] };
  readonly notes: InternalMessage[] = [];
  readonly #answerMsMax: number;
  readonly #asked = new Map<number, Asked>();
  #effects: BrokerEffect[] = [];
  #question = 0;

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
    this.emit({ type: "journal", level, message, fields });
  }

  post(note: InternalMessage): void {
    this.notes.push(note);
  }

  callLog(call: LogCall, purpose: LogCallOwner): void {
    this.#question += 1;
    const dueAt = this.now + this.#answerMsMax;
    this.#asked.set(this.#question, { purpose, write: writes.has(call.op), dueAt });
    this.emit({ type: "log", id: this.#question, call });
  }

  /** Whose answer this is; undefined when nobody waits for it any more. */
  answered(id: number): LogCallOwner | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    return asked?.purpose;
  }

  /** Questions that are given up on now, with what is answered in place of an answer. */
  overdue(): readonly Readonly<{ purpose: LogCallOwner; outcome: LogAnswer }>[] {
    if (this.questionDueAt > this.now) return [];
    const given: { purpose: LogCallOwner; outcome: LogAnswer }[] = [];
    for (const [id, { purpose, write, dueAt }] of this.#asked) {
      if (dueAt > this.now) break;
      this.#asked.delete(id);
      given.push({ purpose, outcome: { type: write ? "indeterminate" : "failed", cause: "no answer in time" } });
    }
    return given;
  }

  /** All have the same patience, so the first one asked is the first one due. */
  get questionDueAt(): number {
    for (const { dueAt } of this.#asked.values()) return dueAt;
    return Number.POSITIVE_INFINITY;
  }

  /** What is to be done, in order. */
  takeEffects(): readonly BrokerEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
