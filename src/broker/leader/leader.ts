/**
 * Leader: the writer of one epoch. Pure.
 *
 * - It makes one write at a time. Commands that arrive while a commit is in flight form the next batch, which is sent
 *   first when that commit is answered; the commit is published and answered right after, while the next one is in
 *   flight.
 * - A waiting renew is granted by the first write that began after the renew arrived and committed cleanly.
 * - No beat starts while a command waits, because an append serves the renews and proofs of a beat as well. Only a beat
 *   writes the rows of lessees: while it has some to write, beats and appends take turns.
 * - It follows the outcome table of docs/protocol.md §3.2: only a clean commit is published, folded and answered.
 *   Anything unclear ends the epoch, and waiting callers learn the truth from the next one.
 * - When its epoch has ended for any reason, it grants and answers nothing more.
 */

import { type Epoch, type MonotonicMs, type NodeId, nextEpoch, sameLink, unreachable } from "../../events/index.ts";
import {
  type AdmittedBefore,
  AdmittedNodes,
  type GrantedLessee,
  LeaseGranter,
  type LesseeStatus,
  type NodeRows,
  noNodeRows,
  type WriteRound,
} from "../../replication/lease/index.ts";
import { type AppendOutcome, type BeatOutcome, isLostHistory } from "../../replication/log/index.ts";
import type { Renew } from "../../replication/wire/index.ts";
import { AbsenceWatch } from "../core/absence-watch.ts";
import type { DuplicateLookup, LeaderEnd, LogCallOwner, OpenedEpoch, PriorOutcome } from "../core/internal-messages.ts";
import type { BrokerInput, Leadership, LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import { BatchWriter, type Committed, type NextStep, type WriteTicket } from "./batch-writer.ts";
import { reopen } from "./epoch.ts";
import type { LeaderParts } from "./leader-parts.ts";
import { LeaseRequestHandler } from "./lease-request-handler.ts";
import { unreadyFor } from "./level-readiness.ts";
import { PendingConclusions } from "./pending-conclusions.ts";
import { ReceiptTracker } from "./receipt-tracker.ts";

/** If no append follows within this time, a beat shows the readers of standbys how far the log is durable. */
const showHeadMs = 25;

export class Leader {
  readonly opened: OpenedEpoch;
  readonly leaseRequests: LeaseRequestHandler;
  readonly receipts: ReceiptTracker;
  readonly absence: AbsenceWatch;
  /** Numbers the epochs of this process. */
  readonly leadershipNo: number;
  readonly #parts: LeaderParts;
  readonly #context: StepContext;
  readonly #granter: LeaseGranter;
  readonly #nodes: AdmittedNodes;
  readonly #batches: BatchWriter;
  readonly #conclusions: PendingConclusions;
  /** The beat in flight. */
  #beating: (WriteTicket & Readonly<{ rows: NodeRows }>) | null = null;
  /** A clean commit that is not folded yet. */
  #committedBatch: Readonly<{ ticket: WriteTicket; committed: Committed; isPublished: boolean }> | null = null;
  #end: LeaderEnd | null = null;
  #endReported = false;
  #stopping = false;
  /** Writes are numbered; `#newestClean` is the newest that committed cleanly. */
  #newestWrite = 0;
  #newestClean = 0;
  #proofNeeded = 0;
  #storeAnswers = true;
  /** The last write was an append: the next write shows it to other processes. */
  #showHead = false;
  /** Which goes first when rows of lessees are due and commands wait. With slow commits, rows are due all the time. */
  #nextTurn: "beats" | "appends" = "beats";
  #lastWriteAt: number;
  /** When the newest append committed cleanly. */
  #lastAppendedAt: number;
  #lastBeatAt: number;

  /**
   * Starts to lead an open epoch; the broker state is at its head.
   * @param of.known the lessees of this process's previous leader
   * @param of.before its admitted nodes; null: another process has led since
   */
  constructor(
    parts: LeaderParts,
    of: Readonly<{
      opened: OpenedEpoch;
      known: readonly GrantedLessee[];
      before: AdmittedBefore | null;
      leadershipNo: number;
    }>,
  ) {
    const { opened, known, before, leadershipNo } = of;
    const { epoch, incarnation, openedAt, lessees } = opened;
    const { deltaMs, drift, windowMaxMs, limits } = parts.lease;
    this.opened = opened;
    this.leadershipNo = leadershipNo;
    this.#parts = parts;
    this.#context = parts.context;
    this.#lastWriteAt = openedAt;
    this.#lastAppendedAt = openedAt;
    this.#lastBeatAt = openedAt;
    const start = opened.head.position;
    const granterOptions = {
      deltaMs,
      drift,
      windowMaxMs,
      exclusive: parts.exclusive,
      ...(parts.region === undefined ? {} : { region: parts.region }),
      ...(limits === undefined ? {} : { limits }),
    };
    this.#granter = new LeaseGranter({
      epoch,
      incarnation,
      start,
      openedAt,
      lessees,
      grantedBefore: known,
      ...granterOptions,
    });
    this.#nodes = new AdmittedNodes({ rows: opened.admitted, before, lessees, at: parts.context.at });
    this.absence = new AbsenceWatch(parts.context, {
      nodes: this.#nodes,
      lessees: () => this.standings(),
      deltaMs,
      counters: parts.counters,
    });
    this.leaseRequests = new LeaseRequestHandler(parts, {
      granter: this.#granter,
      nodes: this.#nodes,
      leadership: this.leadership,
      leadershipNo,
    });
    this.receipts = new ReceiptTracker(parts, { epoch, leadershipNo });
    this.#conclusions = new PendingConclusions(parts, leadershipNo);
    this.#batches = new BatchWriter(parts, {
      opened,
      leadershipNo,
      conclusions: this.#conclusions,
      unreadyFor: (level) => this.#unreadyFor(level),
      admittedNodes: () => this.absence.admitted(),
    });
    parts.publisher.begin(this.leadership, { start: opened.previous, leadershipNo });
    parts.publisher.publish({ previous: opened.previous, entries: [opened.entry], last: opened.head, newKeys: [] });
  }

  get leadership(): Leadership {
    return { epoch: this.opened.epoch, incarnation: this.opened.incarnation };
  }
  /** False while the store rejects writes. */
  get storeAnswers(): boolean {
    return this.#storeAnswers;
  }
  /** Null while this leader writes, grants and answers. */
  get end(): LeaderEnd | null {
    return this.#end;
  }

  standings(): readonly LesseeStatus[] {
    return nameLostLessees(this.#granter.statuses(this.#context.now), this.#parts.state.knownNodes);
  }
  /** All nodes that may hold a lease, for the next epoch that this process leads. */
  granted(): readonly GrantedLessee[] {
    return this.#granter.grantedLessees(this.#context.now);
  }
  /** All nodes that were admitted, for the next epoch that this process leads. */
  admitted(): AdmittedBefore {
    return this.#nodes.carryOver();
  }
  hasDigestMismatch(renew: Renew | null): boolean {
    return renew !== null && this.leaseRequests.compareDigest(renew) === "other";
  }

  #unreadyFor(level: number): readonly string[] {
    const { peers, exclusive } = this.#parts;
    const isNewLog =
      this.#parts.state.applied.position === this.opened.head.position && this.opened.previous.position === 0;
    const ledForMs = exclusive || isNewLog ? Number.POSITIVE_INFINITY : this.#context.now - this.opened.openedAt;
    return unreadyFor(level, { reads: peers.own.reads, lessees: this.standings(), peers: peers.alive, ledForMs });
  }

  /** An authenticated sender named a later epoch. */
  noticeEpoch(seen: Epoch): void {
    if (seen <= this.opened.epoch) return;
    this.finish({ type: "reopen", atLeast: nextEpoch(seen), reason: `epoch ${seen} was named by another process` });
  }

  /** Finishes the writes in flight and ends. */
  stop(): void {
    this.#stopping = true;
  }

  /** Grants and answers nothing from here on, and waits for the writes in flight. */
  finish(end: LeaderEnd): void {
    if (this.#end !== null) return;
    this.#end = end;
    this.leaseRequests.close();
    this.receipts.close();
    this.#parts.publisher.end();
    this.#batches.discard();
    this.#reportEndWhenIdle();
  }

  #reportEndWhenIdle(): void {
    if (this.#end === null || this.#endReported || this.#beating !== null || this.#committedBatch !== null) return;
    if (this.#batches.busy) return;
    this.#endReported = true;
    this.#context.post({ type: "leaderEnded", end: this.#end });
  }

  // --- inputs

  nodeMessage(input: Extract<BrokerInput, { type: "nodeMessage" }>): void {
    this.leaseRequests.handle(input);
  }

  receiptRequested(input: Extract<BrokerInput, { type: "receiptRequested" }>): void {
    this.receipts.request(input);
  }

  /** Answers the receipts that can be answered now. Called after each input. */
  answerReceipts(): void {
    if (this.receipts.waiting === 0) return;
    this.#settleProofs();
    this.receipts.answerDue({
      standings: () => this.standings(),
      regions: () => this.absence.regions(),
      lowestEnforced: (region) => this.#granter.lowestEnforced(this.#context.now, region),
    });
  }

  /** The answer to a log call of the leader. */
  logAnswered(owner: Extract<LogCallOwner, { to: "leader" }>, outcome: LogAnswer): void {
    switch (owner.of) {
      case "beat":
        this.#beatAnswered(outcome as BeatOutcome);
        return;
      case "append":
        this.#appendAnswered(outcome as AppendOutcome);
        return;
      case "versions":
      case "keys":
        if (this.#end === null) this.#follow(this.#batches.loaded(owner, outcome, this.#newestWrite + 1));
    }
  }

  duplicateChecked({ queued }: DuplicateLookup, answer: PriorOutcome): void {
    this.#conclusions.duplicateChecked(queued, answer);
  }

  // --- the loop

  get dueAt(): number {
    const { now } = this.#context;
    if (this.#committedBatch !== null) return now;
    const receiptsDueAt = this.receipts.dueAt;
    const commandsWait = this.#parts.pendingCommands.waiting > 0;
    if (this.#end !== null || this.#beating !== null) return receiptsDueAt;
    if (this.#batches.hasInFlight) return commandsWait && this.#batches.hasRoom ? now : receiptsDueAt;
    if (this.#batches.busy) return receiptsDueAt;
    if (commandsWait || this.#batches.hasDraft || this.#stopping) return now;
    return Math.min(receiptsDueAt, this.absence.dueAt, this.#beatDueAt(now));
  }

  tick(): void {
    this.receipts.tick();
    if (this.#end === null) this.absence.tick();
    const { now } = this.#context;
    if (this.#end !== null || this.#beating !== null) return;
    if (this.#batches.hasInFlight) {
      this.#extendDraft();
      return;
    }
    if (this.#batches.busy) return;
    const commandsWait = this.#parts.pendingCommands.waiting > 0 || this.#batches.hasDraft;
    if (commandsWait && !this.#rowsGoFirst(now)) {
      this.#append();
    } else if (this.#stopping && !commandsWait) {
      this.finish({ type: "stopped" });
    } else if (this.#beatDueAt(now) <= now) {
      this.#nextTurn = "appends";
      this.#beat();
    }
  }

  #append(): void {
    this.#nextTurn = "beats";
    this.#follow(this.#batches.begin(this.#newestWrite + 1));
  }

  #extendDraft(): void {
    if (this.#parts.pendingCommands.waiting > 0 && this.#batches.hasRoom) this.#batches.extendDraft();
  }

  #follow(after: NextStep): void {
    if (after === "loading") return;
    if (after === "idle") {
      this.#reportEndWhenIdle();
      return;
    }
    if (after === "prove") {
      this.#beat();
      return;
    }
    const { append } = after;
    this.#nodes.beginRetiring(append.retired ?? []);
    this.#batches.appending(this.#begin("append"));
    this.#context.callLog(
      { op: "append", batch: append },
      { to: "leader", leadershipNo: this.leadershipNo, of: "append" },
    );
  }

  /** Starts a write: numbers it and assigns the waiting renews to it. */
  #begin(kind: "beat" | "append"): WriteTicket {
    const { now } = this.#context;
    this.#lastWriteAt = now;
    this.#showHead = kind === "append";
    this.#newestWrite += 1;
    return { number: this.#newestWrite, round: this.#granter.beginWrite(kind, now) };
  }

  // --- appends

  #appendAnswered(outcome: AppendOutcome): void {
    const done = this.#batches.appended(outcome);
    if (done === undefined) return;
    const { ticket, committed, end } = done;
    if (committed !== null) {
      // A batch that is ready leaves first. Signing this one must not keep it from the store.
      const isNextReady = this.#end === null && this.#batches.ready && !this.#rowsGoFirst(this.#context.now);
      this.#committedBatch = { ticket, committed, isPublished: !isNextReady };
      if (isNextReady) this.#append();
      else this.#parts.publisher.publish(committed.batch);
      return;
    }
    this.leaseRequests.dropRound(ticket.round);
    this.#conclusions.writeEnded(ticket.number, outcome.type === "unavailable" ? "unavailable" : "not-clean");
    if (end !== null) this.finish(end);
    this.#afterWrite();
  }

  /**
   * Publishes a clean commit unless that has happened, folds it, answers its commands and grants its renews. Must run
   * before any other input: only a batch that is ready is sent before it.
   */
  foldCommitted(): void {
    const committedBatch = this.#committedBatch;
    if (committedBatch === null) return;
    this.#committedBatch = null;
    const { ticket, committed, isPublished } = committedBatch;
    if (!isPublished) this.#parts.publisher.publish(committed.batch);
    this.#batches.foldCommitted(committed);
    this.#nodes.retire(committed.batch.retired ?? []);
    this.#newestClean = ticket.number;
    this.#lastAppendedAt = this.#context.now;
    this.#storeAnswers = true;
    if (this.#end === null) this.leaseRequests.grantAfterCommit(ticket.round, committed.batch.last);
    else this.leaseRequests.dropRound(ticket.round);
    this.#conclusions.writeEnded(ticket.number, "clean");
    this.#afterWrite();
  }

  // --- beats

  /** Whether a beat precedes the commands that wait. */
  #rowsGoFirst(now: MonotonicMs): boolean {
    return this.#nextTurn === "beats" && this.#granter.needsBeat(now) && this.#beatDueAt(now) <= now;
  }

  #beatDueAt(now: MonotonicMs): number {
    const { beatMs } = this.#parts.lease;
    if (this.#proofNeeded > this.#newestWrite) return now;
    if (this.#proofNeeded > this.#newestClean) return this.#lastBeatAt + beatMs;
    if (this.#granter.needsBeat(now) || this.#nodes.needsBeat) return this.#lastBeatAt + beatMs;
    if (this.#parts.exclusive) return this.#granter.queued > 0 ? this.#lastWriteAt + beatMs : Number.POSITIVE_INFINITY;
    // Counted from the commit: a caller that sends one command after the other is faster than the beat.
    if (this.#showHead) return this.#lastAppendedAt + Math.min(beatMs, showHeadMs);
    const isWatched = this.#granter.queued > 0 || this.#granter.lessees > 0;
    return this.#lastWriteAt + (isWatched ? beatMs : Math.max(beatMs, this.#parts.idleBeatMs));
  }

  #beat(): void {
    const { epoch, incarnation } = this.opened;
    this.#lastBeatAt = this.#context.now;
    const ticket = this.#begin("beat");
    const rows = this.#nodes.rowsDue();
    this.#beating = { ...ticket, rows };
    const { lessees, left } = ticket.round;
    const beat = { epoch, incarnation, head: this.#parts.state.applied, lessees, left };
    const request = rows === noNodeRows ? beat : { ...beat, ...rows };
    this.#context.callLog({ op: "beat", request }, { to: "leader", leadershipNo: this.leadershipNo, of: "beat" });
  }

  #beatAnswered(outcome: BeatOutcome): void {
    if (this.#beating === null) return;
    const { number, round, rows } = this.#beating;
    this.#beating = null;
    const clean = this.#end === null && this.#beatOutcome(outcome, round);
    if (clean) {
      this.#nodes.rowsWritten(rows);
      this.#newestClean = number;
      this.#conclusions.writeEnded(number, "clean");
    } else {
      this.leaseRequests.dropRound(round);
      this.#conclusions.writeEnded(number, this.#end === null ? "unavailable" : "not-clean");
    }
    this.#afterWrite();
  }

  /** @returns whether the beat committed cleanly, at our head */
  #beatOutcome(outcome: BeatOutcome, round: WriteRound): boolean {
    const { counters, state } = this.#parts;
    const head = state.applied;
    if (outcome.type === "beaten" && sameLink(outcome.head, head)) {
      counters.beats += 1;
      this.#storeAnswers = true;
      this.leaseRequests.grantAfterCommit(round, head);
      return true;
    }
    counters.beatsNotClean += 1;
    this.#storeAnswers = outcome.type !== "unavailable";
    switch (outcome.type) {
      case "beaten":
      case "head-moved":
        this.finish(reopen("the head moved unexpectedly"));
        return false;
      case "fenced":
        this.finish({ type: "fenced" });
        return false;
      case "indeterminate":
        this.finish(reopen("the outcome of a beat is unknown"));
        return false;
      case "unavailable": {
        const message = "the event log is not available; granting no leases";
        this.#context.logger("warn", message, { err: outcome.cause });
        return false;
      }
      default:
        return unreachable(outcome);
    }
  }

  #afterWrite(): void {
    this.#settleProofs();
    this.#reportEndWhenIdle();
  }

  /** A receipt may report a change as lost only after a clean write that began after the receipt was requested. */
  #settleProofs(): void {
    this.#proofNeeded = Math.max(
      this.#proofNeeded,
      this.receipts.recordWrites({ write: this.#newestWrite, clean: this.#newestClean }),
    );
  }
}

/** A receipt with all of ten thousand names would explain less. */
const namesMax = 100;

/**
 * Names the nodes behind a row for a lost history, as far as this broker knows them. The names only explain: the row
 * itself counts for every node, named or not, until its window has passed.
 * @returns the standings, and one for each known node that has none, until the window of the lost history has passed
 */
function nameLostLessees(standings: readonly LesseeStatus[], knownNodes: Iterable<NodeId>): readonly LesseeStatus[] {
  const lost = standings.filter((standing) => isLostHistory(standing) && standing.fencedInMs > 0);
  const longestFenced = lost.reduce<LesseeStatus | undefined>(
    (longest, each) => (longest !== undefined && longest.fencedInMs >= each.fencedInMs ? longest : each),
    undefined,
  );
  if (longestFenced === undefined) return standings;
  const namedNodes = new Set(standings.map(({ node }) => node));
  const names = [...knownNodes].filter((node) => !namedNodes.has(node)).slice(0, namesMax);
  return [...standings, ...names.sort().map((node) => ({ ...longestFenced, node }))];
}
