/**
 * Broker core: one databroker process as a state machine. It owns the election, the leader, duties, and the broker
 * state.
 *
 * - Pure: no I/O, clock, timer, randomness or promise. `step` takes one input and returns the effects. The shell
 *   (broker.ts, or the simulator) performs them and feeds every result back. Random bytes are an input, too.
 * - The core changes its state in place: after a step, use only the core that the step returned.
 * - A step never throws. A defect is logged, and a leader that meets one ends its epoch, so that nothing is concluded
 *   from it.
 */
import { type Epoch, nextEpoch, noEpoch, unreachable } from "../events/index.ts";
import type { AbsentNode, CutOffRegion } from "../replication/index.ts";
import type { LesseeStatus, Moment } from "../replication/lease/index.ts";
import type { Renew } from "../replication/wire/index.ts";
import { type BrokerCoreParts, createBrokerCoreParts } from "./broker-core-parts.ts";
import type { Counters } from "./core/counters.ts";
import type { InternalMessage, LeadershipState, LogCallOwner } from "./core/internal-messages.ts";
import type { BrokerEffect, BrokerInput, CommandAnswer, Leadership, LogAnswer } from "./core/messages.ts";
import type { BrokerCoreOptions } from "./core/options.ts";
import type { StepContext } from "./core/step-context.ts";
import type { Peer } from "./leader/broker-presence.ts";
import { leaderIn } from "./leader/election.ts";
import { reopen } from "./leader/epoch.ts";
import { epochJumpMax } from "./leader/epoch-claims.ts";
import { callerAt } from "./leader/pending-commands.ts";
import type { BrokerState } from "./state/broker-state.ts";

/** The longest wait for a duty that ignores the end of its epoch. */
const dutiesIdleMsMax = 2_000;

/** The state of a broker. Changed in place by `step`. */
export type BrokerCore = Core;

export function newBrokerCore(options: BrokerCoreOptions): BrokerCore {
  return new Core(options);
}

export function step(core: BrokerCore, input: BrokerInput): readonly [BrokerCore, readonly BrokerEffect[]] {
  return [core, core.step(input)];
}

class Core {
  readonly state: BrokerState;
  readonly counters: Counters;
  readonly #context: StepContext;
  readonly #parts: BrokerCoreParts;
  #stopPhase: "running" | "stopping" | "stopped" = "running";
  /** The core waits for duties until this time. */
  #stoppingUntil = 0;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(options: BrokerCoreOptions) {
    this.#parts = createBrokerCoreParts(options);
    this.state = this.#parts.state;
    this.counters = this.#parts.counters;
    this.#context = this.#parts.context;
  }

  // --- observations

  get leadershipState(): LeadershipState {
    return this.#parts.lifecycle.leader !== null ? "leading" : this.#parts.election.leadershipState;
  }
  /** The epoch that this broker leads; null: none. */
  get leadership(): Leadership | null {
    return this.#parts.lifecycle.leader?.leadership ?? null;
  }
  /** The leader that the head row named last; null: none, or not known. */
  get observedLeader(): ReturnType<typeof leaderIn> {
    return leaderIn(this.#parts.election.observed);
  }
  /** The newest epoch seen in the head row. */
  get observedEpoch(): Epoch {
    return this.#parts.lifecycle.leader?.opened.epoch ?? this.#parts.election.observed?.epoch ?? noEpoch;
  }
  /** True while this broker leads, or opens an epoch. */
  get acceptsCommands(): boolean {
    return this.leadershipState !== "following" && this.#stopPhase === "running";
  }
  /** True while this broker does not lead and the store does not answer: no command can succeed soon. */
  get isStoreUnreachable(): boolean {
    return this.#parts.lifecycle.leader === null && !this.#parts.election.storeAnswers;
  }
  /** True once this broker has read the log to its head. */
  get hasReachedHead(): boolean {
    return this.#parts.stateSync.hasReachedHead;
  }
  /** The other brokers whose gossip arrived recently. */
  get peers(): readonly Peer[] {
    return this.#parts.presences.alive;
  }
  /** The level up to which this build can read events. */
  get reads(): number {
    return this.#parts.presences.own.reads;
  }
  get commands(): Readonly<{ waiting: number; open: number }> {
    return { waiting: this.#parts.pendingCommands.waiting, open: this.#parts.pendingCommands.open };
  }
  /** Why this broker is not ready to serve; empty: it is. */
  get notReadyReasons(): readonly string[] {
    const reasons: string[] = this.#parts.stateSync.hasReachedHead ? [] : [this.#parts.stateSync.problem];
    const { unreadable } = this.state;
    if (unreadable !== null) reasons.push(unreadable);
    if (this.#parts.lifecycle.leader?.storeAnswers === false || !this.#parts.election.storeAnswers)
      reasons.push("the event log is not available");
    if (this.leadershipState === "opening") reasons.push("this broker is opening an epoch");
    if (this.leadershipState === "following" && this.observedLeader === null) reasons.push("no broker leads");
    if (this.#stopPhase !== "running") reasons.push("stopping");
    return reasons;
  }
  /** The lessees of the epoch that this broker leads, at this moment. */
  standings(at: Moment): readonly LesseeStatus[] {
    this.#context.begin(at);
    return this.#parts.lifecycle.leader?.standings() ?? [];
  }
  /** The nodes that are absent and the regions that are cut off, as the leader that this broker is knows them. */
  absences(at: Moment): Readonly<{ absent: readonly AbsentNode[]; cutOff: readonly CutOffRegion[] }> {
    this.#context.begin(at);
    const absence = this.#parts.lifecycle.leader?.absence;
    return { absent: absence?.absent() ?? [], cutOff: absence?.cutOffRegions() ?? [] };
  }
  /** True if a node's renew names another digest than ours at the same position. */
  hasDigestMismatch(renew: Renew | null): boolean {
    return this.#parts.lifecycle.leader?.hasDigestMismatch(renew) ?? false;
  }

  // --- one step

  step(input: BrokerInput): readonly BrokerEffect[] {
    this.#context.begin(input.at);
    try {
      this.#parts.lifecycle.leader?.foldCommitted();
      this.#drain();
      this.#dispatch(input);
      this.#drain();
      this.#parts.lifecycle.leader?.answerReceipts();
      this.#drain();
    } catch (error) {
      this.#stepFailed(error);
    }
    this.#scheduleWake();
    return this.#context.takeEffects();
  }

  #dispatch(input: BrokerInput): void {
    switch (input.type) {
      case "started":
        this.#parts.stateSync.setFeeder("self");
        this.#parts.election.start();
        return;
      case "woke":
        this.#tick();
        return;
      case "logAnswered": {
        const owner = this.#context.takeOwner(input.id);
        if (owner !== undefined) this.#logAnswered(owner, input.outcome);
        return;
      }
      case "submitted":
        this.#submitted(input);
        return;
      case "dutySubmitted":
        this.#parts.duties.submit(input);
        return;
      case "requestCancelled":
        this.#parts.pendingCommands.giveUp(input.id);
        this.#parts.pages.giveUp(input.id);
        this.#parts.lifecycle.leader?.receipts.giveUp(input.id);
        return;
      case "nodeMessage":
        if (this.#parts.lifecycle.leader !== null) this.#parts.lifecycle.leader.nodeMessage(input);
        else this.#context.emit({ type: "leaseAnswered", id: input.id, answer: notLeading });
        return;
      case "receiptRequested":
        if (this.#parts.lifecycle.leader !== null && this.#parts.lifecycle.leader.end === null)
          this.#parts.lifecycle.leader.receiptRequested(input);
        else this.#context.emit({ type: "receiptAnswered", id: input.id, answer: notLeading });
        return;
      case "pageRequested": {
        const needed = this.#parts.pages.request(input);
        if (needed === "refresh" && this.leadershipState === "following") this.#parts.stateSync.refresh(input.id);
        else this.#parts.pages.resume(input.id);
        return;
      }
      case "presenceReceived":
        this.#parts.presences.receive(input.presence);
        return;
      case "brokerSeen":
        this.#brokerSeen(input);
        return;
      case "forgeryReceived":
        this.counters.envelopesRefused += 1;
        return;
      case "fanoutConnected":
        this.#parts.publisher.connected();
        return;
      case "publishDropped":
        this.#parts.publisher.dropped(input.last);
        return;
      case "dutyEnded":
        this.#parts.duties.runEnded(input.run, input.outcome);
        this.#reportWhenStopped();
        return;
      case "snapshotLoaded":
        this.#parts.stateSync.snapshotLoaded(input.id, input.snapshot);
        return;
      case "snapshotFailed":
        this.#parts.stateSync.snapshotFailed(input.id, input.reason);
        return;
      case "reassertAnswered":
        this.#parts.reassertions.recordAnswer(input.id, input.answer, this.#context.now);
        return;
      case "stopping":
        this.#stop();
        return;
      default:
        unreachable(input);
    }
  }

  #submitted({ id, request, waitMs }: Extract<BrokerInput, { type: "submitted" }>): void {
    if (!this.acceptsCommands) {
      this.#context.emit({ type: "commandAnswered", id, answer: { type: "notLeader" } });
      return;
    }
    const { command, commandId } = request;
    if (command.type === "reassertTightenings") this.#parts.reassertionIntake.accept(id, commandId, command);
    else this.#parts.pendingCommands.submit(request, callerAt(this.#context.now, { id, waitMs, duty: false }));
  }

  #brokerSeen({ epoch, incarnation }: Extract<BrokerInput, { type: "brokerSeen" }>): void {
    this.#parts.stateSync.pollNow();
    const leader = this.#parts.lifecycle.leader;
    const seen = this.#parts.election.observed?.epoch ?? 0;
    if (epoch <= Math.max(leader?.opened.epoch ?? 0, seen) + epochJumpMax) {
      this.#parts.election.noteEpoch(epoch);
      const sameEpochRival = leader?.opened.epoch === epoch && leader.opened.incarnation !== incarnation;
      leader?.noticeEpoch(sameEpochRival ? nextEpoch(epoch) : epoch);
    }
    if (this.leadershipState === "following" && epoch !== this.#parts.election.observed?.epoch)
      this.#parts.election.observeNow();
  }

  #tick(): void {
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const { owner, outcome } of this.#context.takeTimedOut()) this.#logAnswered(owner, outcome);
    this.#drain();
    this.#parts.election.tick();
    this.#parts.stateSync.tick();
    this.#parts.presences.tick();
    this.#drain();
    this.#parts.pendingCommands.expire(this.isStoreUnreachable ? "unreachable" : "reachable");
    this.#parts.pages.tick();
    this.#parts.duties.tick();
    this.#parts.reassertions.wake(this.#context.now);
    this.#drain();
    this.#parts.lifecycle.leader?.tick();
    this.#reportWhenStopped();
  }

  /** Passes the answer of a log call to its owner. */
  #logAnswered(owner: LogCallOwner, outcome: LogAnswer): void {
    const leader =
      "leadershipNo" in owner && this.#parts.lifecycle.leader?.leadershipNo === owner.leadershipNo
        ? this.#parts.lifecycle.leader
        : null;
    switch (owner.to) {
      case "election":
        if (owner.of === "observe") this.#parts.election.headObserved(outcome);
        else if (owner.of === "open") this.#parts.election.opened(outcome);
        else this.#parts.election.resigned(outcome);
        return;
      case "state-sync":
        this.#parts.stateSync.readAnswered(outcome);
        return;
      case "duplicate-check":
        this.#parts.duplicateCheck.logAnswered(owner, outcome);
        return;
      case "leader":
        leader?.logAnswered(owner, outcome);
        return;
      case "lease-requests":
        leader?.leaseRequests.linkRead(owner.requestId, outcome);
        return;
      case "claims":
        this.#parts.epochClaims.headObserved(outcome, leader);
        return;
      case "receipts":
        leader?.receipts.logAnswered(owner, outcome);
        return;
      case "publisher":
        this.#parts.publisher.logAnswered(owner.of, owner.leadershipNo, outcome);
        return;
      case "pages":
        this.#parts.pages.logAnswered(owner, outcome);
        return;
      case "duties":
        this.#parts.duties.commandsSwept(outcome);
        return;
      default:
        unreachable(owner);
    }
  }

  // --- internal messages

  #drain(): void {
    if (this.#parts.lifecycle.leader?.leaseRequests.takeLesseesChanged() === true)
      this.#parts.lifecycle.leader.receipts.noteLesseesChanged();
    for (let message = this.#context.messages.shift(); message !== undefined; message = this.#context.messages.shift())
      this.#handle(message);
    if (this.#parts.lifecycle.leader?.leaseRequests.takeLesseesChanged() === true)
      this.#parts.lifecycle.leader.receipts.noteLesseesChanged();
  }

  #handle(message: InternalMessage): void {
    switch (message.type) {
      case "leadershipChanged":
        if (message.leadershipState === "following") this.#parts.pendingCommands.redirectAll();
        this.#parts.stateSync.setFeeder(message.leadershipState === "following" ? "self" : "leader");
        this.#context.emit({ type: "leaderChanged" });
        return;
      case "contending":
        this.#parts.election.noteEpoch(this.state.applied.epoch); // the log may have been restored to a time before it
        this.#parts.stateSync.refresh("contending");
        return;
      case "refreshed":
        if (message.for === "contending") this.#parts.election.stateReady(message.ok);
        else if (message.for !== "poll") this.#parts.pages.resume(message.for);
        return;
      case "opened":
        this.#parts.lifecycle.epochOpened(message.opened);
        return;
      case "headReached":
        this.#parts.lifecycle.headReached(message.ok);
        return;
      case "eventsFolded":
        this.#parts.keys.follow(message.events);
        this.#parts.pages.stateChanged();
        return;
      case "denialsLost":
        this.#parts.reassertions.add(message.events, this.#context.now);
        return;
      case "duplicateChecked":
        this.#parts.lifecycle.duplicateChecked(message.lookup, message.answer);
        return;
      case "answered":
        this.#commandAnswered(message);
        return;
      case "epochClaimed":
        if (this.#parts.lifecycle.leader !== null)
          this.#parts.epochClaims.claimed(message.claim, this.#parts.lifecycle.leader);
        return;
      case "leaderEnded":
        this.#parts.lifecycle.leadershipEnded(message.end);
        return;
      case "resigned":
        this.#parts.lifecycle.resigned(message.opened);
        return;
      case "electionEnded":
        this.#reportWhenStopped();
        return;
      default:
        unreachable(message);
    }
  }

  #commandAnswered({ waiter, answer }: Extract<InternalMessage, { type: "answered" }>): void {
    switch (waiter.type) {
      case "receipt":
        this.#parts.lifecycle.leader?.receipts.commandAnswered(waiter.requestId, answer);
        return;
      case "report":
        this.#parts.reassertionIntake.eventAnswered(waiter.report, answer);
        return;
      case "sweep":
        this.#parts.duties.sweepAnswered(waiter.sweep, answer);
        return;
      case "newLog":
        this.#newLogAnswered(answer);
        return;
      case "caller":
        return;
      default:
        unreachable(waiter);
    }
  }

  #newLogAnswered(answer: CommandAnswer): void {
    if (answer.type === "done") return;
    const message = "The new log stays at its first level. Run cardea cluster finalize.";
    this.#context.emit({ type: "logger", level: "warn", message, fields: { answer } });
  }

  #stop(): void {
    if (this.#stopPhase !== "running") return;
    this.#stopPhase = "stopping";
    this.#stoppingUntil = this.#context.now + dutiesIdleMsMax;
    this.#parts.election.stop();
    this.#parts.lifecycle.stop();
  }

  #reportWhenStopped(): void {
    if (this.#stopPhase !== "stopping" || !this.#parts.election.hasEnded) return;
    if (this.#parts.duties.running > 0 && this.#context.now < this.#stoppingUntil) return;
    this.#stopPhase = "stopped";
    this.#parts.pendingCommands.redirectAll();
    this.#parts.stateSync.setFeeder("leader");
    this.#context.emit({ type: "stopped" });
  }

  /** A defect: the epoch is reopened and everything is read again. */
  #stepFailed(error: unknown): void {
    this.#context.logger("error", "a step of the broker's core failed", { err: error });
    this.#parts.lifecycle.leader?.finish(reopen("a step of the leader failed"));
    try {
      this.#drain();
    } catch (secondError) {
      this.#context.logger("error", "a step of the broker's core failed twice", { err: secondError });
    }
  }

  #scheduleWake(): void {
    const at = Math.max(this.#dueAt(), this.#context.now);
    if (at >= this.#wakeAt) return; // the earlier wake-up sets the next one
    this.#wakeAt = at;
    this.#context.emit({ type: "wake", at });
  }

  #dueAt(): number {
    const awaitsDuties = this.#stopPhase === "stopping" && this.#parts.election.hasEnded;
    const dutiesIdleAt = awaitsDuties ? this.#stoppingUntil : Number.POSITIVE_INFINITY;
    return Math.min(
      this.#context.callDueAt,
      this.#parts.election.dueAt,
      this.#parts.presences.dueAt,
      this.#parts.stateSync.dueAt,
      this.#parts.pendingCommands.dueAt,
      this.#parts.pages.dueAt,
      this.#parts.duties.dueAt,
      this.#parts.reassertions.due,
      this.#parts.lifecycle.leader?.dueAt ?? Number.POSITIVE_INFINITY,
      dutiesIdleAt,
    );
  }
}

const notLeading = { type: "unavailable", message: "this broker no longer leads" } as const;
