/**
 * Lease request handler: handles the lease messages of nodes for the leader of one epoch. Pure.
 *
 * It accepts only what a node says of itself, and passes it to the granter. A renew then waits here until a write that
 * began after the renew arrived has committed cleanly. Messages that are not authentic are dropped and counted.
 */
import { type Link, sameLink, unreachable } from "../../events/index.ts";
import {
  type AdmittedNodes,
  bootHasLeft,
  type DigestComparison,
  digestMismatch,
  type LeaseGranter,
  type LeaseRefusalCode,
  type LimitedWindow,
  levelTooOld,
  type RenewAnswer,
  type WriteRound,
} from "../../replication/lease/index.ts";
import type { Confirm, Goodbye, Grant, Renew } from "../../replication/wire/index.ts";
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

type NodeMessage = Extract<BrokerInput, { type: "nodeMessage" }>;

/** A message whose link is older than memory: the log is read at that position. */
type LinkLookup = Readonly<{ received: NodeMessage; enforced: Link }>;

const lookupsMax = 10_000;
const loggedMax = 1_000;
const notLeading = "this broker no longer leads";

type HandlerParts = Readonly<{
  context: StepContext;
  state: BrokerState;
  counters: Counters;
  version: string;
  bootKeys: BootKeys;
}>;

export class LeaseRequestHandler {
  readonly #parts: HandlerParts;
  readonly #context: StepContext;
  readonly #granter: LeaseGranter;
  readonly #nodes: AdmittedNodes;
  readonly #leadership: Leadership;
  readonly #leadershipNo: number;
  /** Renews that wait for a write: granter's ticket to request id. */
  readonly #waiting = new Map<number, number>();
  readonly #lookups = new Map<number, LinkLookup>();
  /** Problems of boots that are logged already: a boot repeats them with each renew. */
  readonly #logged = new Set<string>();
  #closed = false;
  /** A lessee confirmed, left or got a grant since this was last read. */
  #lesseesChanged = false;

  constructor(
    parts: HandlerParts,
    of: Readonly<{ granter: LeaseGranter; nodes: AdmittedNodes; leadership: Leadership; leadershipNo: number }>,
  ) {
    this.#parts = parts;
    this.#context = parts.context;
    this.#granter = of.granter;
    this.#nodes = of.nodes;
    this.#leadership = of.leadership;
    this.#leadershipNo = of.leadershipNo;
  }

  handle(received: NodeMessage): void {
    const { id, message } = received;
    if (this.#closed) {
      this.#answer(id, { type: "unavailable", message: notLeading });
      return;
    }
    if (message.type !== "refused" && !this.#parts.bootKeys.admit(message.from)) {
      this.#drop(id, anotherKey);
      return;
    }
    switch (message.type) {
      case "refused":
        this.#drop(id, message.reason);
        return;
      case "renew": {
        if (!isOwn(message, message.renew)) {
          this.#drop(id, notOwnMessage);
          return;
        }
        if (message.unproven !== undefined) this.#noteUnproven(message.renew, message.unproven);
        this.#claimEpoch(message.from, message.renew.applied);
        if (message.renew.lostEpoch !== undefined) this.#claimEpoch(message.from, { epoch: message.renew.lostEpoch });
        this.#checkLink(received, message.renew.enforced);
        return;
      }
      case "confirm":
        if (isOwn(message, message.confirm)) this.#checkLink(received, message.confirm.enforced);
        else this.#drop(id, notOwnMessage);
        return;
      case "goodbye":
        if (!isOwn(message, message.goodbye)) {
          this.#drop(id, notOwnMessage);
          return;
        }
        this.#leave(message.goodbye);
        this.#parts.counters.goodbyes += 1;
        this.#dropAbandoned();
        this.#lesseesChanged = true;
        this.#answer(id, { type: "taken" });
        return;
      default:
        unreachable(message);
    }
  }

  /** The log's answer for a link that memory no longer has. */
  linkRead(requestId: number, outcome: LogAnswer): void {
    const lookup = this.#lookups.get(requestId);
    this.#lookups.delete(requestId);
    if (lookup === undefined) return;
    if (outcome.type !== "link")
      this.#answer(requestId, { type: "unavailable", message: "the event log is not available" });
    else this.#process(lookup.received, outcome.link);
  }

  /** True once after a lessee confirmed, left or got a grant. */
  takeLesseesChanged(): boolean {
    const changed = this.#lesseesChanged;
    this.#lesseesChanged = false;
    return changed;
  }

  /** Answers the renews of a write that committed cleanly. */
  grantAfterCommit(round: WriteRound, head: Link): void {
    for (const { ticket, grant } of this.#granter.grantAfterCommit(round, head, this.#context.at))
      this.#answerGrant(ticket, grant);
    this.#dropAbandoned();
    this.#lesseesChanged = true;
  }

  /** The write did not commit cleanly: its renews get no grant. */
  dropRound(round: WriteRound): void {
    this.#granter.dropRound(round);
    this.#dropAbandoned();
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#waiting.values(), ...this.#lookups.keys()])
      this.#answer(id, { type: "unavailable", message: notLeading });
    this.#waiting.clear();
    this.#lookups.clear();
  }

  /** Compares a node's digest with ours at the same position, whatever its build. */
  compareDigest({ applied, digest }: Pick<Renew, "applied" | "digest">): DigestComparison {
    const { state } = this.#parts;
    const ownDigest = state.digestAt(applied.position);
    if (ownDigest === undefined || state.locate(applied) !== "onChain") return "unknown";
    return ownDigest === digest ? "same" : "other";
  }

  /** Checks a link in memory, or else in the log, at or below its durable horizon. */
  #checkLink(received: NodeMessage, enforced: Link): void {
    this.#claimEpoch(received.message.from, enforced);
    if (this.#closed) {
      this.#answer(received.id, { type: "unavailable", message: notLeading });
      return;
    }
    if (this.#parts.state.locate(enforced) !== "unknown") {
      this.#process(received, undefined);
      return;
    }
    if (this.#lookups.size >= lookupsMax) {
      this.#answer(received.id, { type: "unavailable", message: "too many lease messages are waiting" });
      return;
    }
    this.#lookups.set(received.id, { received, enforced });
    const owner = { to: "lease-requests", leadershipNo: this.#leadershipNo, requestId: received.id } as const;
    this.#context.callLog({ op: "linkAt", position: enforced.position }, owner);
  }

  /** @param found the log's link at a position that memory no longer has */
  #process(received: NodeMessage, found: Link | undefined): void {
    const onChain = (link: Link): boolean => {
      const standing = this.#parts.state.locate(link);
      return standing === "onChain" || (standing === "unknown" && found !== undefined && sameLink(found, link));
    };
    const { message, id } = received;
    if (message.type === "renew") this.#renew(received, message.renew, onChain);
    else if (message.type === "confirm") this.#confirm(id, message.confirm, onChain);
  }

  #renew({ id, origin, through }: NodeMessage, renew: Renew, onChain: (link: Link) => boolean): void {
    const { counters, version, state } = this.#parts;
    const found = this.compareDigest(renew);
    const digest = renew.version === version ? found : "unknown"; // another build may fold to another digest
    const answer = this.#granter.renew(renew, origin, { at: this.#context.now, onChain, digest, through });
    this.#reportCopiedNodes();
    this.#dropAbandoned();
    this.#lesseesChanged = true;
    if (answer.type === "overtaken") {
      this.#answer(id, { type: "taken" });
      return;
    }
    // A boot without any lease permits nothing, and only the list of absent nodes can show its node.
    if (isAlive(answer) && this.#granter.wasGranted(renew)) this.#nodes.hear(renew, this.#context.at);
    if (answer.type === "refused") {
      counters.renewsRefused += 1;
      if (answer.overNodeLimit) counters.nodesRefused += 1;
      const fields = { node: renew.node, boot: renew.boot, reason: answer.refusal.message };
      this.#context.logger("warn", "renew refused", fields);
      this.#answer(id, { type: "refused", refusal: answer.refusal });
      return;
    }
    if (answer.limited !== null) this.#noteLimited(renew, answer.limited);
    if (answer.passesBrokers) this.#notePassing(renew);
    if (Math.max(renew.applied.epoch, renew.enforced.epoch) > this.#leadership.epoch) {
      // It would ignore our grant, and receipts would wait for a lease that it does not use.
      this.#granter.refuseQueued(answer.ticket, { code: "other", message: laterEpoch });
      this.#answer(id, { type: "unavailable", message: laterEpoch });
      return;
    }
    const finalized = state.projection.level;
    if (renew.reads < finalized) {
      counters.renewsRefused += 1;
      const refusal = levelTooOld({ finalized, reads: renew.reads });
      this.#granter.refuseQueued(answer.ticket, refusal);
      const fields = { node: renew.node, boot: renew.boot, reason: refusal.message };
      this.#context.logger("warn", "renew refused", fields);
      this.#answer(id, { type: "refused", refusal });
      return;
    }
    if (found === "other") {
      counters.digestMismatches += 1;
      const fields = { node: renew.node, boot: renew.boot, link: renew.applied };
      this.#context.logger("error", "a node's projection differs from ours", fields);
      if (digest === "other") {
        this.#granter.refuseQueued(answer.ticket, digestMismatch);
        this.#answer(id, { type: "refused", refusal: digestMismatch });
        return;
      }
    }
    if (answer.type === "ready") {
      const grant = this.#granter.grantNow(answer.ticket, state.applied, this.#context.at);
      if (grant === undefined) this.#answer(id, { type: "refused", refusal: bootHasLeft });
      else this.#grant(id, grant);
      return;
    }
    this.#nodes.admit(renew, this.#context.at);
    this.#waiting.set(answer.ticket, id);
  }

  #leave(goodbye: Goodbye): void {
    const known = this.#granter.find(goodbye)?.role ?? null;
    this.#granter.goodbye(goodbye);
    const { node } = goodbye;
    this.#nodes.leave(goodbye, known, (boot) => this.#granter.isLeased({ node, boot }, this.#context.now));
  }

  #noteLimited({ node, boot, role }: Renew, limited: LimitedWindow): void {
    this.#parts.counters.windowsLimited += 1;
    const message = `a node requests a longer window than it may have: to allow it, raise broker.max_window.${role}`;
    this.#logOnce("window", message, { node, boot, ...limited });
  }

  #notePassing({ node, boot, region }: Renew): void {
    const message =
      "a node renews past the brokers of its region, so the region cannot revoke by itself: name only these in its broker.urls";
    this.#logOnce("path", message, { node, boot, region });
  }

  /** Receipts wait for the named boot, as for any silent one. */
  #noteUnproven({ node, boot }: Renew, replaced: string): void {
    this.#parts.counters.replacementsRefused += 1;
    const message = "a node named a boot as replaced without its proof; receipts keep waiting for that boot";
    this.#logOnce("replacement", message, { node, boot, replaced });
  }

  /** Logs once per boot: a node renews every second. */
  #logOnce(what: string, message: string, fields: Readonly<Record<string, unknown>>): void {
    const key = JSON.stringify([what, fields["node"], fields["boot"]]);
    if (this.#logged.has(key)) return;
    this.#logged.add(key);
    if (this.#logged.size > loggedMax) this.#logged.delete(this.#logged.values().next().value ?? "");
    this.#context.logger("warn", message, fields);
  }

  #reportCopiedNodes(): void {
    for (const { node, older, younger } of this.#granter.drainCopiedNodes()) {
      this.#parts.counters.copiedNodes += 1;
      const problem =
        "two processes of one node are alive, as after its disk was cloned: stop one of them, or give it a node_name and a data folder of its own";
      this.#context.logger("error", problem, { node, older, younger });
    }
  }

  #confirm(id: number, confirm: Confirm, onChain: (link: Link) => boolean): void {
    const accepted = this.#granter.confirm(confirm, { at: this.#context.now, onChain });
    if (accepted !== "accepted") {
      this.#answer(id, { type: "refused", refusal: accepted.refused });
      return;
    }
    this.#parts.counters.confirmations += 1;
    this.#lesseesChanged = true;
    this.#answer(id, { type: "taken" });
  }

  /** The node names a later epoch than ours: the head row is read before anything follows from it (epoch-claims.ts). */
  #claimEpoch({ name, boot }: NodeSender, { epoch }: Pick<Link, "epoch">): void {
    if (epoch > this.#leadership.epoch)
      this.#context.post({ type: "epochClaimed", claim: { epoch, by: { name, boot } } });
  }

  #answerGrant(ticket: number, grant: Grant): void {
    const id = this.#waiting.get(ticket);
    this.#waiting.delete(ticket);
    if (id !== undefined) this.#grant(id, grant);
  }

  #grant(id: number, grant: Grant): void {
    this.#parts.counters.grants += 1;
    this.#answer(id, { type: "granted", by: this.#leadership, grant });
  }

  /** Drops renews that the granter no longer holds. The node sends a new renew. */
  #dropAbandoned(): void {
    for (const [ticket, id] of this.#waiting) {
      if (this.#granter.isQueued(ticket)) continue;
      this.#waiting.delete(ticket);
      this.#answer(id, { type: "unavailable", message: "no clean write confirmed this renew in time" });
    }
  }

  #drop(id: number, reason: string): void {
    this.#parts.counters.envelopesRefused += 1;
    this.#answer(id, { type: "refused", refusal: { code: "not-authentic", message: reason } });
  }

  #answer(id: number, answer: LeaseAnswer): void {
    this.#context.emit({ type: "leaseAnswered", id, answer });
  }
}

/** The renew is new, so its sender is alive. A repeated one, or one of a boot that has left, may be an old message. */
function isAlive(answer: RenewAnswer): boolean {
  if (answer.type === "overtaken") return false;
  return answer.type !== "refused" || aliveCodes.has(answer.refusal.code);
}

const aliveCodes: ReadonlySet<string> = new Set<LeaseRefusalCode>(["clock-drift", "too-many", "past-region"]);
const notOwnMessage = "a node may send only its own messages";
const laterEpoch = "the node names a later epoch than this leader's";
const anotherKey = "another key has signed for this boot";

/** A node may speak only for itself: name and boot in the message are those of its certificate. */
function isOwn({ from }: OpenedNodeMessage, message: Readonly<{ node: string; boot: string; role?: string }>): boolean {
  return (
    message.node === from.name &&
    message.boot === from.boot &&
    (message.role === undefined || message.role === from.role)
  );
}
