/**
 * Page server: serves the events after a link, with the keys of the people they name, to nodes that copy the log. Pure.
 *
 * Any broker serves pages, from memory or from the log, never above the durable horizon. A reader at the head may wait:
 * it is answered when the state changes. The number of waiting readers is bounded.
 */
import type { Link } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import type { LogCallOwner } from "../core/internal-messages.ts";
import type { BrokerInput, LogAnswer, PageAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "./broker-state.ts";
import { peopleIn } from "./people-in-events.ts";

type PageRead = {
  readonly id: number;
  readonly after: Link;
  readonly limit: number;
  readonly deadline: number;
  stage: "refresh" | "queued" | "page" | "keys" | "waiting";
  /** The change count of the state when this read last checked it. */
  seenChanges: number;
  outcome: PageOutcome | null;
};

export const pageEventsMax = 10_000;
export const pageWaitMsMax = 30_000;
const waitingMax = 4_096;
const readersMax = 20_000;
/** Concurrent log calls; a log rejects more than it can handle. */
const callsMax = 32;

export class PageServer {
  readonly #context: StepContext;
  readonly #state: BrokerState;
  readonly #reads = new Map<number, PageRead>();
  /** Reads that wait for the state to change. */
  readonly #waiting = new Set<PageRead>();
  /** Reads that wait for a log call. */
  #queue: PageRead[] = [];
  #callsInFlight = 0;
  #changes = 0;

  constructor(context: StepContext, state: BrokerState) {
    this.#context = context;
    this.#state = state;
  }

  /** @returns `refresh`: a broker that does not lead must first bring the state to the head */
  request({ id, after, limit, waitMs }: Extract<BrokerInput, { type: "pageRequested" }>): "refresh" | "taken" {
    if (this.#reads.size >= readersMax) {
      this.#context.emit({ type: "pageAnswered", id, answer: { type: "unavailable", message: "too many readers" } });
      return "taken";
    }
    const read: PageRead = {
      id,
      after,
      outcome: null,
      stage: "refresh",
      seenChanges: 0,
      limit: Math.max(1, Math.min(pageEventsMax, Math.floor(limit))),
      deadline: this.#context.now + Math.min(pageWaitMsMax, waitMs),
    };
    this.#reads.set(id, read);
    return after.position >= this.#state.applied.position ? "refresh" : "taken";
  }

  giveUp(id: number): void {
    const read = this.#reads.get(id);
    if (read !== undefined) this.#end(read);
  }

  /** Continues a read; the state is as far as it can be. */
  resume(id: number): void {
    const read = this.#reads.get(id);
    if (read?.stage === "refresh") this.#page(read);
  }

  /** The state has changed. */
  stateChanged(): void {
    this.#changes += 1;
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const read of waiting) this.#page(read);
  }

  get dueAt(): number {
    let due = Number.POSITIVE_INFINITY;
    for (const { deadline } of this.#waiting) due = Math.min(due, deadline);
    return due;
  }

  tick(): void {
    const { now } = this.#context;
    for (const read of this.#waiting) if (read.deadline <= now) this.#answer(read, read.outcome);
  }

  logAnswered({ requestId, of }: Extract<LogCallOwner, { to: "pages" }>, outcome: LogAnswer): void {
    this.#callsInFlight -= 1;
    const read = this.#reads.get(requestId);
    if (read !== undefined && read.stage === of) this.#logOutcome(read, outcome);
    this.#callNext();
  }

  #logOutcome(read: PageRead, outcome: LogAnswer): void {
    switch (outcome.type) {
      case "page":
        this.#withKeys(read, { type: "page", page: { ...outcome.page, keys: [] } });
        return;
      case "forked":
      case "truncated":
        this.#answer(read, outcome);
        return;
      case "keys": {
        const { outcome: readOutcome } = read;
        if (readOutcome?.type !== "page") {
          this.#answer(read, null);
          return;
        }
        this.#answer(read, { type: "page", page: { ...readOutcome.page, keys: outcome.keys } });
        return;
      }
      default:
        this.#answer(read, null);
    }
  }

  #page(read: PageRead): void {
    read.seenChanges = this.#changes;
    const page = this.#state.recent(read.after, read.limit);
    if (page !== undefined) {
      this.#withKeys(read, { type: "page", page: { ...page, keys: [] } });
      return;
    }
    read.outcome = null;
    this.#callLog(read);
  }

  #withKeys(read: PageRead, outcome: Extract<PageOutcome, { type: "page" }>): void {
    read.outcome = outcome;
    if (outcome.page.entries.length === 0) {
      this.#atHead(read, outcome);
      return;
    }
    if (peopleIn(outcome.page.entries).length === 0) this.#answer(read, outcome);
    else this.#callLog(read);
  }

  #atHead(read: PageRead, outcome: PageOutcome): void {
    const mustAnswer = read.deadline <= this.#context.now || this.#waiting.size >= waitingMax;
    if (mustAnswer) {
      this.#answer(read, outcome);
      return;
    }
    // The state changed during the log call.
    if (read.seenChanges !== this.#changes) {
      this.#page(read);
      return;
    }
    read.stage = "waiting";
    this.#waiting.add(read);
  }

  #callLog(read: PageRead): void {
    if (this.#callsInFlight >= callsMax) {
      read.stage = "queued";
      this.#queue.push(read);
      return;
    }
    this.#callsInFlight += 1;
    const { outcome, id } = read;
    if (outcome?.type === "page") {
      read.stage = "keys";
      const users = peopleIn(outcome.page.entries);
      this.#context.callLog({ op: "keys", users }, { to: "pages", requestId: id, of: "keys" });
      return;
    }
    read.stage = "page";
    const { after, limit } = read;
    this.#context.callLog({ op: "read", after, limit }, { to: "pages", requestId: id, of: "page" });
  }

  #callNext(): void {
    while (this.#callsInFlight < callsMax) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      if (next.stage === "queued") this.#callLog(next);
    }
  }

  /** @param outcome null: the log did not answer */
  #answer(read: PageRead, outcome: PageOutcome | null): void {
    this.#end(read);
    const answer: PageAnswer = outcome ?? { type: "unavailable", message: "the event log is not available" };
    this.#context.emit({ type: "pageAnswered", id: read.id, answer });
  }

  #end(read: PageRead): void {
    this.#reads.delete(read.id);
    this.#waiting.delete(read);
    if (read.stage === "queued") this.#queue = this.#queue.filter((other) => other !== read);
    read.stage = "refresh";
  }
}
