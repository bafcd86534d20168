/**
 * Pending conclusions: commands that are refused or change nothing, until they can be answered. Pure.
 *
 * - Such a command records no event. It is answered only after a clean commit has proven that the state it rests on
 *   was still the log's, and after a check for an earlier run: a retry must never fail because it succeeded.
 * - If that commit is not clean, the command is queued again and decided at the head, here or by another leader.
 */
import type { CommandId, Link } from "../../events/index.ts";
import { isReassertion } from "../commands/cluster/reassert-tightenings.ts";
import { refuseHeld } from "../commands/held/guard-mass-change.ts";
import type { PriorOutcome, QueuedCommand } from "../core/internal-messages.ts";
import type { ConcludedCommand } from "./batch.ts";
import type { LeaderParts } from "./leader-parts.ts";
import { doneResult } from "./pending-commands.ts";

type Conclusion = {
  readonly concluded: ConcludedCommand;
  readonly head: Link;
  /** The write that must commit cleanly first; null: none. */
  readonly write: number | null;
  proof: "awaited" | "clean" | "not-clean" | "unavailable";
  duplicate: "awaited" | "none";
};

export class PendingConclusions {
  readonly #parts: LeaderParts;
  readonly #leadershipNo: number;
  readonly #conclusions = new Map<QueuedCommand, Conclusion>();

  constructor(parts: LeaderParts, leadershipNo: number) {
    this.#parts = parts;
    this.#leadershipNo = leadershipNo;
  }

  /** Adds a command that was performed at `head`, and starts its duplicate check. */
  add(concluded: ConcludedCommand, { head, write }: Pick<Conclusion, "head" | "write">): void {
    const proof = write === null ? "clean" : "awaited";
    const { queued } = concluded;
    this.#conclusions.set(queued, { concluded, head, write, proof, duplicate: "awaited" });
    this.#parts.duplicateCheck.check({ queued, why: "settle", leadershipNo: this.#leadershipNo });
  }

  /** Notes the outcome of a write for the conclusions that wait for it. */
  writeEnded(write: number, proof: "clean" | "not-clean" | "unavailable"): void {
    for (const conclusion of this.#conclusions.values()) {
      if (conclusion.write === null || conclusion.write > write || conclusion.proof !== "awaited") continue;
      conclusion.proof = proof;
      this.#answerWhenSure(conclusion);
    }
  }

  /** The duplicate check of a command has ended. */
  duplicateChecked(queued: QueuedCommand, answer: PriorOutcome): void {
    const conclusion = this.#conclusions.get(queued);
    if (conclusion === undefined) return;
    if (answer !== "none") {
      this.#conclusions.delete(queued); // answered
      return;
    }
    conclusion.duplicate = "none";
    this.#answerWhenSure(conclusion);
  }

  #answerWhenSure(conclusion: Conclusion): void {
    const { concluded, head, proof, duplicate } = conclusion;
    if (proof === "awaited" || duplicate === "awaited") return;
    const { queued, performed } = concluded;
    const { pendingCommands, counters } = this.#parts;
    this.#conclusions.delete(queued);
    if (proof === "not-clean") {
      pendingCommands.requeue([queued]); // decided again at the head, here or by another leader
      return;
    }
    if (proof === "unavailable") {
      pendingCommands.answerUnavailable(queued, "the event log is not available");
      return;
    }
    if (performed.type === "nothing") {
      answerDone(this.#parts, queued, { link: head, changed: false });
      return;
    }
    recordReassertion(this.#parts, queued, "operator");
    counters.commandsRefused += 1;
    const { type, ...refusal } = performed;
    pendingCommands.answer(queued, { type, commandId: queued.request.commandId, ...refusal });
  }
}

/** Answers a command whose outcome a clean commit has proven. */
export function answerDone(
  parts: LeaderParts,
  queued: QueuedCommand,
  { link, changed }: Readonly<{ link: Link; changed: boolean }>,
): void {
  recordReassertion(parts, queued, changed ? "appended" : "already-denied");
  parts.counters.commandsDone += 1;
  const { commandId } = queued.request;
  const incarnation = parts.state.incarnationOf(link);
  parts.pendingCommands.answer(queued, doneResult(commandId, { link, incarnation, changed }));
}

/** Answers a command that a clean commit has held for an operator. */
export function answerHeld(parts: LeaderParts, queued: QueuedCommand, heldId: CommandId): void {
  const held = parts.state.projection.massChanges.heldChange(heldId);
  parts.counters.commandsRefused += 1;
  parts.counters.massChangesHeld += 1;
  const { people = 0, counted = 0, limit = 0, source = "", subject = "" } = held ?? {};
  const { type, ...refusal } = refuseHeld({ heldId, people, subject, counted, limit });
  parts.context.logger("error", "a mass change is held and has no effect; release or drop it", {
    heldId,
    source,
    subject,
    people,
    counted,
    limit,
  });
  parts.pendingCommands.answer(queued, { type, commandId: queued.request.commandId, ...refusal });
}

function recordReassertion(
  { reassertionIntake }: LeaderParts,
  { request }: QueuedCommand,
  outcome: "appended" | "already-denied" | "operator",
): void {
  if (!isReassertion(request) || request.command.type !== "reassertTightenings") return;
  for (const { link, stream, type } of request.command.events)
    reassertionIntake.recordOutcome({ link, stream, type }, outcome);
}
