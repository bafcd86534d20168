/**
 * Page server: the events after a link, with the keys of the people they name, for nodes that keep a copy of the log. Pure.
 *
 * Any broker serves them, from its ledger's memory or from the log, never above the durable horizon. A reader at the head
 * may wait; it is answered when the ledger moves, and the number of those who wait is bounded.
 */
import type { Link } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import type { BrokerInput, LogAnswer, PageAnswer } from "../core/messages.ts";
import type { LogCallOwner, StepContext } from "../core/step-context.ts";
import type { BrokerState } from "./broker-state.ts";
import { peopleIn } from "./people-in-events.ts";

type Reading = {
  readonly id: number;
  readonly after: Link;
  readonly limit: number;
  readonly deadline: number;
  stage: "refresh" | "line" | "page" | "keys" | "waiting";
  /** How often the ledger had moved when it was looked at. */
  seen: number;
  outcome: PageOutcome | null;
};

export const pageEventsMax = 10_000;
export const pageWaitMsMax = 30_000;
const waitingMax = 4_096;
const readersMax = 20_000;
/** Questions to the log at once; a log turns away more than it can take. */
const questionsMax = 32;

export class Pages {
  readonly #work: StepContext;
  readonly #ledger: BrokerState;
  readonly #reading = new Map<number, Reading>();
  /** They wait for the ledger to move. */
  readonly #waiting = new Set<Reading>();
  /** They wait to ask the log. */
  #line: Reading[] = [];
  #questions = 0;
  #moves = 0;

  constructor(work: StepContext, ledger: BrokerState) {
    this.#work = work;
    this.#ledger = ledger;
  }

  /** @returns whether the ledger has to be brought to the head first, where we do not lead */
  ask({ id, after, limit, waitMs }: Extract<BrokerInput, { type: "pageAsked" }>): "refresh" | "taken" {
    if (this.#reading.size >= readersMax) {
      this.#work.emit({ type: "pageAnswered", id, answer: { type: "unavailable", message: "too many readers" } });
      return "taken";
    }
    const reading: Reading = {
      ...{ id, after, outcome: null, stage: "refresh", seen: 0 },
      limit: Math.max(1, Math.min(pageEventsMax, Math.floor(limit))),
      deadline: this.#work.now + Math.min(pageWaitMsMax, waitMs),
    };
    this.#reading.set(id, reading);
    return after.position >= this.#ledger.applied.position ? "refresh" : "taken";
  }

  giveUp(id: number): void {
    const reading = this.#reading.get(id);
    if (reading !== undefined) this.#end(reading);
  }

  /** The ledger is where it can be: read on. */
  go(id: number): void {
    const reading = this.#reading.get(id);
    if (reading?.stage === "refresh") this.#page(reading);
  }

  /** The ledger moved. */
  moved(): void {
    this.#moves += 1;
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const reading of waiting) this.#page(reading);
  }

  get dueAt(): number {
    let due = Number.POSITIVE_INFINITY;
    for (const { deadline } of this.#waiting) due = Math.min(due, deadline);
    return due;
  }

  tick(): void {
    const { now } = this.#work;
    for (const reading of this.#waiting) if (reading.deadline <= now) this.#answer(reading, reading.outcome);
  }

  answered({ ask, of }: Extract<LogCallOwner, { to: "pages" }>, outcome: LogAnswer): void {
    this.#questions -= 1;
    const reading = this.#reading.get(ask);
    if (reading !== undefined && reading.stage === of) this.#go(reading, outcome);
    this.#nextInLine();
  }

  #go(reading: Reading, outcome: LogAnswer): void {
    switch (outcome.type) {
      case "page":
        return this.#withKeys(reading, { type: "page", page: { ...outcome.page, keys: [] } });
      case "forked":
      case "truncated":
        return this.#answer(reading, outcome);
      case "keys": {
        const { outcome: read } = reading;
        if (read?.type !== "page") return this.#answer(reading, null);
        return this.#answer(reading, { type: "page", page: { ...read.page, keys: outcome.keys } });
      }
      default:
        return this.#answer(reading, null);
    }
  }

  #page(reading: Reading): void {
    reading.seen = this.#moves;
    const page = this.#ledger.recent(reading.after, reading.limit);
    if (page !== undefined) return this.#withKeys(reading, { type: "page", page: { ...page, keys: [] } });
    reading.outcome = null;
    this.#ask(reading);
  }

  #withKeys(reading: Reading, outcome: Extract<PageOutcome, { type: "page" }>): void {
    reading.outcome = outcome;
    if (outcome.page.entries.length === 0) return this.#atHead(reading, outcome);
    if (peopleIn(outcome.page.entries).length === 0) return this.#answer(reading, outcome);
    this.#ask(reading);
  }

  #atHead(reading: Reading, outcome: PageOutcome): void {
    const over = reading.deadline <= this.#work.now || this.#waiting.size >= waitingMax;
    if (over) return this.#answer(reading, outcome);
    if (reading.seen !== this.#moves) return this.#page(reading); // it moved while the log was asked
    reading.stage = "waiting";
    this.#waiting.add(reading);
  }

  #ask(reading: Reading): void {
    if (this.#questions >= questionsMax) {
      reading.stage = "line";
      this.#line.push(reading);
      return;
    }
    this.#questions += 1;
    const { outcome, id } = reading;
    if (outcome?.type === "page") {
      reading.stage = "keys";
      const users = peopleIn(outcome.page.entries);
      return this.#work.callLog({ op: "keys", users }, { to: "pages", ask: id, of: "keys" });
    }
    reading.stage = "page";
    const { after, limit } = reading;
    this.#work.callLog({ op: "read", after, limit }, { to: "pages", ask: id, of: "page" });
  }

  #nextInLine(): void {
    while (this.#questions < questionsMax) {
      const next = this.#line.shift();
      if (next === undefined) return;
      if (next.stage === "line") this.#ask(next);
    }
  }

  /** @param outcome null: the log did not answer */
  #answer(reading: Reading, outcome: PageOutcome | null): void {
    this.#end(reading);
    const answer: PageAnswer = outcome ?? { type: "unavailable", message: "the event log is not available" };
    this.#work.emit({ type: "pageAnswered", id: reading.id, answer });
  }

  #end(reading: Reading): void {
    this.#reading.delete(reading.id);
    this.#waiting.delete(reading);
    if (reading.stage === "line") this.#line = this.#line.filter((one) => one !== reading);
    reading.stage = "refresh";
  }
}
