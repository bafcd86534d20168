/**
 * Leader: the writer of one epoch. Pure.
 *
 * Every write is made here, one at a time: what arrives while a commit is in flight forms the next batch, which is sent first when
 * that commit is answered; what the commit means to everybody is told right after, while the next one is under way. Renews
 * that wait are granted by the next write that began after they came. The outcome table of docs/protocol.md §3.2 is the
 * law here: only a clean commit is folded, published and answered; anything unclear ends the epoch, and whoever was
 * waiting learns the truth from the next one. When the epoch ends, for whatever reason, this leader grants and answers
 * nothing more.
 */
import { type Epoch, type MonotonicMs, sameLink, unreachable } from "../../events/index.ts";
import {
  type AppendOutcome,
  type BeatOutcome,
  type Granted,
  LeaseGranter,
  type LesseeStanding,
  type Renew,
  type RoleLimits,
  type WriteRound,
} from "../../replication/index.ts";
import type { Counters } from "../core/counters.ts";
import type { BrokerInput, Leadership, LogAnswer } from "../core/messages.ts";
import type { LogCallOwner, StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { PersonKeyCache } from "../state/person-key-cache.ts";
import type { BatchPublisher } from "./batch-publisher.ts";
import { type AfterBatch, BatchWriter, type Committed, type WriteTicket } from "./batch-writer.ts";
import type { BootKeys } from "./boot-keys.ts";
import type { BrokerPresences } from "./broker-presence.ts";
import type { DuplicateCheck, FirstLookup, PriorOutcome } from "./duplicate-check.ts";
import { type LeaderEnd, type OpenedEpoch, reopen } from "./epoch.ts";
import { LeaseRequestHandler } from "./lease-request-handler.ts";
import { unreadyFor } from "./level-readiness.ts";
import { nameLostLessees } from "./lost-lessees.ts";
import type { PendingCommands } from "./pending-commands.ts";
import type { ReassertionIntake } from "./reassertion-intake.ts";
import { ReceiptTracker } from "./receipt-tracker.ts";

export type LeaseOptions = Readonly<{
  deltaMs: number;
  drift: number;
  beatMs: number;
  /** The longest window of any role. */
  windowMaxMs: number;
  limits?: RoleLimits;
  /** The longest window of nodes in other processes; 0: none can reach this broker. Absent: `windowMaxMs`. */
  remoteWindowMaxMs?: number;
}>;

export type LeaderParts = Readonly<{
  work: StepContext;
  ledger: BrokerState;
  keys: PersonKeyCache;
  inbox: PendingCommands;
  firstAnswers: DuplicateCheck;
  relay: BatchPublisher;
  reports: ReassertionIntake;
  peers: BrokerPresences;
  bootKeys: BootKeys;
  counters: Counters;
  random: (bytes: number) => Uint8Array;
  lease: LeaseOptions;
  /** Nobody else can write this log. */
  exclusive: boolean;
  /** Also without anybody to grant to: candidates watch the beat. */
  idleBeatMs: number;
  version: string;
  wrappingKey: Uint8Array;
  vaultKey: Uint8Array;
  /** A proof that we lead is waited for no longer. */
  proofMsMax: number;
}>;

/** When no other append follows one within this, a beat tells the standbys' readers how far the log is durable. */
const showHeadMs = 25;

export class Leader {
  readonly opened: OpenedEpoch;
  readonly desk: LeaseRequestHandler;
  readonly receipts: ReceiptTracker;
  /** Numbers the epochs of this process. */
  readonly term: number;
  readonly #parts: LeaderParts;
  readonly #work: StepContext;
  readonly #granter: LeaseGranter;
  readonly #batches: BatchWriter;
  /** The beat that is under way. */
  #beating: WriteTicket | null = null;
  /** A clean commit that nobody was told of yet. */
  #committedBatch: Readonly<{ ticket: WriteTicket; committed: Committed }> | null = null;
  #end: LeaderEnd | null = null;
  #told: "yes" | "no" = "no";
  #stopping: "yes" | "no" = "no";
  /** Writes are numbered; `#clean` is the newest that committed cleanly. */
  #write = 0;
  #clean = 0;
  #proofWanted = 0;
  #storeAnswers = true;
  /** The last write was an append: other processes are shown it by the next one. */
  #showHead = false;
  /** Whose turn it is when both a beat is due and commands wait: where a commit takes longer than a beat may wait, one always is. */
  #turnOf: "beats" | "appends" = "beats";
  #lastWriteAt: number;
  #lastBeatAt: number;

  /** Starts leading an epoch that is open, with the ledger at its head. @param known whom the leader before this one in this process had granted to */
  constructor(parts: LeaderParts, of: Readonly<{ opened: OpenedEpoch; known: readonly Granted[]; term: number }>) {
    const { opened, known, term } = of;
    const { epoch, incarnation, openedAt, lessees } = opened;
    const { deltaMs, drift, windowMaxMs, limits } = parts.lease;
    this.opened = opened;
    this.term = term;
    this.#parts = parts;
    this.#work = parts.work;
    this.#lastWriteAt = openedAt;
    this.#lastBeatAt = openedAt;
    const start = opened.head.position;
    const terms = {
      ...{ deltaMs, drift, windowMaxMs, exclusive: parts.exclusive },
      ...(limits === undefined ? {} : { limits }),
    };
    this.#granter = new LeaseGranter({ epoch, incarnation, start, openedAt, lessees, known, ...terms });
    this.desk = new LeaseRequestHandler(parts, { granter: this.#granter, leadership: this.leadership, term });
    this.receipts = new ReceiptTracker(parts, { epoch, term });
    this.#batches = new BatchWriter(parts, { opened, term, unreadyFor: (level) => this.#unreadyFor(level) });
    parts.relay.begin(this.leadership, { start: opened.previous, term });
    parts.relay.publish({ previous: opened.previous, entries: [opened.entry], last: opened.head, newKeys: [] });
  }

  get leadership(): Leadership {
    return { epoch: this.opened.epoch, incarnation: this.opened.incarnation };
  }
  /** False while the store turns writes away. */
  get storeAnswers(): boolean {
    return this.#storeAnswers;
  }
  /** Null while this leader writes, grants and answers. */
  get end(): LeaderEnd | null {
    return this.#end;
  }

  standings(): readonly LesseeStanding[] {
    return nameLostLessees(this.#granter.standings(this.#work.now), this.#parts.ledger.nodesHeard);
  }
  /** Everybody who may hold a lease: the next epoch that this process leads must be told. */
  granted(): readonly Granted[] {
    return this.#granter.granted(this.#work.now);
  }
  mismatch(renew: Renew | null): boolean {
    return renew !== null && this.desk.compare(renew) === "other";
  }

  #unreadyFor(level: number): readonly string[] {
    const { peers, exclusive } = this.#parts;
    const ledForMs = exclusive ? Number.POSITIVE_INFINITY : this.#work.now - this.opened.openedAt;
    return unreadyFor(level, { reads: peers.own.reads, lessees: this.standings(), peers: peers.present, ledForMs });
  }

  /** Somebody authenticated spoke of a later epoch. */
  noticeEpoch(seen: Epoch): void {
    if (seen <= this.opened.epoch) return;
    this.finish({ type: "reopen", atLeast: (seen + 1) as Epoch, reason: `epoch ${seen} was spoken of` });
  }

  /** Finishes what is under way and ends. */
  stop(): void {
    this.#stopping = "yes";
  }

  /** From here on nothing is granted or answered. What is under way is waited for. */
  finish(end: LeaderEnd): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.desk.close();
    this.receipts.close();
    this.#parts.relay.end();
    this.#batches.discard();
    this.#tellWhenIdle();
  }

  #tellWhenIdle(): void {
    if (this.#end === null || this.#told === "yes" || this.#beating !== null || this.#committedBatch !== null) return;
    if (this.#batches.busy) return;
    this.#told = "yes";
    this.#work.post({ type: "ended", end: this.#end });
  }

  // --- what comes in

  nodeSaid(input: Extract<BrokerInput, { type: "nodeSaid" }>): void {
    this.desk.take(input);
  }

  receiptAsked(input: Extract<BrokerInput, { type: "receiptAsked" }>): void {
    this.receipts.ask(input);
  }

  /** After each input: receipts that can be answered now, are. */
  settle(): void {
    if (this.receipts.waiting === 0) return;
    this.#settleProofs();
    this.receipts.look(() => this.standings());
  }

  /** The answer to a question of ours. */
  answered(purpose: Extract<LogCallOwner, { to: "leader" }>, outcome: LogAnswer): void {
    switch (purpose.of) {
      case "beat":
        return this.#beaten(outcome as BeatOutcome);
      case "append":
        return this.#appended(outcome as AppendOutcome);
      case "versions":
      case "keys":
        if (this.#end === null) this.#go(this.#batches.loaded(purpose, outcome, this.#write + 1));
    }
  }

  first({ queued }: FirstLookup, answer: PriorOutcome): void {
    this.#batches.first(queued, answer);
  }

  // --- the loop

  get dueAt(): number {
    const { now } = this.#work;
    if (this.#committedBatch !== null) return now;
    const other = this.receipts.dueAt;
    const waits = this.#parts.inbox.waiting > 0;
    if (this.#end !== null || this.#beating !== null) return other;
    if (this.#batches.flying) return waits && this.#batches.hasRoom ? now : other;
    if (this.#batches.busy) return other;
    if (waits || this.#batches.drafted || this.#stopping === "yes") return now;
    return Math.min(other, this.#beatDueAt(now));
  }

  turn(): void {
    this.receipts.tick();
    const { now } = this.#work;
    if (this.#end !== null || this.#beating !== null) return;
    if (this.#batches.flying) return this.#ahead();
    if (this.#batches.busy) return;
    const waits = this.#parts.inbox.waiting > 0 || this.#batches.drafted;
    const beats = this.#beatDueAt(now) <= now;
    if (waits && (!beats || this.#turnOf === "appends")) {
      this.#append();
    } else if (this.#stopping === "yes" && !waits) {
      this.finish({ type: "stopped" });
    } else if (beats) {
      this.#turnOf = "appends";
      this.#beat();
    }
  }

  #append(): void {
    this.#turnOf = "beats";
    this.#go(this.#batches.begin(this.#write + 1));
  }

  #ahead(): void {
    if (this.#parts.inbox.waiting > 0 && this.#batches.hasRoom) this.#batches.ahead();
  }

  #go(after: AfterBatch): void {
    if (after === "loading") return;
    if (after === "idle") return this.#tellWhenIdle();
    if (after === "prove") return this.#beat();
    const { append } = after;
    this.#batches.appending(this.#begin("append"));
    this.#work.callLog({ op: "append", batch: append }, { to: "leader", term: this.term, of: "append" });
  }

  /** A write starts: numbered, and with the renews that wait for one. */
  #begin(kind: "beat" | "append"): WriteTicket {
    const { now } = this.#work;
    this.#lastWriteAt = now;
    this.#showHead = kind === "append";
    this.#write += 1;
    return { number: this.#write, round: this.#granter.beginWrite(kind, now) };
  }

  // --- appends

  #appended(outcome: AppendOutcome): void {
    const done = this.#batches.appended(outcome);
    if (done === undefined) return;
    const { ticket, committed, end } = done;
    if (committed !== null) {
      this.#committedBatch = { ticket, committed };
      const { now } = this.#work;
      if (this.#end === null && this.#batches.ready && this.#beatDueAt(now) > now) this.#append();
      return;
    }
    this.desk.abandon(ticket.round);
    this.#batches.proven(ticket.number, outcome.type === "unavailable" ? "unavailable" : "not-clean");
    if (end !== null) this.finish(end);
    this.#afterWrite();
  }

  /**
   * Tells what has committed cleanly: folds it, publishes it, answers and grants. To be called before anything else is looked at:
   * only a batch that stands ready goes before it.
   */
  publishCommitted(): void {
    const landed = this.#committedBatch;
    if (landed === null) return;
    this.#committedBatch = null;
    const { ticket, committed } = landed;
    this.#batches.committed(committed);
    this.#clean = ticket.number;
    this.#storeAnswers = true;
    if (this.#end === null) this.desk.settle(ticket.round, committed.batch.last);
    else this.desk.abandon(ticket.round);
    this.#batches.proven(ticket.number, "clean");
    this.#afterWrite();
  }

  // --- beats

  #beatDueAt(now: MonotonicMs): number {
    const { beatMs } = this.#parts.lease;
    if (this.#proofWanted > this.#write) return now;
    if (this.#proofWanted > this.#clean) return this.#lastBeatAt + beatMs;
    if (this.#granter.needsBeat(now)) return this.#lastBeatAt + beatMs;
    if (this.#parts.exclusive) return this.#granter.waiting > 0 ? this.#lastWriteAt + beatMs : Number.POSITIVE_INFINITY;
    if (this.#showHead) return this.#lastWriteAt + Math.min(beatMs, showHeadMs);
    const watched = this.#granter.waiting > 0 || this.#granter.lessees > 0;
    return this.#lastWriteAt + (watched ? beatMs : Math.max(beatMs, this.#parts.idleBeatMs));
  }

  #beat(): void {
    const { epoch, incarnation } = this.opened;
    this.#lastBeatAt = this.#work.now;
    const ticket = this.#begin("beat");
    this.#beating = ticket;
    const { lessees, left } = ticket.round;
    const request = { epoch, incarnation, head: this.#parts.ledger.applied, lessees, left };
    this.#work.callLog({ op: "beat", request }, { to: "leader", term: this.term, of: "beat" });
  }

  #beaten(outcome: BeatOutcome): void {
    if (this.#beating === null) return;
    const { number, round } = this.#beating;
    this.#beating = null;
    const clean = this.#end === null && this.#beatOutcome(outcome, round);
    if (clean) {
      this.#clean = number;
      this.#batches.proven(number, "clean");
    } else {
      this.desk.abandon(round);
      this.#batches.proven(number, this.#end === null ? "unavailable" : "not-clean");
    }
    this.#afterWrite();
  }

  /** @returns whether it has committed cleanly, at the head where we stand */
  #beatOutcome(outcome: BeatOutcome, round: WriteRound): boolean {
    const { counters, ledger } = this.#parts;
    const head = ledger.applied;
    if (outcome.type === "beaten" && sameLink(outcome.head, head)) {
      counters.beats += 1;
      this.#storeAnswers = true;
      this.desk.settle(round, head);
      return true;
    }
    counters.beatsNotClean += 1;
    this.#storeAnswers = outcome.type !== "unavailable";
    switch (outcome.type) {
      case "beaten":
      case "head-moved":
        this.finish(reopen("the head is not where we left it"));
        return false;
      case "fenced":
        this.finish({ type: "fenced" });
        return false;
      case "indeterminate":
        this.finish(reopen("a beat's outcome is unknown"));
        return false;
      case "unavailable": {
        const message = "the event log is not available: nobody is granted a lease";
        this.#work.logger("warn", message, { err: outcome.cause });
        return false;
      }
      default:
        return unreachable(outcome);
    }
  }

  #afterWrite(): void {
    this.#settleProofs();
    this.#tellWhenIdle();
  }

  /** Receipts that want to call something lost wait for a write that began after they asked. */
  #settleProofs(): void {
    this.#proofWanted = Math.max(this.#proofWanted, this.receipts.prove({ write: this.#write, clean: this.#clean }));
  }
}
