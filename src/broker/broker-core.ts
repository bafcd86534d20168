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
import { type Epoch, readsLevel, unreachable } from "../events/index.ts";
import {
  type LesseeStatus,
  type Moment,
  personKeyWrap,
  Reassertions,
  type Renew,
  vaultKey,
} from "../replication/index.ts";
import { type Counters, newCounters } from "./core/counters.ts";
import type { InternalMessage, LeadershipState, LogCallOwner } from "./core/internal-messages.ts";
import type { BrokerEffect, BrokerInput, Leadership, LogAnswer } from "./core/messages.ts";
import type { BrokerCoreOptions } from "./core/options.ts";
import { StepContext } from "./core/step-context.ts";
import { BatchPublisher } from "./leader/batch-publisher.ts";
import { BootKeys } from "./leader/boot-keys.ts";
import { BrokerPresences, type Peer } from "./leader/broker-presence.ts";
import { DuplicateCheck } from "./leader/duplicate-check.ts";
import { DutyHolder } from "./leader/duty-holder.ts";
import { Election, leaderIn } from "./leader/election.ts";
import { reopen } from "./leader/epoch.ts";
import { EpochClaims, epochJumpMax } from "./leader/epoch-claims.ts";
import type { LeaderParts } from "./leader/leader.ts";
import { LeadershipLifecycle } from "./leader/leadership-lifecycle.ts";
import { callerAt, PendingCommands } from "./leader/pending-commands.ts";
import { ReassertionIntake } from "./leader/reassertion-intake.ts";
import { BrokerState } from "./state/broker-state.ts";
import { BrokerStateSync } from "./state/broker-state-sync.ts";
import { PageServer } from "./state/page-server.ts";
import { createPersonKeyCache, type PersonKeyCache } from "./state/person-key-cache.ts";

const idleBeatMsMax = 500;
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
  readonly counters: Counters = newCounters();
  readonly #context: StepContext;
  readonly #keys: PersonKeyCache;
  readonly #pendingCommands: PendingCommands;
  readonly #duplicateCheck: DuplicateCheck;
  readonly #stateSync: BrokerStateSync;
  readonly #election: Election;
  readonly #publisher: BatchPublisher;
  readonly #reassertionIntake: ReassertionIntake;
  readonly #duties: DutyHolder;
  readonly #pages: PageServer;
  readonly #lifecycle: LeadershipLifecycle;
  readonly #presences: BrokerPresences;
  readonly #reassertions: Reassertions;
  readonly #epochClaims: EpochClaims;
  #stopPhase: "running" | "stopping" | "stopped" = "running";
  /** The core waits for duties until this time. */
  #stoppingUntil = 0;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(options: BrokerCoreOptions) {
    const { exclusive, secrets, lease, takeoverMs, version } = options;
    const [secret] = secrets;
    const random = pooledRandom(options.random);
    const reads = options.reads ?? readsLevel;
    const { recentEventsMax } = options;
    this.state = new BrokerState({ reads, ...(recentEventsMax === undefined ? {} : { recentEventsMax }) });
    const { state, counters } = this;
    const context = new StepContext(options.writeTimeoutMs);
    this.#presences = new BrokerPresences(context, { brokerId: options.brokerId, version, reads });
    const pendingCommands = new PendingCommands(
      context,
      state,
      options.commandsMax === undefined ? {} : { commandsMax: options.commandsMax },
    );
    this.#context = context;
    this.#keys = createPersonKeyCache(secrets);
    this.#pendingCommands = pendingCommands;
    this.#duplicateCheck = new DuplicateCheck(context, {
      pendingCommands,
      state,
      counters,
      isCurrent: (leadershipNo) => this.#lifecycle.isCurrent(leadershipNo),
    });
    this.#stateSync = new BrokerStateSync(context, { state, counters, beginsFrom: options.beginsFrom ?? "log" });
    this.#publisher = new BatchPublisher(context, { state, counters });
    this.#reassertionIntake = new ReassertionIntake(context, { pendingCommands, state, counters });
    this.#pages = new PageServer(context, state);
    this.#epochClaims = new EpochClaims(context, counters);
    this.#reassertions = createBrokerReassertions(context, random);
    const { brokerId, brokerUrl, expirySweepMs, commandSweepMs } = options;
    this.#election = new Election(context, {
      brokerId,
      brokerUrl,
      exclusive,
      takeoverMs,
      random,
      windowMaxMs: lease.remoteWindowMaxMs ?? lease.windowMaxMs,
      lastLed: () => this.#lifecycle.lastLed,
      level: () => state.projection.level,
    });
    const duties = { others: options.duties, expirySweepMs, commandSweepMs };
    this.#duties = new DutyHolder(context, { state, pendingCommands, counters, random }, duties);
    const parts: LeaderParts = {
      context,
      state,
      pendingCommands,
      counters,
      random,
      lease,
      exclusive,
      version,
      keys: this.#keys,
      duplicateCheck: this.#duplicateCheck,
      publisher: this.#publisher,
      reassertionIntake: this.#reassertionIntake,
      peers: this.#presences,
      bootKeys: new BootKeys(),
      idleBeatMs: Math.min(idleBeatMsMax, takeoverMs / 6),
      wrappingKey: personKeyWrap(secret),
      vaultKey: vaultKey(secret),
      proofMsMax: options.writeTimeoutMs,
    };
    this.#lifecycle = new LeadershipLifecycle(parts, {
      stateSync: this.#stateSync,
      election: this.#election,
      duties: this.#duties,
    });
  }

  // --- observations

  get leadershipState(): LeadershipState {
    return this.#lifecycle.leader !== null ? "leading" : this.#election.leadershipState;
  }
  /** The epoch that this broker leads; null: none. */
  get leadership(): Leadership | null {
    return this.#lifecycle.leader?.leadership ?? null;
  }
  /** The leader that the head row named last; null: none, or not known. */
  get observedLeader(): ReturnType<typeof leaderIn> {
    return leaderIn(this.#election.observed);
  }
  /** The newest epoch seen in the head row. */
  get observedEpoch(): Epoch {
    return this.#lifecycle.leader?.opened.epoch ?? this.#election.observed?.epoch ?? (0 as Epoch);
  }
  /** True while this broker leads, or opens an epoch. */
  get acceptsCommands(): boolean {
    return this.leadershipState !== "following" && this.#stopPhase === "running";
  }
  /** True while this broker does not lead and the store does not answer: no command can succeed soon. */
  get isStoreUnreachable(): boolean {
    return this.#lifecycle.leader === null && !this.#election.storeAnswers;
  }
  /** True once this broker has read the log to its head. */
  get hasReachedHead(): boolean {
    return this.#stateSync.hasReachedHead;
  }
  /** The other brokers whose gossip arrived recently. */
  get peers(): readonly Peer[] {
    return this.#presences.alive;
  }
  /** The level up to which this build can read events. */
  get reads(): number {
    return this.#presences.own.reads;
  }
  get commands(): Readonly<{ waiting: number; open: number }> {
    return { waiting: this.#pendingCommands.waiting, open: this.#pendingCommands.open };
  }
  /** Why this broker is not ready to serve; empty: it is. */
  get notReadyReasons(): readonly string[] {
    const reasons: string[] = this.#stateSync.hasReachedHead ? [] : [this.#stateSync.problem];
    const { unreadable } = this.state;
    if (unreadable !== null) reasons.push(unreadable);
    if (this.#lifecycle.leader?.storeAnswers === false || !this.#election.storeAnswers)
      reasons.push("the event log is not available");
    if (this.leadershipState === "opening") reasons.push("this broker is opening an epoch");
    if (this.leadershipState === "following" && this.observedLeader === null) reasons.push("no broker leads");
    if (this.#stopPhase !== "running") reasons.push("stopping");
    return reasons;
  }
  /** The lessees of the epoch that this broker leads, at this moment. */
  standings(at: Moment): readonly LesseeStatus[] {
    this.#context.begin(at);
    return this.#lifecycle.leader?.standings() ?? [];
  }
  /** True if a node's renew names another digest than ours at the same position. */
  hasDigestMismatch(renew: Renew | null): boolean {
    return this.#lifecycle.leader?.hasDigestMismatch(renew) ?? false;
  }

  // --- one step

  step(input: BrokerInput): readonly BrokerEffect[] {
    this.#context.begin(input.at);
    try {
      this.#lifecycle.leader?.publishCommitted();
      this.#drain();
      this.#dispatch(input);
      this.#drain();
      this.#lifecycle.leader?.answerReceipts();
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
        this.#stateSync.setFeeder("self");
        return this.#election.start();
      case "woke":
        return this.#tick();
      case "logAnswered": {
        const owner = this.#context.takeOwner(input.id);
        return owner === undefined ? undefined : this.#logAnswered(owner, input.outcome);
      }
      case "submitted":
        return this.#submitted(input);
      case "dutySubmitted":
        return this.#duties.submit(input);
      case "requestCancelled":
        this.#pendingCommands.giveUp(input.id);
        this.#pages.giveUp(input.id);
        return this.#lifecycle.leader?.receipts.giveUp(input.id);
      case "nodeMessage":
        if (this.#lifecycle.leader !== null) return this.#lifecycle.leader.nodeMessage(input);
        return this.#context.emit({ type: "leaseAnswered", id: input.id, answer: notLeading });
      case "receiptRequested":
        if (this.#lifecycle.leader !== null && this.#lifecycle.leader.end === null)
          return this.#lifecycle.leader.receiptRequested(input);
        return this.#context.emit({ type: "receiptAnswered", id: input.id, answer: notLeading });
      case "pageRequested": {
        const needed = this.#pages.request(input);
        if (needed === "refresh" && this.leadershipState === "following") return this.#stateSync.refresh(input.id);
        return this.#pages.resume(input.id);
      }
      case "presenceReceived":
        return this.#presences.receive(input.presence);
      case "brokerSeen":
        return this.#brokerSeen(input);
      case "forgeryReceived":
        this.counters.envelopesRefused += 1;
        return;
      case "fanoutConnected":
        return this.#publisher.connected();
      case "publishDropped":
        return this.#publisher.dropped(input.last);
      case "dutyEnded":
        this.#duties.runEnded(input.run, input.outcome);
        return this.#reportWhenStopped();
      case "snapshotLoaded":
        return this.#stateSync.snapshotLoaded(input.id, input.snapshot);
      case "snapshotFailed":
        return this.#stateSync.snapshotFailed(input.id, input.reason);
      case "reassertAnswered":
        this.#reassertions.recordAnswer(input.id, input.answer, this.#context.now);
        return;
      case "stopping":
        return this.#stop();
      default:
        return unreachable(input);
    }
  }

  #submitted({ id, request, waitMs }: Extract<BrokerInput, { type: "submitted" }>): void {
    if (!this.acceptsCommands)
      return this.#context.emit({ type: "commandAnswered", id, answer: { type: "notLeader" } });
    const { command, commandId } = request;
    if (command.type === "reassertTightenings") return this.#reassertionIntake.accept(id, commandId, command);
    this.#pendingCommands.submit(request, callerAt(this.#context.now, { id, waitMs, duty: false }));
  }

  #brokerSeen({ epoch, incarnation }: Extract<BrokerInput, { type: "brokerSeen" }>): void {
    this.#stateSync.pollNow();
    const leader = this.#lifecycle.leader;
    const seen = this.#election.observed?.epoch ?? 0;
    if (epoch <= Math.max(leader?.opened.epoch ?? 0, seen) + epochJumpMax) {
      this.#election.noteEpoch(epoch);
      const sameEpochRival = leader?.opened.epoch === epoch && leader.opened.incarnation !== incarnation;
      leader?.noticeEpoch(sameEpochRival ? ((epoch + 1) as Epoch) : epoch);
    }
    if (this.leadershipState === "following" && epoch !== this.#election.observed?.epoch) this.#election.observeNow();
  }

  #tick(): void {
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const { owner, outcome } of this.#context.takeTimedOut()) this.#logAnswered(owner, outcome);
    this.#drain();
    this.#election.tick();
    this.#stateSync.tick();
    this.#presences.tick();
    this.#drain();
    this.#pendingCommands.expire(this.isStoreUnreachable ? "unreachable" : "reachable");
    this.#pages.tick();
    this.#duties.tick();
    this.#reassertions.wake(this.#context.now);
    this.#drain();
    this.#lifecycle.leader?.tick();
    this.#reportWhenStopped();
  }

  /** Passes the answer of a log call to its owner. */
  #logAnswered(owner: LogCallOwner, outcome: LogAnswer): void {
    const leader =
      "leadershipNo" in owner && this.#lifecycle.leader?.leadershipNo === owner.leadershipNo
        ? this.#lifecycle.leader
        : null;
    switch (owner.to) {
      case "election":
        if (owner.of === "observe") return this.#election.headObserved(outcome);
        return owner.of === "open" ? this.#election.opened(outcome) : this.#election.resigned(outcome);
      case "state-sync":
        return this.#stateSync.readAnswered(outcome);
      case "duplicate-check":
        return this.#duplicateCheck.logAnswered(owner, outcome);
      case "leader":
        return leader?.logAnswered(owner, outcome);
      case "lease-requests":
        return leader?.leaseRequests.linkRead(owner.requestId, outcome);
      case "claims":
        return this.#epochClaims.headObserved(outcome, leader);
      case "receipts":
        return leader?.receipts.logAnswered(owner, outcome);
      case "publisher":
        return this.#publisher.logAnswered(owner.of, owner.leadershipNo, outcome);
      case "pages":
        return this.#pages.logAnswered(owner, outcome);
      case "duties":
        return this.#duties.commandsSwept(outcome);
      default:
        return unreachable(owner);
    }
  }

  // --- internal messages

  #drain(): void {
    if (this.#lifecycle.leader?.leaseRequests.takeLesseesChanged() === true)
      this.#lifecycle.leader.receipts.noteLesseesChanged();
    for (let message = this.#context.messages.shift(); message !== undefined; message = this.#context.messages.shift())
      this.#handle(message);
    if (this.#lifecycle.leader?.leaseRequests.takeLesseesChanged() === true)
      this.#lifecycle.leader.receipts.noteLesseesChanged();
  }

  #handle(message: InternalMessage): void {
    switch (message.type) {
      case "leadershipChanged":
        if (message.leadershipState === "following") this.#pendingCommands.redirectAll();
        this.#stateSync.setFeeder(message.leadershipState === "following" ? "self" : "leader");
        return this.#context.emit({ type: "leaderChanged" });
      case "contending":
        this.#election.noteEpoch(this.state.applied.epoch); // the log may have been restored to a time before it
        return this.#stateSync.refresh("contending");
      case "refreshed":
        if (message.for === "contending") return this.#election.stateReady(message.ok);
        return message.for === "poll" ? undefined : this.#pages.resume(message.for);
      case "opened":
        return this.#lifecycle.epochOpened(message.opened);
      case "headReached":
        return this.#lifecycle.headReached(message.ok);
      case "eventsFolded":
        this.#keys.follow(message.events);
        return this.#pages.stateChanged();
      case "denialsLost":
        return this.#reassertions.add(message.events, this.#context.now);
      case "duplicateChecked":
        return this.#lifecycle.duplicateChecked(message.lookup, message.answer);
      case "answered":
        return this.#commandAnswered(message);
      case "epochClaimed":
        return this.#lifecycle.leader === null
          ? undefined
          : this.#epochClaims.claimed(message.claim, this.#lifecycle.leader);
      case "leaderEnded":
        return this.#lifecycle.leadershipEnded(message.end);
      case "resigned":
        return this.#lifecycle.resigned(message.opened);
      case "electionEnded":
        return this.#reportWhenStopped();
      default:
        return unreachable(message);
    }
  }

  #commandAnswered({ waiter, answer }: Extract<InternalMessage, { type: "answered" }>): void {
    switch (waiter.type) {
      case "receipt":
        return this.#lifecycle.leader?.receipts.commandAnswered(waiter.requestId, answer);
      case "report":
        return this.#reassertionIntake.eventAnswered(waiter.report, answer);
      case "sweep":
        return this.#duties.sweepAnswered(answer);
      case "caller":
        return;
      default:
        return unreachable(waiter);
    }
  }

  #stop(): void {
    if (this.#stopPhase !== "running") return;
    this.#stopPhase = "stopping";
    this.#stoppingUntil = this.#context.now + dutiesIdleMsMax;
    this.#election.stop();
    this.#lifecycle.stop();
  }

  #reportWhenStopped(): void {
    if (this.#stopPhase !== "stopping" || !this.#election.hasEnded) return;
    if (this.#duties.running > 0 && this.#context.now < this.#stoppingUntil) return;
    this.#stopPhase = "stopped";
    this.#pendingCommands.redirectAll();
    this.#stateSync.setFeeder("leader");
    this.#context.emit({ type: "stopped" });
  }

  /** A defect: the epoch is reopened and everything is read again. */
  #stepFailed(error: unknown): void {
    this.#context.logger("error", "a step of the broker's core failed", { err: error });
    this.#lifecycle.leader?.finish(reopen("a step of the leader failed"));
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
    const awaitsDuties = this.#stopPhase === "stopping" && this.#election.hasEnded;
    const dutiesIdleAt = awaitsDuties ? this.#stoppingUntil : Number.POSITIVE_INFINITY;
    return Math.min(
      this.#context.callDueAt,
      this.#election.dueAt,
      this.#presences.dueAt,
      this.#stateSync.dueAt,
      this.#pendingCommands.dueAt,
      this.#pages.dueAt,
      this.#duties.dueAt,
      this.#reassertions.due,
      this.#lifecycle.leader?.dueAt ?? Number.POSITIVE_INFINITY,
      dutiesIdleAt,
    );
  }
}

const notLeading = { type: "unavailable", message: "this broker no longer leads" } as const;

const randomPoolBytes = 8_192;

/**
 * Draws random bytes by the kilobyte: each event takes several small draws, and a draw costs a system call. No byte is
 * returned twice. Each piece is a copy, so that a retained key does not retain the pool.
 */
function pooledRandom(random: (bytes: number) => Uint8Array): (bytes: number) => Uint8Array {
  let pool = new Uint8Array(0);
  let used = 0;
  return (bytes) => {
    if (bytes > randomPoolBytes / 8) return random(bytes);
    if (used + bytes > pool.length) {
      pool = Uint8Array.from(random(randomPoolBytes));
      used = 0;
    }
    const piece = pool.slice(used, used + bytes);
    pool.fill(0, used, used + bytes);
    used += bytes;
    return piece;
  };
}

/**
 * The final denials that this broker's state had read and the log has lost, on their way to the leader. A leader has
 * read each of them before any caller learned that it is done; nodes may have read none.
 */
function createBrokerReassertions(context: StepContext, random: (bytes: number) => Uint8Array): Reassertions {
  let lastId = 0;
  return new Reassertions({
    random,
    nextId: () => ++lastId,
    emit(effect) {
      if (effect.type === "reassert") context.emit(effect); // an answer after the time limit finds no request
    },
  });
}
