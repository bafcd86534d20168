/**
 * Receipt tracker: reports which nodes have applied a change, immediately or once all have. Pure.
 *
 * It answers only for positions on the leader's own chain: at or below its head, the registry's facts about nodes stay
 * true under any later leader (docs/protocol.md §7). Before it reports a change as lost, it has a write committed, so
 * that a deposed leader never denies what another leader has written.
 */
import { type Epoch, type Link, type Position, previousPosition, sameLink, unreachable } from "../../events/index.ts";
import type { Receipt, ReceiptTarget } from "../../replication/index.ts";
import {
  type LesseeStatus,
  type ReceiptQuery,
  type ReceiptState,
  type RegionHeard,
  receiptFor,
} from "../../replication/lease/index.ts";
import type { Counters } from "../core/counters.ts";
import type { LogCallOwner } from "../core/internal-messages.ts";
import type { BrokerInput, CommandAnswer, LogAnswer, ReceiptAsked } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { PendingCommands } from "./pending-commands.ts";
import { lastPositionOf, outcomeRecordedBy } from "./recorded-outcome.ts";

type ReceiptRequest = {
  readonly id: number;
  readonly target: ReceiptTarget;
  readonly options: ReceiptAsked;
  readonly deadline: number;
  stage: /** The command is pending; `until`: then the log is read instead. */
    | { type: "answer"; until: number }
    /** The log is being read; a known link is only compared. */
    | { type: "looking"; link: Link | null }
    /** Nothing was found: only a clean write that begins after this one proves it. */
    | { type: "unproven"; after: number | null; until: number }
    | { type: "waiting"; question: ReceiptQuery; checkAt: number };
  /** A clean write after the first lookup has proven that this broker leads. */
  proven: boolean;
};

/** A clock that is off by less than a millisecond must not cause a second check. */
const fenceSlackMs = 1;
const receiptsMax = 10_000;

export class ReceiptTracker {
  readonly #parts: Readonly<{
    context: StepContext;
    state: BrokerState;
    pendingCommands: PendingCommands;
    counters: Counters;
    proofMsMax: number;
  }>;
  readonly #context: StepContext;
  readonly #epoch: Epoch;
  readonly #leadershipNo: number;
  readonly #requests = new Map<number, ReceiptRequest>();
  /** A lessee confirmed, left or got a grant. */
  #lesseesChanged = false;

  constructor(
    parts: Readonly<{
      context: StepContext;
      state: BrokerState;
      pendingCommands: PendingCommands;
      counters: Counters;
      proofMsMax: number;
    }>,
    of: Readonly<{ epoch: Epoch; leadershipNo: number }>,
  ) {
    this.#parts = parts;
    this.#context = parts.context;
    this.#epoch = of.epoch;
    this.#leadershipNo = of.leadershipNo;
  }

  get waiting(): number {
    return this.#requests.size;
  }

  request({ id, target, options }: Extract<BrokerInput, { type: "receiptRequested" }>): void {
    if (this.#requests.size >= receiptsMax) {
      this.#unavailable(id, "too many receipts are waiting");
      return;
    }
    const deadline = this.#context.now + options.timeoutMs;
    const request: ReceiptRequest = {
      id,
      target,
      options,
      deadline,
      stage: { type: "looking", link: null },
      proven: false,
    };
    this.#requests.set(id, request);
    this.#locateTarget(request);
  }

  giveUp(id: number): void {
    this.#requests.delete(id);
  }

  close(): void {
    for (const { id } of this.#requests.values()) this.#unavailable(id, "this broker no longer leads");
    this.#requests.clear();
  }

  noteLesseesChanged(): void {
    this.#lesseesChanged = this.#requests.size > 0;
  }

  get dueAt(): number {
    if (this.#lesseesChanged) return this.#context.now;
    let due = Number.POSITIVE_INFINITY;
    for (const { stage } of this.#requests.values()) {
      if (stage.type === "waiting") due = Math.min(due, stage.checkAt);
      else if (stage.type !== "looking") due = Math.min(due, stage.until);
    }
    return due;
  }

  /**
   * Answers the receipts that are due; checks all of them after a change of a lessee. Only a receipt that may be
   * complete reads every lessee: a thousand nodes confirm each change one by one.
   */
  answerDue(
    nodes: Readonly<{
      standings: () => readonly LesseeStatus[];
      regions: () => readonly RegionHeard[];
      lowestEnforced: (region: string | null) => number;
    }>,
  ): void {
    const { now } = this.#context;
    const lesseesChanged = this.#lesseesChanged;
    this.#lesseesChanged = false;
    const lowest = new Map<string | null, number>();
    const isIncomplete = ({ link, region }: ReceiptQuery): boolean => {
      const known = lowest.get(region) ?? nodes.lowestEnforced(region);
      lowest.set(region, known);
      return link !== null && known < link.position;
    };
    let state: Pick<ReceiptState, "lessees" | "regions"> | undefined;
    for (const request of this.#requests.values()) {
      const { stage } = request;
      if (stage.type !== "waiting") continue;
      if (stage.checkAt > now && (!lesseesChanged || isIncomplete(stage.question))) continue;
      state ??= { lessees: nodes.standings(), regions: nodes.regions() };
      this.#answerIfDue(request, stage, state);
    }
  }

  /** Handles requests that wait too long for something other than nodes. */
  tick(): void {
    const { now } = this.#context;
    for (const request of this.#requests.values()) {
      const { stage } = request;
      if (stage.type === "answer" && stage.until <= now) this.#findInLog(request);
      else if (stage.type === "unproven" && stage.until <= now) {
        this.#requests.delete(request.id);
        this.#unavailable(request.id, "the event log does not answer");
      }
    }
  }

  /**
   * Continues the requests that waited for a proof.
   * @param at the newest write, and the newest that has committed cleanly
   * @returns the write that must commit cleanly next; 0: none
   */
  recordWrites(at: Readonly<{ write: number; clean: number }>): number {
    let neededWrite = 0;
    for (const request of this.#requests.values()) {
      const { stage } = request;
      if (stage.type !== "unproven") continue;
      stage.after ??= at.write;
      if (at.clean > stage.after) {
        request.proven = true;
        this.#locateTarget(request);
      } else {
        neededWrite = Math.max(neededWrite, stage.after + 1);
      }
    }
    return neededWrite;
  }

  /** The command of a receipt has its answer. */
  commandAnswered(id: number, answer: CommandAnswer): void {
    const request = this.#requests.get(id);
    if (request?.stage.type === "answer") this.#resolveCommand(request, answer);
  }

  /** The answer to a log call of the tracker. */
  logAnswered(owner: Extract<LogCallOwner, { to: "receipts" }>, outcome: LogAnswer): void {
    const { requestId, of } = owner;
    const request = this.#requests.get(requestId);
    if (request === undefined || request.stage.type !== "looking") return;
    const to = { to: "receipts", leadershipNo: this.#leadershipNo, requestId } as const;
    if (of === "command" && outcome.type === "command") {
      if (outcome.found === undefined) {
        this.#notOnChain(request);
        return;
      }
      const position = lastPositionOf(outcome.found);
      this.#context.callLog(
        { op: "linkAt", position: previousPosition(position) },
        { ...to, of: "previous", position },
      );
      return;
    }
    if (of === "previous" && outcome.type === "link") {
      const { position } = owner;
      if (outcome.link === undefined) {
        this.#truncated(request, position);
        return;
      }
      this.#context.callLog({ op: "read", after: outcome.link, limit: 1 }, { ...to, of: "event", position });
      return;
    }
    if (of === "event") {
      this.#eventRead(request, owner.position, outcome);
      return;
    }
    if (of === "chain" && outcome.type === "link") {
      const { link } = request.stage;
      if (outcome.link === undefined) {
        this.#linkTruncated(request);
        return;
      }
      if (link !== null && sameLink(outcome.link, link)) this.#awaitNodes(request, link);
      else this.#notOnChain(request);
      return;
    }
    this.#logSilent(request);
  }

  #eventRead(request: ReceiptRequest, position: Position, outcome: LogAnswer): void {
    if (request.target.type !== "command") return;
    const recorded = outcomeRecordedBy(request.target.commandId, position, outcome);
    if (recorded === "truncated") {
      this.#truncated(request, position);
      return;
    }
    if (recorded === "other") this.#notOnChain(request);
    else if (recorded === "unknown") this.#logSilent(request);
    else this.#checkChain(request, recorded.link);
  }

  /** Retention has dropped the command's event: a node that enforces our head enforces it, too. */
  #truncated(request: ReceiptRequest, position: Position): void {
    const { applied } = this.#parts.state;
    if (applied.position >= position) this.#awaitNodes(request, applied);
    else this.#notOnChain(request);
  }

  /** Retention has dropped the event at the link's position: the log cannot say any more whether it had this link. */
  #linkTruncated({ id }: ReceiptRequest): void {
    this.#requests.delete(id);
    this.#unavailable(id, "the log begins after this link and can no longer say whether it had it");
  }

  #logSilent({ id }: ReceiptRequest): void {
    this.#requests.delete(id);
    this.#unavailable(id, "the event log is not available");
  }

  // --- the position of the target

  #locateTarget(request: ReceiptRequest): void {
    const { target } = request;
    switch (target.type) {
      case "link":
        this.#checkChain(request, target.link);
        return;
      case "command": {
        const known = this.#parts.pendingCommands.answerOf(target.commandId);
        if (known !== undefined) {
          this.#resolveCommand(request, known);
          return;
        }
        const joined = this.#parts.pendingCommands.join(target.commandId, { type: "receipt", requestId: request.id });
        if (!joined) {
          this.#findInLog(request);
          return;
        }
        request.stage = { type: "answer", until: Math.max(this.#context.now + 1, request.deadline) };
        return;
      }
      default:
        unreachable(target);
    }
  }

  #resolveCommand(request: ReceiptRequest, answer: CommandAnswer): void {
    if (answer.type === "done") this.#checkChain(request, answer.link);
    else this.#findInLog(request);
  }

  #findInLog(request: ReceiptRequest): void {
    if (request.target.type !== "command") return;
    request.stage = { type: "looking", link: null };
    const { commandId } = request.target;
    this.#context.callLog(
      { op: "findCommand", commandId },
      { to: "receipts", leadershipNo: this.#leadershipNo, requestId: request.id, of: "command" },
    );
  }

  #checkChain(request: ReceiptRequest, link: Link): void {
    const standing = this.#parts.state.locate(link);
    switch (standing) {
      case "onChain":
        this.#awaitNodes(request, link);
        return;
      case "ahead":
      case "otherChain":
        this.#notOnChain(request);
        return;
      case "unknown":
        request.stage = { type: "looking", link };
        this.#context.callLog(
          { op: "linkAt", position: link.position },
          { to: "receipts", leadershipNo: this.#leadershipNo, requestId: request.id, of: "chain" },
        );
        return;
      default:
        unreachable(standing);
    }
  }

  /** Not on our chain; it remains to prove that this broker still leads. */
  #notOnChain(request: ReceiptRequest): void {
    if (request.proven) this.#awaitNodes(request, null);
    else request.stage = { type: "unproven", after: null, until: this.#context.now + this.#parts.proofMsMax };
  }

  #awaitNodes(request: ReceiptRequest, link: Link | null): void {
    const { target, options } = request;
    const question: ReceiptQuery = {
      link,
      commandId: target.type === "command" ? target.commandId : null,
      wait: options.wait,
      region: options.wait === "region" ? (options.region ?? null) : null,
    };
    request.stage = { type: "waiting", question, checkAt: this.#context.now };
  }

  #answerIfDue(
    request: ReceiptRequest,
    stage: Extract<ReceiptRequest["stage"], { type: "waiting" }>,
    state: Pick<ReceiptState, "lessees" | "regions">,
  ): void {
    const { now } = this.#context;
    const receipt = receiptFor(stage.question, { ...state, epoch: this.#epoch, at: this.#context.at });
    if (receipt.status !== "incomplete" || request.options.wait === "none" || now >= request.deadline) {
      this.#requests.delete(request.id);
      this.#count(receipt);
      this.#context.emit({ type: "receiptAnswered", id: request.id, answer: { type: "receipt", receipt } });
      return;
    }
    stage.checkAt = now + Math.min(request.deadline - now, nextFenceMs(receipt));
  }

  #unavailable(id: number, message: string): void {
    this.#context.emit({ type: "receiptAnswered", id, answer: { type: "unavailable", message } });
  }

  #count(receipt: Receipt): void {
    const { counters } = this.#parts;
    if (receipt.status === "complete") counters.receiptsComplete += 1;
    else if (receipt.status === "lost") counters.receiptsLost += 1;
    else counters.receiptsIncomplete += 1;
  }
}

/** When the next unconfirmed node is fenced if it stays silent. */
function nextFenceMs(receipt: Receipt): number {
  const fencesInMs = receipt.nodes.filter((node) => node.status === "unconfirmed").map((node) => node.fencedInMs ?? 0);
  return Math.max(1, Math.min(...fencesInMs, 60_000) + fenceSlackMs);
}
