/**
 * Reassertion intake: accepts reports of events that the log has lost, and records them again (docs/protocol.md §4.3).
 * Pure.
 *
 * Each lost tightening event becomes a command of its own, under an id that follows from its hash. A report is answered
 * when all of its events have an answer. A reassertion is not applied if the surviving log has since decided about the
 * same fact: it is named to the operator, once.
 */
import {
  type CommandId,
  type Hash,
  type Link,
  type LostTightening,
  parseStream,
  type ReassertTightenings,
  type Stream,
} from "../../events/index.ts";
import { reassertionsIn } from "../commands/cluster/reassert-tightenings.ts";
import type { Counters } from "../core/counters.ts";
import type { CommandAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { createGrowingCache } from "../state/growing-cache.ts";
import { type PendingCommands, unavailableResult } from "./pending-commands.ts";

type Report = {
  readonly commandId: CommandId;
  /** The request to answer. */
  readonly id: number;
  readonly events: number;
  open: number;
  link: Link;
  changed: boolean;
  failed: string | null;
  /** The refusal of a report's only event. A report of several events says only that each was handled. */
  refused: Extract<CommandAnswer, { type: "refused" }> | null;
};

const reportsMax = 10_000;
const reportedMax = 20_000;

export class ReassertionIntake {
  readonly #context: StepContext;
  readonly #parts: Readonly<{ pendingCommands: PendingCommands; state: BrokerState; counters: Counters }>;
  readonly #reports = new Map<number, Report>();
  readonly #reported = createGrowingCache<Hash, true>(reportedMax);
  #count = 0;

  constructor(
    context: StepContext,
    parts: Readonly<{ pendingCommands: PendingCommands; state: BrokerState; counters: Counters }>,
  ) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Accepts a report of events that the log has lost. */
  accept(id: number, commandId: CommandId, command: ReassertTightenings): void {
    const { pendingCommands, state } = this.#parts;
    const commands = reassertionsIn(command);
    const report: Report = {
      id,
      commandId,
      events: commands.length,
      open: commands.length,
      link: state.applied,
      changed: false,
      failed: null,
      refused: null,
    };
    if (this.#reports.size >= reportsMax) report.failed = "too many reports are waiting";
    if (commands.length === 0 || report.failed !== null) {
      this.#answer(report);
      return;
    }
    this.#count += 1;
    const reportNo = this.#count;
    this.#reports.set(reportNo, report);
    for (const reassertion of commands) pendingCommands.submit(reassertion, { type: "report", report: reportNo });
  }

  /** One event of a report has its answer. */
  eventAnswered(reportNo: number, answer: CommandAnswer): void {
    const report = this.#reports.get(reportNo);
    if (report === undefined) return;
    report.open -= 1;
    if (answer.type === "done") {
      if (answer.link.position > report.link.position) report.link = answer.link;
      if (answer.changed) report.changed = true;
    } else if (answer.type === "refused") {
      report.refused = answer;
    } else {
      report.failed = answer.type === "notLeader" ? "this broker no longer leads" : answer.message;
    }
    if (report.open > 0) return;
    this.#reports.delete(reportNo);
    this.#answer(report);
  }

  /** Records the outcome of one event, which a clean commit has proven. */
  recordOutcome(
    lost: Pick<LostTightening, "link" | "stream" | "type">,
    outcome: "appended" | "already-denied" | "operator",
  ): void {
    const { counters } = this.#parts;
    const { link, stream, type } = lost;
    if (outcome === "appended") counters.reasserted += 1;
    if (this.#reported.get(link.hash) === true && outcome !== "appended") return;
    this.#reported.set(link.hash, true);
    this.#context.emit({ type: "reasserted", lost: link, stream, outcome });
    const fields = { lost: link, stream, type };
    if (outcome === "appended")
      this.#context.logger("warn", "the log had lost a revocation; recorded it again", fields);
    if (type === "UserErased" && outcome !== "operator") this.#reportErasure(fields);
    if (outcome !== "operator") return;
    counters.reassertionsForOperator += 1;
    const message = "the log had lost a revocation, and later events contradict it; an operator must decide";
    this.#context.logger("error", message, fields);
  }

  /** The person is suspended instead, and an operator has to erase them again. */
  #reportErasure(fields: Readonly<{ stream: Stream }>): void {
    const { kind, id } = parseStream(fields.stream);
    if (kind === "user" && this.#parts.state.projection.user(id)?.status === "erased") return;
    this.#parts.counters.reassertionsForOperator += 1;
    const message = "the log had lost an erasure; the person is suspended: erase them again (cardea users erase)";
    this.#context.logger("error", message, fields);
  }

  #answer({ id, commandId, events, failed, refused, link, changed }: Report): void {
    if (failed === null && refused !== null && events === 1) {
      this.#context.emit({ type: "commandAnswered", id, answer: { ...refused, commandId } });
      return;
    }
    const answer: CommandAnswer =
      failed === null ? { type: "done", commandId, link, changed } : unavailableResult(commandId, failed);
    this.#context.emit({ type: "commandAnswered", id, answer });
  }
}
