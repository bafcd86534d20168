/**
 * Receipt tracker: reports which nodes have applied a change, immediately or once all have. Pure.
 *
 * Only for places on the leader's own chain: at or below its head, what its registry says of the nodes stays true whoever
 * leads afterwards (docs/protocol.md §7). Before it calls something lost it has a write committed, so that a deposed
 * leader never denies what another has written.
 */
import { type Epoch, type Link, type Position, sameLink, unreachable } from "../../events/index.ts";
import {
  type LesseeStanding,
  type Receipt,
  type ReceiptQuestion,
  type ReceiptTarget,
  receiptFor,
} from "../../replication/index.ts";
import type { Counters } from "../core/counters.ts";
import type { BrokerInput, CommandAnswer, LogAnswer, ReceiptAsked } from "../core/messages.ts";
import type { LogCallOwner, StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { PendingCommands } from "./pending-commands.ts";
import { lastOf, linkMadeBy } from "./recorded-outcome.ts";

type Asked = {
  readonly id: number;
  readonly target: ReceiptTarget;
  readonly options: ReceiptAsked;
  readonly deadline: number;
  stage: /** The command is under way; `until`: then we look in the log instead. */
    | { type: "answer"; until: number }
    /** The log is asked; the link may be known already and only be compared. */
    | { type: "looking"; link: Link | null }
    /** Nothing was found: only a write that began after this one shows that there is nothing. */
    | { type: "unproven"; after: number | null; until: number }
    | { type: "waiting"; question: ReceiptQuestion; lookAt: number };
  /** A proof that we lead was had after the first look. */
  proven: "yes" | "no";
};

/** A clock that is off by less than a millisecond must not make us ask twice. */
const afterFenceMs = 1;
const receiptsMax = 10_000;

export class ReceiptTracker {
  readonly #parts: Readonly<{
    work: StepContext;
    ledger: BrokerState;
    inbox: PendingCommands;
    counters: Counters;
    proofMsMax: number;
  }>;
  readonly #work: StepContext;
  readonly #epoch: Epoch;
  readonly #term: number;
  readonly #asked = new Map<number, Asked>();
  /** A lessee confirmed, left, or was granted. */
  #news = false;

  constructor(
    parts: Readonly<{
      work: StepContext;
      ledger: BrokerState;
      inbox: PendingCommands;
      counters: Counters;
      proofMsMax: number;
    }>,
    of: Readonly<{ epoch: Epoch; term: number }>,
  ) {
    this.#parts = parts;
    this.#work = parts.work;
    this.#epoch = of.epoch;
    this.#term = of.term;
  }

  get waiting(): number {
    return this.#asked.size;
  }

  ask({ id, target, options }: Extract<BrokerInput, { type: "receiptAsked" }>): void {
    if (this.#asked.size >= receiptsMax) return this.#unavailable(id, "too many receipts are waited for");
    const deadline = this.#work.now + options.timeoutMs;
    const asked: Asked = { id, target, options, deadline, stage: { type: "looking", link: null }, proven: "no" };
    this.#asked.set(id, asked);
    this.#look(asked);
  }

  giveUp(id: number): void {
    this.#asked.delete(id);
  }

  close(): void {
    for (const { id } of this.#asked.values()) this.#unavailable(id, "this broker does not lead any more");
    this.#asked.clear();
  }

  noteNews(): void {
    this.#news = this.#asked.size > 0;
  }

  get dueAt(): number {
    if (this.#news) return this.#work.now;
    let due = Number.POSITIVE_INFINITY;
    for (const { stage } of this.#asked.values()) {
      if (stage.type === "waiting") due = Math.min(due, stage.lookAt);
      else if (stage.type !== "looking") due = Math.min(due, stage.until);
    }
    return due;
  }

  /** Looks at those whose time has come, or at all when there is news of a lessee. */
  look(standings: () => readonly LesseeStanding[]): void {
    const { now } = this.#work;
    const news = this.#news;
    this.#news = false;
    let lessees: readonly LesseeStanding[] | undefined;
    for (const asked of this.#asked.values()) {
      const { stage } = asked;
      if (stage.type !== "waiting" || (!news && stage.lookAt > now)) continue;
      lessees ??= standings();
      this.#lookAt(asked, stage, lessees);
    }
  }

  /** Those who waited too long for something other than the nodes. */
  tick(): void {
    const { now } = this.#work;
    for (const asked of this.#asked.values()) {
      const { stage } = asked;
      if (stage.type === "answer" && stage.until <= now) this.#inLog(asked);
      else if (stage.type === "unproven" && stage.until <= now) {
        this.#asked.delete(asked.id);
        this.#unavailable(asked.id, "the event log does not answer");
      }
    }
  }

  /**
   * Lets those go on that waited for a proof.
   * @param at the newest write, and the newest that has committed cleanly
   * @returns the write that must commit cleanly next, 0 for none
   */
  prove(at: Readonly<{ write: number; clean: number }>): number {
    let wanted = 0;
    for (const asked of this.#asked.values()) {
      const { stage } = asked;
      if (stage.type !== "unproven") continue;
      stage.after ??= at.write;
      if (at.clean > stage.after) {
        asked.proven = "yes";
        this.#look(asked);
      } else {
        wanted = Math.max(wanted, stage.after + 1);
      }
    }
    return wanted;
  }

  /** The command that a receipt was asked for has an answer. */
  commandAnswered(id: number, answer: CommandAnswer): void {
    const asked = this.#asked.get(id);
    if (asked?.stage.type === "answer") this.#answered(asked, answer);
  }

  /** The answer to a question of ours. */
  answered(purpose: Extract<LogCallOwner, { to: "receipts" }>, outcome: LogAnswer): void {
    const { ask, of } = purpose;
    const asked = this.#asked.get(ask);
    if (asked === undefined || asked.stage.type !== "looking") return;
    const to = { to: "receipts", term: this.#term, ask } as const;
    if (of === "command" && outcome.type === "command") {
      if (outcome.found === undefined) return this.#missing(asked);
      const position = lastOf(outcome.found);
      return this.#work.callLog(
        { op: "linkAt", position: (position - 1) as Position },
        { ...to, of: "previous", position },
      );
    }
    if (of === "previous" && outcome.type === "link") {
      const { position } = purpose;
      if (outcome.link === undefined) return this.#gone(asked, position);
      return this.#work.callLog({ op: "read", after: outcome.link, limit: 1 }, { ...to, of: "event", position });
    }
    if (of === "event") return this.#made(asked, purpose.position, outcome);
    if (of === "chain" && outcome.type === "link") {
      const { link } = asked.stage;
      if (outcome.link === undefined) return this.#letGo(asked);
      return link !== null && sameLink(outcome.link, link) ? this.#found(asked, link) : this.#missing(asked);
    }
    this.#silent(asked);
  }

  #made(asked: Asked, position: Position, outcome: LogAnswer): void {
    if (asked.target.type !== "command") return;
    const link = linkMadeBy(asked.target.commandId, position, outcome);
    if (link === "gone") return this.#gone(asked, position);
    if (link === "other") return this.#missing(asked);
    return link === "unknown" ? this.#silent(asked) : this.#onChain(asked, link);
  }

  /** Retention has let go of the command's event: who enforces where we stand enforces that too. */
  #gone(asked: Asked, position: Position): void {
    const { applied } = this.#parts.ledger;
    return applied.position >= position ? this.#found(asked, applied) : this.#missing(asked);
  }

  /** Retention has let go of what stood where a link says that it stands: whether it was this very link nobody knows any more. */
  #letGo({ id }: Asked): void {
    this.#asked.delete(id);
    this.#unavailable(id, "the log begins behind this link, and does not say any more whether it held it");
  }

  #silent({ id }: Asked): void {
    this.#asked.delete(id);
    this.#unavailable(id, "the event log is not available");
  }

  // --- where the target stands

  #look(asked: Asked): void {
    const { target } = asked;
    switch (target.type) {
      case "link":
        return this.#onChain(asked, target.link);
      case "command": {
        const known = this.#parts.inbox.answerOf(target.commandId);
        if (known !== undefined) return this.#answered(asked, known);
        const joined = this.#parts.inbox.join(target.commandId, { type: "receipt", ask: asked.id });
        if (!joined) return this.#inLog(asked);
        asked.stage = { type: "answer", until: Math.max(this.#work.now + 1, asked.deadline) };
        return;
      }
      default:
        return unreachable(target);
    }
  }

  #answered(asked: Asked, answer: CommandAnswer): void {
    if (answer.type === "done") return this.#onChain(asked, answer.link);
    this.#inLog(asked);
  }

  #inLog(asked: Asked): void {
    if (asked.target.type !== "command") return;
    asked.stage = { type: "looking", link: null };
    const { commandId } = asked.target;
    this.#work.callLog(
      { op: "findCommand", commandId },
      { to: "receipts", term: this.#term, ask: asked.id, of: "command" },
    );
  }

  #onChain(asked: Asked, link: Link): void {
    const standing = this.#parts.ledger.standingOf(link);
    switch (standing) {
      case "held":
        return this.#found(asked, link);
      case "ahead":
      case "foreign":
        return this.#missing(asked);
      case "forgotten":
        asked.stage = { type: "looking", link };
        return this.#work.callLog(
          { op: "linkAt", position: link.position },
          { to: "receipts", term: this.#term, ask: asked.id, of: "chain" },
        );
      default:
        return unreachable(standing);
    }
  }

  /** Not on our chain, as far as we know: is it still we who know? */
  #missing(asked: Asked): void {
    if (asked.proven === "yes") return this.#found(asked, null);
    asked.stage = { type: "unproven", after: null, until: this.#work.now + this.#parts.proofMsMax };
  }

  #found(asked: Asked, link: Link | null): void {
    const { target, options } = asked;
    const question: ReceiptQuestion = {
      link,
      commandId: target.type === "command" ? target.commandId : null,
      wait: options.wait,
      region: options.region ?? null,
    };
    asked.stage = { type: "waiting", question, lookAt: this.#work.now };
  }

  #lookAt(asked: Asked, stage: Extract<Asked["stage"], { type: "waiting" }>, lessees: readonly LesseeStanding[]): void {
    const { now } = this.#work;
    const receipt = receiptFor(stage.question, { epoch: this.#epoch, lessees });
    if (receipt.status !== "incomplete" || asked.options.wait === "none" || now >= asked.deadline) {
      this.#asked.delete(asked.id);
      this.#count(receipt);
      this.#work.emit({ type: "receiptAnswered", id: asked.id, answer: { type: "receipt", receipt } });
      return;
    }
    stage.lookAt = now + Math.min(asked.deadline - now, nextFenceMs(receipt));
  }

  #unavailable(id: number, message: string): void {
    this.#work.emit({ type: "receiptAnswered", id, answer: { type: "unavailable", message } });
  }

  #count(receipt: Receipt): void {
    const { counters } = this.#parts;
    if (receipt.status === "complete") counters.receiptsComplete += 1;
    else if (receipt.status === "lost") counters.receiptsLost += 1;
    else counters.receiptsIncomplete += 1;
  }
}

/** When the next of the unconfirmed will be fenced if it stays silent. */
function nextFenceMs(receipt: Receipt): number {
  const open = receipt.nodes.filter((node) => node.status === "unconfirmed").map((node) => node.fencedInMs ?? 0);
  return Math.max(1, Math.min(...open, 60_000) + afterFenceMs);
}
