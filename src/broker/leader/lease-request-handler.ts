/**
 * Lease request handler: handles the messages of nodes for the leader of one epoch. Pure.
 *
 * Believes only what a node says of itself, and hands it to the granter; a renew then waits here until a write that began after
 * it came has committed cleanly. Whatever is not authentic is dropped and counted.
 */
import { type Link, sameLink, unreachable } from "../../events/index.ts";
import {
  type Confirm,
  type DigestStanding,
  digestMismatch,
  type Grant,
  type LeaseGranter,
  type LimitedWindow,
  type Renew,
  saysTooManyNodes,
  tooOld,
  type WriteRound,
} from "../../replication/index.ts";
import type { Counters } from "../core/counters.ts";
import type {
  BrokerInput,
  Leadership,
  LeaseAnswer,
  LogAnswer,
  NodeSender,
  OpenedNodeMessage,
} from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { BootKeys } from "./boot-keys.ts";

type NodeSaid = Extract<BrokerInput, { type: "nodeSaid" }>;

/** A message whose link is older than memory: the log is asked for its place. */
type Looking = Readonly<{ said: NodeSaid; enforced: Link }>;

const lookingMax = 10_000;
const loggedMax = 1_000;
const notLeading = "this broker does not lead any more";

type DeskParts = Readonly<{
  work: StepContext;
  ledger: BrokerState;
  counters: Counters;
  version: string;
  bootKeys: BootKeys;
}>;

export class LeaseRequestHandler {
  readonly #parts: DeskParts;
  readonly #work: StepContext;
  readonly #granter: LeaseGranter;
  readonly #leadership: Leadership;
  readonly #term: number;
  /** Renews that wait for a write, by the granter's ticket: who asked. */
  readonly #waiting = new Map<number, number>();
  readonly #looking = new Map<number, Looking>();
  /** What was logged of a boot once, and is not logged again with each of its renews. */
  readonly #logged = new Set<string>();
  #closed = false;
  /** A lessee confirmed, left, or was granted, since this was last asked. */
  #news = false;

  constructor(parts: DeskParts, of: Readonly<{ granter: LeaseGranter; leadership: Leadership; term: number }>) {
    this.#parts = parts;
    this.#work = parts.work;
    this.#granter = of.granter;
    this.#leadership = of.leadership;
    this.#term = of.term;
  }

  take(said: NodeSaid): void {
    const { id, message } = said;
    if (this.#closed) return this.#answer(id, { type: "unavailable", message: notLeading });
    if (message.type !== "refused" && !this.#parts.bootKeys.admit(message.from)) return this.#drop(id, anotherKey);
    switch (message.type) {
      case "refused":
        return this.#drop(id, message.reason);
      case "renew": {
        if (!isOwn(message, message.renew)) return this.#drop(id, notItself);
        if (message.unproven !== undefined) this.#noteUnproven(message.renew, message.unproven);
        this.#notice(message.from, message.renew.applied);
        if (message.renew.lostEpoch !== undefined) this.#notice(message.from, { epoch: message.renew.lostEpoch });
        return this.#withChain(said, message.renew.enforced);
      }
      case "confirm":
        return isOwn(message, message.confirm)
          ? this.#withChain(said, message.confirm.enforced)
          : this.#drop(id, notItself);
      case "goodbye":
        if (!isOwn(message, message.goodbye)) return this.#drop(id, notItself);
        this.#granter.goodbye(message.goodbye);
        this.#parts.counters.goodbyes += 1;
        this.#sweep();
        this.#news = true;
        return this.#answer(id, { type: "taken" });
      default:
        return unreachable(message);
    }
  }

  /** The log's answer for a link that memory has forgotten. */
  looked(ask: number, outcome: LogAnswer): void {
    const looking = this.#looking.get(ask);
    this.#looking.delete(ask);
    if (looking === undefined) return;
    if (outcome.type !== "link")
      return this.#answer(ask, { type: "unavailable", message: "the event log is not available" });
    this.#go(looking.said, outcome.link);
  }

  /** True once after a lessee confirmed, left, or was granted. */
  takeNews(): boolean {
    const news = this.#news;
    this.#news = false;
    return news;
  }

  /** Hands out the grants of a write that has committed cleanly. */
  settle(round: WriteRound, head: Link): void {
    for (const { ticket, grant } of this.#granter.grantAfterCommit(round, head, this.#work.at))
      this.#hand(ticket, grant);
    this.#sweep();
    this.#news = true;
  }

  /** The write came to nothing that is known: nobody of this round is granted. */
  abandon(round: WriteRound): void {
    this.#granter.dropRound(round);
    this.#sweep();
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#waiting.values(), ...this.#looking.keys()])
      this.#answer(id, { type: "unavailable", message: notLeading });
    this.#waiting.clear();
    this.#looking.clear();
  }

  /** A node's digest beside ours at the same place, whatever its build. */
  compare({ applied, digest }: Pick<Renew, "applied" | "digest">): DigestStanding {
    const { ledger } = this.#parts;
    const ours = ledger.digestAt(applied.position);
    if (ours === undefined || ledger.standingOf(applied) !== "held") return "unknown";
    return ours === digest ? "same" : "other";
  }

  /** Answers for a link; what memory has forgotten is looked up in the log, at or below its durable horizon. */
  #withChain(said: NodeSaid, enforced: Link): void {
    this.#notice(said.message.from, enforced);
    if (this.#closed) return this.#answer(said.id, { type: "unavailable", message: notLeading });
    if (this.#parts.ledger.standingOf(enforced) !== "forgotten") return this.#go(said, undefined);
    if (this.#looking.size >= lookingMax)
      return this.#answer(said.id, { type: "unavailable", message: "too many nodes ask" });
    this.#looking.set(said.id, { said, enforced });
    const purpose = { to: "desk", term: this.#term, ask: said.id } as const;
    this.#work.callLog({ op: "linkAt", position: enforced.position }, purpose);
  }

  /** @param found what the log has at the place of a link that memory has forgotten */
  #go(said: NodeSaid, found: Link | undefined): void {
    const onChain = (asked: Link): boolean => {
      const standing = this.#parts.ledger.standingOf(asked);
      return standing === "held" || (standing === "forgotten" && found !== undefined && sameLink(found, asked));
    };
    const { message, id } = said;
    if (message.type === "renew") this.#renew(said, message.renew, onChain);
    else if (message.type === "confirm") this.#confirm(id, message.confirm, onChain);
  }

  #renew({ id, origin }: NodeSaid, renew: Renew, onChain: (link: Link) => boolean): void {
    const { counters, version, ledger } = this.#parts;
    const found = this.compare(renew);
    const digest = renew.version === version ? found : "unknown"; // another build may fold to another digest
    const answer = this.#granter.renew(renew, origin, { at: this.#work.now, onChain, digest });
    this.#tellCopied();
    this.#sweep();
    this.#news = true;
    if (answer.type === "overtaken") return this.#answer(id, { type: "taken" });
    if (answer.type === "refused") {
      counters.renewsRefused += 1;
      if (saysTooManyNodes(answer.reason)) counters.nodesRefused += 1;
      const fields = { node: renew.node, boot: renew.boot, reason: answer.reason };
      this.#work.logger("warn", "renew refused", fields);
      return this.#answer(id, { type: "refused", reason: answer.reason });
    }
    if (answer.limited !== null) this.#noteLimited(renew, answer.limited);
    if (Math.max(renew.applied.epoch, renew.enforced.epoch) > this.#leadership.epoch) {
      // It would ignore our grant, and receipts would wait for a lease that it does not use.
      this.#granter.refuse(answer.ticket, laterEpoch);
      return this.#answer(id, { type: "unavailable", message: laterEpoch });
    }
    const finalized = ledger.projection.level;
    if (renew.reads < finalized) {
      counters.renewsRefused += 1;
      const reason = tooOld({ finalized, reads: renew.reads });
      this.#granter.refuse(answer.ticket, reason);
      this.#work.logger("warn", "renew refused", { node: renew.node, boot: renew.boot, reason });
      return this.#answer(id, { type: "refused", reason });
    }
    if (found === "other") {
      counters.digestMismatches += 1;
      const fields = { node: renew.node, boot: renew.boot, link: renew.applied };
      this.#work.logger("error", "a node's projection differs from ours", fields);
      if (digest === "other") {
        this.#granter.refuse(answer.ticket, digestMismatch);
        return this.#answer(id, { type: "refused", reason: digestMismatch });
      }
    }
    if (answer.type === "ready") {
      const grant = this.#granter.grantNow(answer.ticket, ledger.applied, this.#work.at);
      return grant === undefined
        ? this.#answer(id, { type: "refused", reason: "this boot has left" })
        : this.#grant(id, grant);
    }
    this.#waiting.set(answer.ticket, id);
  }

  #noteLimited({ node, boot, role }: Renew, limited: LimitedWindow): void {
    this.#parts.counters.windowsLimited += 1;
    const message = `a node requests a longer window than it may have: to allow it, raise broker.max_window.${role}`;
    this.#logOnce("window", message, { node, boot, ...limited });
  }

  /** Receipts wait for the boot that it named, as for any silent one. */
  #noteUnproven({ node, boot }: Renew, replaced: string): void {
    this.#parts.counters.replacementsRefused += 1;
    const message = "a node named a boot as replaced without its proof; receipts go on waiting for that boot";
    this.#logOnce("replacement", message, { node, boot, replaced });
  }

  /** Once for each boot: a node renews every second. */
  #logOnce(what: string, message: string, fields: Readonly<Record<string, unknown>>): void {
    const key = JSON.stringify([what, fields["node"], fields["boot"]]);
    if (this.#logged.has(key)) return;
    this.#logged.add(key);
    if (this.#logged.size > loggedMax) this.#logged.delete(this.#logged.values().next().value ?? "");
    this.#work.logger("warn", message, fields);
  }

  #tellCopied(): void {
    for (const { node, older, younger } of this.#granter.takeCopied()) {
      this.#parts.counters.copiedNodes += 1;
      const problem =
        "two processes of one node are alive, as after its disk was cloned: stop one of them, or give it a node_name and a data folder of its own";
      this.#work.logger("error", problem, { node, older, younger });
    }
  }

  #confirm(id: number, confirm: Confirm, onChain: (link: Link) => boolean): void {
    const accepted = this.#granter.confirm(confirm, { at: this.#work.now, onChain });
    if (accepted !== "accepted") return this.#answer(id, { type: "refused", reason: accepted.refused });
    this.#parts.counters.confirmations += 1;
    this.#news = true;
    this.#answer(id, { type: "taken" });
  }

  /** The node has heard of a later epoch than ours: the store is asked before anything follows from it (epoch-claims.ts). */
  #notice({ name, boot }: NodeSender, { epoch }: Pick<Link, "epoch">): void {
    if (epoch > this.#leadership.epoch) this.#work.post({ type: "epochClaimed", claim: { epoch, by: { name, boot } } });
  }

  #hand(ticket: number, grant: Grant): void {
    const id = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    if (id !== undefined) this.#grant(id, grant);
  }

  #grant(id: number, grant: Grant): void {
    this.#parts.counters.grants += 1;
    this.#answer(id, { type: "granted", by: this.#leadership, grant });
  }

  /** Whom the granter does not know as waiting any more gets no grant; the node renews again. */
  #sweep(): void {
    for (const [ticket, id] of this.#waiting) {
      if (this.#granter.isWaiting(ticket)) continue;
      this.#waiting.delete(ticket);
      this.#answer(id, { type: "unavailable", message: "no clean write answered this renew" });
    }
  }

  #drop(id: number, reason: string): void {
    this.#parts.counters.envelopesRefused += 1;
    this.#answer(id, { type: "refused", reason });
  }

  #answer(id: number, answer: LeaseAnswer): void {
    this.#work.emit({ type: "leaseAnswered", id, answer });
  }
}

const notItself = "a node may speak only for itself";
const laterEpoch = "it speaks of a later epoch than this leader's";
const anotherKey = "another key has spoken for this boot";

/** A node speaks for itself alone: the name and the boot in the message are those of its certificate. */
function isOwn({ from }: OpenedNodeMessage, message: Readonly<{ node: string; boot: string; role?: string }>): boolean {
  return (
    message.node === from.name &&
    message.boot === from.boot &&
    (message.role === undefined || message.role === from.role)
  );
}
