/**
 * Broker core: one databroker process as a state machine. Election, leader, lease desk, receipts, relay, reconciler, duties and
 * the ledger, put together.
 *
 * Pure: no I/O, clock, timer, randomness or promise. `step` takes one input and says what is to be done about it; whoever performs
 * that (broker.ts, or the simulator) feeds every result back. The random bytes that it is given are an input too. The core owns
 * what it holds and changes it in place: after a step only the core that came out of it may be used.
 *
 * A step never fails: a bug of ours is journaled, and a leader that met one ends its epoch, so that nothing is concluded from it.
 */
import { type Epoch, readsLevel, unreachable } from "../events/index.ts";
import {
  type LesseeStanding,
  type Moment,
  personKeyWrap,
  type Reassertions,
  type Renew,
  vaultKey,
} from "../replication/index.ts";
import { poolRandom } from "./commands/random-pool.ts";
import { type Counters, newCounters } from "./core/counters.ts";
import type { BrokerEffect, BrokerInput, Leadership, LogAnswer } from "./core/messages.ts";
import type { BrokerCoreOptions } from "./core/options.ts";
import { type InternalMessage, type LeadershipState, type LogCallOwner, StepContext } from "./core/step-context.ts";
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
import { createBrokerReassertions } from "./state/broker-reassertions.ts";
import { BrokerState } from "./state/broker-state.ts";
import { BrokerStateSync } from "./state/broker-state-sync.ts";
import { Pages } from "./state/page-server.ts";
import { createPersonKeyCache, type PersonKeyCache } from "./state/person-key-cache.ts";

const idleBeatMsMax = 500;
/** A duty that does not heed the end of its epoch is waited for no longer than this. */
const dutiesIdleMsMax = 2_000;

/** The state of a broker. Changed in place by `step`. */
export type BrokerCore = Machines;

export function newBrokerCore(options: BrokerCoreOptions): BrokerCore {
  return new Machines(options);
}

export function step(core: BrokerCore, input: BrokerInput): readonly [BrokerCore, readonly BrokerEffect[]] {
  return [core, core.take(input)];
}

class Machines {
  readonly ledger: BrokerState;
  readonly counters: Counters = newCounters();
  readonly #work: StepContext;
  readonly #keys: PersonKeyCache;
  readonly #inbox: PendingCommands;
  readonly #firstAnswers: DuplicateCheck;
  readonly #keeper: BrokerStateSync;
  readonly #election: Election;
  readonly #relay: BatchPublisher;
  readonly #reports: ReassertionIntake;
  readonly #duties: DutyHolder;
  readonly #pages: Pages;
  readonly #terms: LeadershipLifecycle;
  readonly #peers: BrokerPresences;
  readonly #handBack: Reassertions;
  readonly #claims: EpochClaims;
  #stopping: "no" | "asked" | "over" = "no";
  /** Duties are waited for until then. */
  #stoppingUntil = 0;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(options: BrokerCoreOptions) {
    const { exclusive, secrets, lease, takeoverMs, version } = options;
    const [secret] = secrets;
    const random = poolRandom(options.random);
    const reads = options.reads ?? readsLevel;
    const { recentEventsMax } = options;
    this.ledger = new BrokerState({ reads, ...(recentEventsMax === undefined ? {} : { recentEventsMax }) });
    const { ledger, counters } = this;
    const work = new StepContext(options.writeTimeoutMs);
    this.#peers = new BrokerPresences(work, { brokerId: options.brokerId, version, reads });
    const inbox = new PendingCommands(
      work,
      ledger,
      options.commandsMax === undefined ? {} : { commandsMax: options.commandsMax },
    );
    this.#work = work;
    this.#keys = createPersonKeyCache(secrets);
    this.#inbox = inbox;
    this.#firstAnswers = new DuplicateCheck(work, {
      ...{ inbox, ledger, counters },
      isCurrent: (term) => this.#terms.isCurrent(term),
    });
    this.#keeper = new BrokerStateSync(work, { ledger, counters, beginsFrom: options.beginsFrom ?? "log" });
    this.#relay = new BatchPublisher(work, { ledger, counters });
    this.#reports = new ReassertionIntake(work, { inbox, ledger, counters });
    this.#pages = new Pages(work, ledger);
    this.#claims = new EpochClaims(work, counters);
    this.#handBack = createBrokerReassertions(work, random);
    const { brokerId, brokerUrl, expirySweepMs, commandSweepMs } = options;
    this.#election = new Election(work, {
      ...{ brokerId, brokerUrl, exclusive, takeoverMs, random },
      windowMaxMs: lease.remoteWindowMaxMs ?? lease.windowMaxMs,
      led: () => this.#terms.led,
      level: () => ledger.projection.level,
    });
    const duties = { others: options.duties, expirySweepMs, commandSweepMs };
    this.#duties = new DutyHolder(work, { ledger, inbox, counters, random }, duties);
    const parts: LeaderParts = {
      ...{ work, ledger, inbox, counters, random, lease, exclusive, version },
      keys: this.#keys,
      firstAnswers: this.#firstAnswers,
      relay: this.#relay,
      reports: this.#reports,
      peers: this.#peers,
      bootKeys: new BootKeys(),
      idleBeatMs: Math.min(idleBeatMsMax, takeoverMs / 6),
      wrappingKey: personKeyWrap(secret),
      vaultKey: vaultKey(secret),
      proofMsMax: options.writeTimeoutMs,
    };
    this.#terms = new LeadershipLifecycle(parts, {
      keeper: this.#keeper,
      election: this.#election,
      duties: this.#duties,
    });
  }

  // --- what can be seen of it

  get standing(): LeadershipState {
    return this.#terms.leader !== null ? "leading" : this.#election.standing;
  }
  /** The epoch that we lead; null while we do not. */
  get leadership(): Leadership | null {
    return this.#terms.leader?.leadership ?? null;
  }
  /** Who leads, as the head row last said; null: nobody, or it is not known. */
  get leaderSeen(): ReturnType<typeof leaderIn> {
    return leaderIn(this.#election.observed);
  }
  /** The epoch of the head row, as last seen. */
  get epochSeen(): Epoch {
    return this.#terms.leader?.opened.epoch ?? this.#election.observed?.epoch ?? (0 as Epoch);
  }
  /** Commands are taken while we lead, and while we open an epoch of ours again. */
  get takesCommands(): boolean {
    return this.standing !== "following" && this.#stopping === "no";
  }
  /** Nobody leads and the store does not answer: nothing is to be hoped for soon. */
  get isHopeless(): boolean {
    return this.#terms.leader === null && !this.#election.storeAnswers;
  }
  /** True once the log has been read to its head. */
  get hasRead(): boolean {
    return this.#keeper.caughtUp;
  }
  /** The other brokers that have told us of themselves, as the leader, a moment ago. */
  get peers(): readonly Peer[] {
    return this.#peers.present;
  }
  /** Up to which level we can read. */
  get reads(): number {
    return this.#peers.own.reads;
  }
  get commands(): Readonly<{ waiting: number; open: number }> {
    return { waiting: this.#inbox.waiting, open: this.#inbox.open };
  }
  /** Why it is not ready to serve; empty when it is. */
  get unreadiness(): readonly string[] {
    const reasons: string[] = this.#keeper.caughtUp ? [] : [this.#keeper.problem];
    const { unreadable } = this.ledger;
    if (unreadable !== null) reasons.push(unreadable);
    if (this.#terms.leader?.storeAnswers === false || !this.#election.storeAnswers)
      reasons.push("the event log is not available");
    if (this.standing === "opening") reasons.push("an epoch is being opened");
    if (this.standing === "following" && this.leaderSeen === null) reasons.push("no broker leads");
    if (this.#stopping !== "no") reasons.push("stopping");
    return reasons;
  }
  /** Of the epoch that we lead, at this moment. */
  standings(at: Moment): readonly LesseeStanding[] {
    this.#work.begin(at);
    return this.#terms.leader?.standings() ?? [];
  }
  /** A node's renew named another digest than ours at the same place. */
  mismatch(renew: Renew | null): boolean {
    return this.#terms.leader?.mismatch(renew) ?? false;
  }

  // --- one step

  take(input: BrokerInput): readonly BrokerEffect[] {
    this.#work.begin(input.at);
    try {
      this.#terms.leader?.publishCommitted();
      this.#drain();
      this.#dispatch(input);
      this.#drain();
      this.#terms.leader?.settle();
      this.#drain();
    } catch (error) {
      this.#failed(error);
    }
    this.#wake();
    return this.#work.takeEffects();
  }

  #dispatch(input: BrokerInput): void {
    switch (input.type) {
      case "started":
        this.#keeper.feed("us");
        return this.#election.start();
      case "woke":
        return this.#tick();
      case "logAnswered": {
        const purpose = this.#work.answered(input.id);
        return purpose === undefined ? undefined : this.#answered(purpose, input.outcome);
      }
      case "submitted":
        return this.#submitted(input);
      case "dutySubmitted":
        return this.#duties.submit(input);
      case "givenUp":
        this.#inbox.giveUp(input.id);
        this.#pages.giveUp(input.id);
        return this.#terms.leader?.receipts.giveUp(input.id);
      case "nodeSaid":
        if (this.#terms.leader !== null) return this.#terms.leader.nodeSaid(input);
        return this.#work.emit({ type: "leaseAnswered", id: input.id, answer: notLeading });
      case "receiptAsked":
        if (this.#terms.leader !== null && this.#terms.leader.end === null)
          return this.#terms.leader.receiptAsked(input);
        return this.#work.emit({ type: "receiptAnswered", id: input.id, answer: notLeading });
      case "pageAsked": {
        const first = this.#pages.ask(input);
        if (first === "refresh" && this.standing === "following") return this.#keeper.refresh(input.id);
        return this.#pages.go(input.id);
      }
      case "brokerPresent":
        return this.#peers.heard(input.presence);
      case "brokerHeard":
        return this.#brokerHeard(input);
      case "forgeryHeard":
        this.counters.envelopesRefused += 1;
        return;
      case "fanoutConnected":
        return this.#relay.connected();
      case "publishDropped":
        return this.#relay.dropped(input.last);
      case "dutyEnded":
        this.#duties.ended(input.run, input.outcome);
        return this.#tellWhenStopped();
      case "snapshotLoaded":
        return this.#keeper.snapshotLoaded(input.id, input.snapshot);
      case "snapshotFailed":
        return this.#keeper.snapshotFailed(input.id, input.reason);
      case "reassertAnswered":
        this.#handBack.answered(input.id, input.answer, this.#work.now);
        return;
      case "stopping":
        return this.#stop();
      default:
        return unreachable(input);
    }
  }

  #submitted({ id, request, waitMs }: Extract<BrokerInput, { type: "submitted" }>): void {
    if (!this.takesCommands) return this.#work.emit({ type: "commandAnswered", id, answer: { type: "moved" } });
    const { command, commandId } = request;
    if (command.type === "reassertTightenings") return this.#reports.take(id, commandId, command);
    this.#inbox.submit(request, callerAt(this.#work.now, { id, waitMs, duty: false }));
  }

  #brokerHeard({ epoch, incarnation }: Extract<BrokerInput, { type: "brokerHeard" }>): void {
    this.#keeper.heard();
    const leader = this.#terms.leader;
    const seen = this.#election.observed?.epoch ?? 0;
    if (epoch <= Math.max(leader?.opened.epoch ?? 0, seen) + epochJumpMax) {
      this.#election.noteEpoch(epoch);
      const twin = leader?.opened.epoch === epoch && leader.opened.incarnation !== incarnation;
      leader?.noticeEpoch(twin ? ((epoch + 1) as Epoch) : epoch);
    }
    if (this.standing === "following" && epoch !== this.#election.observed?.epoch) this.#election.look();
  }

  #tick(): void {
    this.#wakeAt = Number.POSITIVE_INFINITY;
    for (const { purpose, outcome } of this.#work.overdue()) this.#answered(purpose, outcome);
    this.#drain();
    this.#election.tick();
    this.#keeper.tick();
    this.#peers.tick();
    this.#drain();
    this.#inbox.look(this.isHopeless ? "none" : "some");
    this.#pages.tick();
    this.#duties.tick();
    this.#handBack.woke(this.#work.now);
    this.#drain();
    this.#terms.leader?.turn();
    this.#tellWhenStopped();
  }

  /** The answer to a question of ours, to whoever asked it. */
  #answered(purpose: LogCallOwner, outcome: LogAnswer): void {
    const leader = "term" in purpose && this.#terms.leader?.term === purpose.term ? this.#terms.leader : null;
    switch (purpose.to) {
      case "election":
        if (purpose.of === "observe") return this.#election.observedAs(outcome);
        return purpose.of === "open" ? this.#election.opened(outcome) : this.#election.resigned(outcome);
      case "keeper":
        return this.#keeper.answered(outcome);
      case "first-answers":
        return this.#firstAnswers.answered(purpose, outcome);
      case "leader":
        return leader?.answered(purpose, outcome);
      case "desk":
        return leader?.desk.looked(purpose.ask, outcome);
      case "claims":
        return this.#claims.looked(outcome, leader);
      case "receipts":
        return leader?.receipts.answered(purpose, outcome);
      case "relay":
        return this.#relay.answered(purpose.of, purpose.term, outcome);
      case "pages":
        return this.#pages.answered(purpose, outcome);
      case "duties":
        return this.#duties.commandsSwept(outcome);
      default:
        return unreachable(purpose);
    }
  }

  // --- what the machines tell each other

  #drain(): void {
    if (this.#terms.leader?.desk.takeNews() === true) this.#terms.leader.receipts.noteNews();
    for (let note = this.#work.notes.shift(); note !== undefined; note = this.#work.notes.shift()) this.#told(note);
    if (this.#terms.leader?.desk.takeNews() === true) this.#terms.leader.receipts.noteNews();
  }

  #told(note: InternalMessage): void {
    switch (note.type) {
      case "standing":
        if (note.standing === "following") this.#inbox.moveAll();
        this.#keeper.feed(note.standing === "following" ? "us" : "the leader");
        return this.#work.emit({ type: "seatChanged" });
      case "contending":
        this.#election.noteEpoch(this.ledger.applied.epoch); // the log may have been restored to before it
        return this.#keeper.refresh("contending");
      case "refreshed":
        if (note.for === "contending") return this.#election.prepared(note.ok);
        return note.for === "poll" ? undefined : this.#pages.go(note.for);
      case "opened":
        return this.#terms.opened(note.opened);
      case "reached":
        return this.#terms.reached(note.ok);
      case "folded":
        this.#keys.follow(note.events);
        return this.#pages.moved();
      case "lost":
        return this.#handBack.add(note.events, this.#work.now);
      case "firstAnswer":
        return this.#terms.firstAnswer(note.lookup, note.answer);
      case "answered":
        return this.#commandAnswered(note);
      case "epochClaimed":
        return this.#terms.leader === null ? undefined : this.#claims.claimed(note.claim, this.#terms.leader);
      case "ended":
        return this.#terms.ended(note.end);
      case "resigned":
        return this.#terms.resigned(note.opened);
      case "over":
        return this.#tellWhenStopped();
      default:
        return unreachable(note);
    }
  }

  #commandAnswered({ waiter, answer }: Extract<InternalMessage, { type: "answered" }>): void {
    switch (waiter.type) {
      case "receipt":
        return this.#terms.leader?.receipts.commandAnswered(waiter.ask, answer);
      case "report":
        return this.#reports.answered(waiter.report, answer);
      case "sweep":
        return this.#duties.sweepAnswered(answer);
      case "caller":
        return;
      default:
        return unreachable(waiter);
    }
  }

  #stop(): void {
    if (this.#stopping !== "no") return;
    this.#stopping = "asked";
    this.#stoppingUntil = this.#work.now + dutiesIdleMsMax;
    this.#election.stop();
    this.#terms.stop();
  }

  #tellWhenStopped(): void {
    if (this.#stopping !== "asked" || !this.#election.over) return;
    if (this.#duties.running > 0 && this.#work.now < this.#stoppingUntil) return;
    this.#stopping = "over";
    this.#inbox.moveAll();
    this.#keeper.feed("the leader");
    this.#work.emit({ type: "stopped" });
  }

  /** A bug of ours. Nothing is concluded from it: the epoch is opened again and everything is looked up. */
  #failed(error: unknown): void {
    this.#work.logger("error", "a step of the broker's core failed", { err: error });
    this.#terms.leader?.finish(reopen("a step of the leader failed"));
    try {
      this.#drain();
    } catch (again) {
      this.#work.logger("error", "a step of the broker's core failed twice", { err: again });
    }
  }

  #wake(): void {
    const at = Math.max(this.#dueAt(), this.#work.now);
    if (at >= this.#wakeAt) return; // it wakes soon enough, and is told then when to wake again
    this.#wakeAt = at;
    this.#work.emit({ type: "wake", at });
  }

  #dueAt(): number {
    const ending = this.#stopping === "asked" && this.#election.over;
    const idleAt = ending ? this.#stoppingUntil : Number.POSITIVE_INFINITY;
    return Math.min(
      this.#work.questionDueAt,
      this.#election.dueAt,
      this.#peers.dueAt,
      this.#keeper.dueAt,
      this.#inbox.dueAt,
      this.#pages.dueAt,
      this.#duties.dueAt,
      this.#handBack.due,
      this.#terms.leader?.dueAt ?? Number.POSITIVE_INFINITY,
      idleAt,
    );
  }
}

const notLeading = { type: "unavailable", message: "this broker does not lead any more" } as const;
