/**
 * Duplicate check: was a command performed before? A retry must never fail because it succeeded, so a conclusion about
 * a command starts here. Pure. The number of concurrent lookups is bounded; the others wait.
 */

import type { Position } from "../../events/index.ts";
import { previousPosition } from "../../events/index.ts";
import { refuseHeld } from "../commands/held/guard-mass-change.ts";
import type { Counters } from "../core/counters.ts";
import type { DuplicateCheckCall, DuplicateLookup, PriorOutcome, QueuedCommand } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { doneResult, type PendingCommands } from "./pending-commands.ts";
import { type CommandRecord, lastPositionOf, outcomeRecordedBy } from "./recorded-outcome.ts";

type DuplicateCheckParts = Readonly<{
  pendingCommands: PendingCommands;
  state: BrokerState;
  counters: Counters;
  /** True until that epoch has ended: only until then the broker state is of its history. */
  isCurrent: (leadershipNo: number) => boolean;
}>;
const lookupsMax = 16;
const unavailable = "the event log is not available";

export class DuplicateCheck {
  readonly #context: StepContext;
  readonly #parts: DuplicateCheckParts;
  #waiting: DuplicateLookup[] = [];
  #running = 0;

  constructor(context: StepContext, parts: DuplicateCheckParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** The message `duplicateChecked` has the result. For `repeated`, whose position is known, see `answerRepeated`. */
  check(lookup: DuplicateLookup): void {
    if (this.#running >= lookupsMax) {
      this.#waiting.push(lookup);
      return;
    }
    this.#running += 1;
    const { commandId } = lookup.queued.request;
    this.#context.callLog({ op: "findCommand", commandId }, { to: "duplicate-check", of: "command", lookup });
  }

  /** The log named the position of a command that was performed before. */
  answerRepeated(
    queued: QueuedCommand,
    recorded: Readonly<{ first: Position; count: number }>,
    leadershipNo: number,
  ): void {
    this.#running += 1;
    this.#readLink({ queued, why: "repeated", leadershipNo }, lastPositionOf(recorded));
  }

  logAnswered(call: DuplicateCheckCall, outcome: LogAnswer): void {
    const { lookup } = call;
    if (call.of === "command") {
      if (outcome.type !== "command") {
        this.#failed(lookup);
        return;
      }
      if (outcome.found === undefined) this.#end(lookup, "none");
      else this.#readLink(lookup, lastPositionOf(outcome.found));
      return;
    }
    const { position } = call;
    if (call.of === "previous") {
      if (outcome.type !== "link") {
        this.#failed(lookup);
        return;
      }
      if (outcome.link === undefined) {
        this.#truncated(lookup, position);
        return;
      }
      const event = { to: "duplicate-check", of: "event", lookup, position } as const;
      this.#context.callLog({ op: "read", after: outcome.link, limit: 1 }, event);
      return;
    }
    const recorded = outcomeRecordedBy(lookup.queued.request.commandId, position, outcome);
    if (recorded === "truncated") this.#truncated(lookup, position);
    else if (recorded === "other" || recorded === "unknown") this.#failed(lookup);
    else this.#done(lookup, recorded);
  }

  #readLink(lookup: DuplicateLookup, position: Position): void {
    const previous = { to: "duplicate-check", of: "previous", lookup, position } as const;
    this.#context.callLog({ op: "linkAt", position: previousPosition(position) }, previous);
  }

  /**
   * Retention has dropped the event. Our head is after it, and a receipt for our head covers it. That fails if our head
   * is before it, or if our epoch has ended: the state may then be empty or of another history.
   */
  #truncated(lookup: DuplicateLookup, position: Position): void {
    const { state, isCurrent } = this.#parts;
    if (isCurrent(lookup.leadershipNo) && state.applied.position >= position)
      this.#done(lookup, { link: state.applied, held: null });
    else this.#failed(lookup);
  }

  #failed(lookup: DuplicateLookup): void {
    this.#parts.pendingCommands.answerUnavailable(lookup.queued, unavailable);
    this.#end(lookup, "failed");
  }

  #done(lookup: DuplicateLookup, { link, held }: CommandRecord): void {
    const { pendingCommands, state, counters, isCurrent } = this.#parts;
    const { queued, leadershipNo } = lookup;
    counters.commandsRepeated += 1;
    if (held !== null) {
      const { commandId } = queued.request;
      pendingCommands.answer(queued, { ...refuseHeld(held), commandId });
      this.#end(lookup, "answered");
      return;
    }
    const incarnation = isCurrent(leadershipNo) ? state.incarnationOf(link) : undefined;
    pendingCommands.answer(queued, doneResult(queued.request.commandId, { link, incarnation, changed: true }));
    this.#end(lookup, "answered");
  }

  #end(lookup: DuplicateLookup, answer: PriorOutcome): void {
    this.#running -= 1;
    this.#context.post({ type: "duplicateChecked", lookup, answer });
    const next = this.#waiting.shift();
    if (next !== undefined) this.check(next);
  }
}
