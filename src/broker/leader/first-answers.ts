/**
 * First answers: was a command carried out before? A retry must never fail because it succeeded, so whoever is about to conclude
 * something from a command asks here first. Pure; so many questions to the log at a time, the others line up.
 */
import { type Link, type Position, parsePosition } from "../../events/index.ts";
import type { LogAnswer } from "../broker-messages.ts";
import type { Counters } from "../counters.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Work } from "../work.ts";
import type { Queued } from "./command-queue.ts";
import type { Inbox } from "./inbox.ts";

/** `resolve`: its batch came to nobody knows what; `settle`: there is nothing to do, or it is refused. */
export type FirstLookup = Readonly<{ queued: Queued; why: "resolve" | "settle" | "repeated"; term: number }>;
/** `answered`: it had been carried out, and has been answered so. */
export type FirstAnswer = "answered" | "none" | "failed";

const lookupsMax = 16;

export class FirstAnswers {
  readonly #work: Work;
  readonly #parts: Readonly<{ inbox: Inbox; ledger: Ledger; counters: Counters }>;
  #waiting: FirstLookup[] = [];
  #asking = 0;

  constructor(work: Work, parts: Readonly<{ inbox: Inbox; ledger: Ledger; counters: Counters }>) {
    this.#work = work;
    this.#parts = parts;
  }

  /** A note says what it came to; for `repeated`, whose place is known, see `repeat`. */
  look(lookup: FirstLookup): void {
    if (this.#asking >= lookupsMax) {
      this.#waiting.push(lookup);
      return;
    }
    this.#asking += 1;
    const { commandId } = lookup.queued.request;
    this.#work.ask({ op: "findCommand", commandId }, { to: "first-answers", of: "command", lookup });
  }

  /** The log named the place of a command that was carried out before. */
  repeat(queued: Queued, made: Readonly<{ first: Position; count: number }>, term: number): void {
    this.#asking += 1;
    this.#linkOf({ queued, why: "repeated", term }, made);
  }

  answered(lookup: FirstLookup, outcome: LogAnswer): void {
    switch (outcome.type) {
      case "command":
        if (outcome.found !== undefined) return this.#linkOf(lookup, outcome.found);
        return this.#end(lookup, "none");
      case "link":
        // Retention has let go of its events: where we stand is behind them, and says no less to whoever waits for them.
        this.#done(lookup.queued, outcome.link ?? this.#parts.ledger.applied);
        return this.#end(lookup, "answered");
      default:
        this.#parts.inbox.answerUnavailable(lookup.queued, "the event log is not available");
        return this.#end(lookup, "failed");
    }
  }

  #linkOf(lookup: FirstLookup, { first, count }: Readonly<{ first: Position; count: number }>): void {
    const position = parsePosition(first + Math.max(1, count) - 1);
    this.#work.ask({ op: "linkAt", position }, { to: "first-answers", of: "link", lookup });
  }

  #done(queued: Queued, link: Link): void {
    const { inbox, counters } = this.#parts;
    counters.commandsRepeated += 1;
    inbox.answer(queued, { type: "done", commandId: queued.request.commandId, link, changed: true });
  }

  #end(lookup: FirstLookup, answer: FirstAnswer): void {
    this.#asking -= 1;
    this.#work.note({ type: "firstAnswer", lookup, answer });
    const next = this.#waiting.shift();
    if (next !== undefined) this.look(next);
  }
}
