/**
 * Duplicate check: was a command performed before? A retry must never fail because it succeeded, so whoever is about to conclude
 * something from a command asks here first. Pure; so many questions to the log at a time, the others line up.
 */
import type { Link, Position } from "../../events/index.ts";
import type { Counters } from "../core/counters.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { Queued } from "./command-queue.ts";
import type { PendingCommands } from "./pending-commands.ts";
import { lastOf, linkMadeBy } from "./recorded-outcome.ts";

/** `resolve`: its batch came to nobody knows what; `settle`: there is nothing to do, or it is refused. */
export type FirstLookup = Readonly<{ queued: Queued; why: "resolve" | "settle" | "repeated"; term: number }>;
/** `answered`: it had been carried out, and has been answered so. */
export type PriorOutcome = "answered" | "none" | "failed";

type Parts = Readonly<{
  inbox: PendingCommands;
  ledger: BrokerState;
  counters: Counters;
  /** Whether that epoch of ours is not over: only until then the ledger is of its history. */
  isCurrent: (term: number) => boolean;
}>;
/** A question of ours. `previous`: the link before the command's event; `event`: that event. */
export type FirstQuestion = Readonly<{ to: "first-answers"; lookup: FirstLookup }> &
  (Readonly<{ of: "command" }> | Readonly<{ of: "previous" | "event"; position: Position }>);

const lookupsMax = 16;
const unavailable = "the event log is not available";

export class DuplicateCheck {
  readonly #work: StepContext;
  readonly #parts: Parts;
  #waiting: FirstLookup[] = [];
  #asking = 0;

  constructor(work: StepContext, parts: Parts) {
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
    this.#work.callLog({ op: "findCommand", commandId }, { to: "first-answers", of: "command", lookup });
  }

  /** The log named the place of a command that was carried out before. */
  repeat(queued: Queued, made: Readonly<{ first: Position; count: number }>, term: number): void {
    this.#asking += 1;
    this.#linkOf({ queued, why: "repeated", term }, lastOf(made));
  }

  answered(question: FirstQuestion, outcome: LogAnswer): void {
    const { lookup } = question;
    if (question.of === "command") {
      if (outcome.type !== "command") return this.#failed(lookup);
      return outcome.found === undefined ? this.#end(lookup, "none") : this.#linkOf(lookup, lastOf(outcome.found));
    }
    const { position } = question;
    if (question.of === "previous") {
      if (outcome.type !== "link") return this.#failed(lookup);
      if (outcome.link === undefined) return this.#gone(lookup, position);
      const event = { to: "first-answers", of: "event", lookup, position } as const;
      return this.#work.callLog({ op: "read", after: outcome.link, limit: 1 }, event);
    }
    const link = linkMadeBy(lookup.queued.request.commandId, position, outcome);
    if (link === "gone") return this.#gone(lookup, position);
    return link === "other" || link === "unknown" ? this.#failed(lookup) : this.#done(lookup, link);
  }

  #linkOf(lookup: FirstLookup, position: Position): void {
    const previous = { to: "first-answers", of: "previous", lookup, position } as const;
    this.#work.callLog({ op: "linkAt", position: (position - 1) as Position }, previous);
  }

  /**
   * Retention has let go of its event: where we stand is behind it, and says no less to whoever waits for it. Not where we stand before
   * it, nor when our epoch is over and the ledger may be of another history, or empty: a receipt for such a place would say nothing.
   */
  #gone(lookup: FirstLookup, position: Position): void {
    const { ledger, isCurrent } = this.#parts;
    if (isCurrent(lookup.term) && ledger.applied.position >= position) this.#done(lookup, ledger.applied);
    else this.#failed(lookup);
  }

  #failed(lookup: FirstLookup): void {
    this.#parts.inbox.answerUnavailable(lookup.queued, unavailable);
    this.#end(lookup, "failed");
  }

  #done(lookup: FirstLookup, link: Link): void {
    const { inbox, counters } = this.#parts;
    const { queued } = lookup;
    counters.commandsRepeated += 1;
    inbox.answer(queued, { type: "done", commandId: queued.request.commandId, link, changed: true });
    this.#end(lookup, "answered");
  }

  #end(lookup: FirstLookup, answer: PriorOutcome): void {
    this.#asking -= 1;
    this.#work.post({ type: "firstAnswer", lookup, answer });
    const next = this.#waiting.shift();
    if (next !== undefined) this.look(next);
  }
}
