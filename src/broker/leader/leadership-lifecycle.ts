/**
 * Leadership lifecycle: the epochs of this process, each from its opening until its leader has ended. Pure.
 *
 * Before an epoch is led the ledger is brought to its head, and whoever was in a batch of which nobody knew learns the truth from
 * the log as it is now. After it, whom it had granted to is told to the next one.
 */
import type { Incarnation } from "../../events/index.ts";
import type { Granted } from "../../replication/index.ts";
import type { BrokerStateSync } from "../state/broker-state-sync.ts";
import type { Queued } from "./command-queue.ts";
import type { FirstLookup, PriorOutcome } from "./duplicate-check.ts";
import type { DutyHolder } from "./duty-holder.ts";
import type { Election } from "./election.ts";
import { type LeaderEnd, type OpenedEpoch, reopen } from "./epoch.ts";
import { Leader, type LeaderParts } from "./leader.ts";

/** What an epoch of ours waits for before it is led. */
type Opening = { readonly opened: OpenedEpoch; resolving: number; readonly again: Queued[] };

type Around = Readonly<{ keeper: BrokerStateSync; election: Election; duties: DutyHolder }>;

const catchUpMsMax = 10_000;

export class LeadershipLifecycle {
  /** Null while we do not lead. */
  leader: Leader | null = null;
  readonly #parts: LeaderParts;
  readonly #around: Around;
  #opening: Opening | null = null;
  /** Whom our epoch had granted to: a node of our own process may have no row, and a log that failed over may have lost some. */
  #known: readonly Granted[] = [];
  /** The epoch whose grants `#known` has; null: another broker may have granted since. */
  #led: Incarnation | null = null;
  /** Numbers the epochs of this process. */
  #term = 0;
  #stopping = false;

  constructor(parts: LeaderParts, around: Around) {
    this.#parts = parts;
    this.#around = around;
  }

  /** Whether that is the epoch of ours that is open, or being opened. */
  isCurrent(term: number): boolean {
    return term === this.#term && (this.leader !== null || this.#opening !== null);
  }

  get led(): Incarnation | null {
    return this.#led;
  }

  stop(): void {
    this.#stopping = true;
    this.leader?.stop();
  }

  opened(opened: OpenedEpoch): void {
    this.#parts.counters.epochsOpened += 1;
    this.#term += 1;
    this.#opening = { opened, resolving: 0, again: [] };
    this.#around.keeper.reach(opened.head, catchUpMsMax);
  }

  reached(ok: boolean): void {
    const opening = this.#opening;
    if (opening === null) return;
    if (!ok) return this.#notLed(reopen("the ledger could not be brought to the head"));
    this.#parts.inbox.forgetAnswers();
    this.#parts.keys.clear();
    // Whoever was in a batch of which nobody knew learns the truth from the epoch that is open now.
    const unresolved = this.#parts.inbox.unresolved();
    opening.resolving = unresolved.length;
    for (const queued of unresolved) this.#parts.firstAnswers.look({ queued, why: "resolve", term: this.#term });
    if (unresolved.length === 0) this.#lead(opening);
  }

  firstAnswer(lookup: FirstLookup, answer: PriorOutcome): void {
    if (lookup.term !== this.#term) return;
    if (lookup.why === "settle") return this.leader?.first(lookup, answer);
    const opening = this.#opening;
    if (lookup.why !== "resolve" || opening === null) return;
    opening.resolving -= 1;
    if (answer === "none") opening.again.push(lookup.queued);
    if (opening.resolving > 0) return;
    this.#parts.inbox.requeue(opening.again);
    this.#lead(opening);
  }

  #lead({ opened }: Opening): void {
    if (this.#stopping) return this.#notLed({ type: "stopped" });
    this.#opening = null;
    this.leader = new Leader(this.#parts, { opened, known: this.#known, term: this.#term });
    this.#around.duties.begin(this.leader.leadership);
    this.#around.election.leads();
  }

  #notLed(end: LeaderEnd): void {
    this.#opening = null;
    this.#around.election.ended(end);
  }

  ended(end: LeaderEnd): void {
    const leader = this.leader;
    if (leader === null) return;
    // Whoever else leads now has the rows, and knows who has left since.
    this.#known = end.type === "reopen" || this.#parts.exclusive ? leader.granted() : [];
    this.#led = end.type === "reopen" ? leader.leadership.incarnation : null;
    this.leader = null;
    this.#around.duties.end();
    if (end.type === "fenced") this.#parts.counters.stepDowns += 1;
    this.#parts.work.emit({ type: "seatChanged" });
    this.#around.election.ended(end);
  }

  /** An epoch of ours was opened in which nobody leads: told at once, so that the next one need not wait. */
  resigned(opened: OpenedEpoch | null): void {
    if (opened === null) return;
    const { epoch, incarnation, previous, head, entry } = opened;
    this.#parts.relay.begin({ epoch, incarnation }, { start: previous, term: this.#term });
    this.#parts.relay.publish({ previous, entries: [entry], last: head, newKeys: [] });
    this.#parts.relay.end();
  }
}
