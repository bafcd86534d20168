/**
 * Leadership lifecycle: the epochs of this process, each from its opening until its leader has ended. Pure.
 *
 * Before an epoch is led, the broker state is brought to its head, and commands of unclear batches get their answer
 * from the log as it is now. When a leader ends, the next one inherits its lessees.
 */
import { commandIdFromBytes, type Epoch, firstLevel, genesis, type Incarnation } from "../../events/index.ts";
import type { AdmittedBefore, GrantedLessee } from "../../replication/lease/index.ts";
import type {
  DuplicateLookup,
  LeaderEnd,
  OpenedEpoch,
  PriorOutcome,
  QueuedCommand,
} from "../core/internal-messages.ts";
import type { Leadership } from "../core/messages.ts";
import type { BrokerStateSync } from "../state/broker-state-sync.ts";
import type { DutyHolder } from "./duty-holder.ts";
import type { Election } from "./election.ts";
import { reopen } from "./epoch.ts";
import { Leader } from "./leader.ts";
import type { LeaderParts } from "./leader-parts.ts";

/** What an opened epoch waits for before it is led. */
type OpeningEpoch = { readonly opened: OpenedEpoch; unresolvedCount: number; readonly toRequeue: QueuedCommand[] };

type Collaborators = Readonly<{ stateSync: BrokerStateSync; election: Election; duties: DutyHolder }>;

const catchUpMsMax = 10_000;

export class LeadershipLifecycle {
  /** Null while this broker does not lead. */
  leader: Leader | null = null;
  readonly #parts: LeaderParts;
  readonly #collaborators: Collaborators;
  #opening: OpeningEpoch | null = null;
  /**
   * The lessees of our last epoch: a node of this process may have no row, and a log that failed over may have lost
   * some.
   */
  #knownLessees: readonly GrantedLessee[] = [];
  /** The admitted nodes of our last epoch; null: this process has not led. */
  #admittedBefore: Readonly<{ epoch: Epoch; nodes: AdmittedBefore }> | null = null;
  /** The epoch whose grants `#knownLessees` has; null: another broker may have granted since. */
  #lastLed: Incarnation | null = null;
  /** Numbers the epochs of this process. */
  #leadershipNo = 0;
  #stopping = false;

  constructor(parts: LeaderParts, collaborators: Collaborators) {
    this.#parts = parts;
    this.#collaborators = collaborators;
  }

  /** True for the epoch that is open or being opened. */
  isCurrent(leadershipNo: number): boolean {
    return leadershipNo === this.#leadershipNo && (this.leader !== null || this.#opening !== null);
  }

  get lastLed(): Incarnation | null {
    return this.#lastLed;
  }

  stop(): void {
    this.#stopping = true;
    this.leader?.stop();
  }

  epochOpened(opened: OpenedEpoch): void {
    this.#parts.counters.epochsOpened += 1;
    this.#leadershipNo += 1;
    this.#opening = { opened, unresolvedCount: 0, toRequeue: [] };
    this.#collaborators.stateSync.reach(opened.head, catchUpMsMax);
  }

  headReached(ok: boolean): void {
    const opening = this.#opening;
    if (opening === null) return;
    if (!ok) {
      this.#abandonOpening(reopen("could not read the log to its head"));
      return;
    }
    this.#parts.pendingCommands.forgetAnswers();
    this.#parts.keys.clear();
    // Commands of unclear batches get their answer from the epoch that is open now.
    const unresolved = this.#parts.pendingCommands.unresolved();
    opening.unresolvedCount = unresolved.length;
    for (const queued of unresolved)
      this.#parts.duplicateCheck.check({ queued, why: "resolve", leadershipNo: this.#leadershipNo });
    if (unresolved.length === 0) this.#lead(opening);
  }

  duplicateChecked(lookup: DuplicateLookup, answer: PriorOutcome): void {
    if (lookup.leadershipNo !== this.#leadershipNo) return;
    if (lookup.why === "settle") {
      this.leader?.duplicateChecked(lookup, answer);
      return;
    }
    const opening = this.#opening;
    if (lookup.why !== "resolve" || opening === null) return;
    opening.unresolvedCount -= 1;
    if (answer === "none") opening.toRequeue.push(lookup.queued);
    if (opening.unresolvedCount > 0) return;
    this.#parts.pendingCommands.requeue(opening.toRequeue);
    this.#lead(opening);
  }

  #lead({ opened }: OpeningEpoch): void {
    if (this.#stopping) {
      this.#abandonOpening({ type: "stopped" });
      return;
    }
    this.#opening = null;
    // No event of a later epoch precedes ours: no other process has led since, and none knows better who has left.
    const last = this.#admittedBefore;
    const before = last !== null && opened.previous.epoch <= last.epoch ? last.nodes : null;
    const [known, leadershipNo] = [this.#knownLessees, this.#leadershipNo];
    this.leader = new Leader(this.#parts, { opened, known, before, leadershipNo });
    this.#collaborators.duties.begin(this.leader.leadership);
    this.#collaborators.election.nowLeading();
    if (opened.previous.position === genesis.position) this.#raiseNewLog(this.leader.leadership);
  }

  /**
   * A new log has no reader that a later level could shut out, so it begins at the level of its first leader. If this
   * broker crashes before, the log stays at the first level, until an operator finalizes a later one.
   */
  #raiseNewLog(leadership: Leadership): void {
    const { newLogLevel: level, pendingCommands, random } = this.#parts;
    if (level <= firstLevel) return;
    const commandId = commandIdFromBytes(random(16));
    const request = { commandId, actor: "system", command: { type: "finalizeUpgrade", level } } as const;
    pendingCommands.submit(request, { type: "newLog" }, leadership);
  }

  #abandonOpening(end: LeaderEnd): void {
    this.#opening = null;
    this.#collaborators.election.leadershipEnded(end);
  }

  leadershipEnded(end: LeaderEnd): void {
    const leader = this.leader;
    if (leader === null) return;
    // Another leader has the rows, and knows which nodes have left since.
    this.#knownLessees = end.type === "reopen" || this.#parts.exclusive ? leader.granted() : [];
    this.#admittedBefore = { epoch: leader.opened.epoch, nodes: leader.admitted() };
    this.#lastLed = end.type === "reopen" ? leader.leadership.incarnation : null;
    this.leader = null;
    this.#collaborators.duties.end();
    if (end.type === "fenced") this.#parts.counters.stepDowns += 1;
    this.#parts.context.emit({ type: "leaderChanged" });
    this.#collaborators.election.leadershipEnded(end);
  }

  /** This process opened an epoch without a leader: published at once, so that the next leader need not wait. */
  resigned(opened: OpenedEpoch | null): void {
    if (opened === null) return;
    const { epoch, incarnation, previous, head, entry } = opened;
    this.#parts.publisher.begin({ epoch, incarnation }, { start: previous, leadershipNo: this.#leadershipNo });
    this.#parts.publisher.publish({ previous, entries: [entry], last: head, newKeys: [] });
    this.#parts.publisher.end();
  }
}
