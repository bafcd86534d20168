/**
 * Region leases: how a regional broker handles the lease messages of its nodes. Pure.
 *
 * The broker records a node's message, forwards it to the leader and returns the leader's answer. Without an answer,
 * the broker grants by age from its own lease (regional-granter.ts). It then answers later renews at once until the
 * home region answers again. After the region heals, the nodes return to the leader at their own pace of one renew a
 * second.
 *
 * - No grant by age leaves before the age mark is on the disk.
 * - The mark is removed only when no lease by age counts and this boot holds a lease of its own.
 * - A node that lacks a revocation which only this region has gets no lease from the leader, and one by age only with
 *   that condition (ADR 0039: a cut-off region revokes locally).
 * - A change counts as enforced here only when no node with a lease by age may still decide without it.
 */
import type { Link, NodeId } from "../../events/index.ts";
import {
  type ChainView,
  fenceAfterMs,
  type RegionalGranter,
  type RegionalNodeStatus,
} from "../../replication/lease/index.ts";
import type { Renew } from "../../replication/wire/index.ts";
import type { OpenedNodeMessage } from "../core/messages.ts";
import type { HomeAnswer, NodeAnswer, RegionFact } from "./region-messages.ts";
import type { RegionRevocations } from "./region-revocations.ts";
import type { RegionStepContext } from "./region-step-context.ts";

/** How long a message waits for the leader; a node waits 1.5 s for the broker. */
const forwardMs = 1_000;
/** Messages that wait for the leader or for the disk; each node has at most a few in flight. */
const waitingMax = 40_000;
const outOfReach = "the home region is unreachable";
const stopping = "this broker is stopping";
const keepsNone = "this region holds revocations that the log lacks, and the node's build keeps none";
const notReady = "this broker has just started, or is writing the longest window of a lease to its disk";

type AuthenticMessage = Exclude<OpenedNodeMessage, { type: "refused" }>;
/** What the revocations that the region accepted by itself mean for leases (region-revocations.ts). */
type LocalTightening = Pick<RegionRevocations, "store" | "tightenedTo" | "withholds" | "mayPass">;
/** `head`: of the store of revocations when the message left. */
type Forwarded = Readonly<{ id: number; message: AuthenticMessage; until: number; head: number }>;

export class RegionLeases {
  readonly #context: RegionStepContext;
  readonly #version: string;
  readonly #holds: (link: Link) => boolean;
  readonly #granter: RegionalGranter;
  readonly #revocations: LocalTightening | null;
  /** Messages that wait for the leader, by the question that carries them. */
  readonly #forwarded = new Map<number, Forwarded>();
  /** Renews that wait for the mark, by the number of the node's question. */
  readonly #unmarked = new Map<number, Renew>();
  /** Changes that a node with a lease by age does not enforce yet. */
  readonly #unenforced = new Map<number, Link>();
  readonly #counts = { leasesForwarded: 0, envelopesRefused: 0, renewsWithheld: 0 };
  #mark: "none" | "asked for" | "on the disk";
  #closed = false;

  /** @param options.holds whether a link is on the broker's chain */
  constructor(
    context: RegionStepContext,
    options: Readonly<{
      granter: RegionalGranter;
      version: string;
      holds: (link: Link) => boolean;
      mark: "none" | "on the disk";
      revocations: LocalTightening | null;
    }>,
  ) {
    this.#context = context;
    this.#granter = options.granter;
    this.#revocations = options.revocations;
    this.#version = options.version;
    this.#holds = options.holds;
    this.#mark = options.mark;
  }

  get counts(): Readonly<
    Record<"leasesForwarded" | "envelopesRefused" | "renewsWithheld" | "nodes" | "grantsByAge", number>
  > {
    const { nodes, grants } = this.#granter;
    return { ...this.#counts, nodes, grantsByAge: grants };
  }
  /** Leases by age that may still count. */
  leased(now: number): number {
    return this.#granter.leased(now as RegionStepContext["now"]);
  }
  /** When the last of them ends; `now`: none counts. */
  leasedUntil(now: number): number {
    return this.#granter.leasedUntil(now as RegionStepContext["now"]);
  }
  /** The longest window that a node of the region requests; 0: no node has requested one. */
  windowMs(now: number): number {
    return this.#granter.windowMs(now as RegionStepContext["now"]);
  }
  standings(now: number): readonly RegionalNodeStatus[] {
    return this.#granter.statuses(this.#viewAt(now as RegionStepContext["now"]));
  }

  nodeMessage({ id, message }: Extract<RegionFact, { type: "nodeMessage" }>, leaderAnswers: () => boolean): void {
    const problem = problemOf(message);
    if (message.type === "refused" || problem !== undefined) {
      this.#counts.envelopesRefused += 1;
      this.#answer(id, { type: "refused", refusal: { code: "not-authentic", message: problem ?? "not authentic" } });
      return;
    }
    this.#recordMessage(message);
    if (!leaderAnswers() || this.#forwarded.size >= waitingMax || this.#isWithheld(message)) {
      this.#answerLocally(id, message);
      return;
    }
    const until = this.#context.now + forwardMs;
    const head = this.#revocations?.store.head ?? 0;
    this.#forwarded.set(this.#context.askHome({ op: "forward", messageId: id }), { id, message, until, head });
    this.#context.wakeBy(until);
  }

  /** @returns whether the question was one of these. A late answer is dropped: the node no longer waits for it. */
  homeAnswered(question: number, answer: HomeAnswer): boolean {
    const forwarded = this.#forwarded.get(question);
    if (forwarded === undefined) return false;
    this.#forwarded.delete(question);
    const { id, message, head } = forwarded;
    if (answer.type === "unavailable") {
      this.#answerLocally(id, message);
      return true;
    }
    if (answer.type === "granted" || answer.type === "taken") this.#counts.leasesForwarded += 1;
    if (message.type === "renew") this.#recordLeaderAnswer(message.renew, answer);
    if (answer.type === "granted" && (this.#isWithheld(message) || this.#isOutrun(message, head))) {
      this.#answerLocally(id, message);
      return true;
    }
    if (answer.type === "granted" && message.type === "renew" && !this.#pass(message.renew, answer)) {
      this.#answer(id, { type: "unavailable", message: notReady });
      return true;
    }
    this.#answer(id, { type: "leader" });
    return true;
  }

  /** Whether the leader must not grant this node a lease: it would count without a revocation of this region. */
  #isWithheld(message: AuthenticMessage): boolean {
    if (message.type !== "renew" || this.#revocations === null) return false;
    const withheld = this.#revocations.withholds(this.#granter.confirmedBy(message.renew));
    if (withheld) this.#counts.renewsWithheld += 1;
    return withheld;
  }

  /**
   * Whether a revocation came after the renew had left, and the node has not confirmed it. Even if it is merged and
   * dropped since, the leader may have granted before the merge.
   */
  #isOutrun(message: AuthenticMessage, head: number): boolean {
    if (message.type !== "renew" || this.#revocations === null) return false;
    return (
      this.#revocations.store.head > head && this.#granter.confirmedBy(message.renew) < this.#revocations.store.head
    );
  }

  /** Records a lease of the leader that leaves for a node. @returns false: it must not leave yet */
  #pass(renew: Renew, limits: Readonly<{ windowMs: number; drift: number }>): boolean {
    if (this.#revocations === null) return true;
    if (!this.#revocations.mayPass(limits)) return false;
    const forMs = fenceAfterMs(limits.windowMs, limits.drift);
    this.#granter.recordPassed(renew, { forMs, seq: this.#revocations.store.head }, this.#context.now);
    return true;
  }

  /** The broker's own projection has changed. */
  changed({ id, link, rebuilt }: Extract<RegionFact, { type: "changed" }>): void {
    if (rebuilt) this.#granter.forgetEnforced();
    this.#unenforced.set(id, link);
    this.#settle();
  }

  markKept(): void {
    this.#mark = "on the disk";
    const renews = [...this.#unmarked];
    this.#unmarked.clear();
    for (const [id, renew] of renews) this.#grantByAge(id, renew);
    this.#settle();
  }

  /** @param reason why the disk rejected it */
  markNotKept(reason: string): void {
    this.#mark = "none";
    this.#refuseUnmarked(reason);
  }

  #refuseUnmarked(reason: string): void {
    const ids = [...this.#unmarked.keys()];
    this.#unmarked.clear();
    for (const id of ids) this.#answer(id, { type: "unavailable", message: reason });
  }

  woke(): void {
    for (const [question, { id, message, until }] of [...this.#forwarded]) {
      if (until > this.#context.now) {
        this.#context.wakeBy(until);
        continue;
      }
      this.#forwarded.delete(question);
      this.#answerLocally(id, message);
    }
    this.#settle();
  }

  /**
   * The process ends: the broker grants nothing by age from now on.
   * @returns whether this boot may say goodbye to the leader, because no lease that it granted counts any more
   */
  close(): Readonly<{ maySayGoodbye: boolean }> {
    this.#closed = true;
    this.#refuseUnmarked(stopping);
    return { maySayGoodbye: this.leased(this.#context.now) === 0 };
  }

  #recordMessage(message: AuthenticMessage): void {
    const view = this.#viewAt(this.#context.now);
    if (message.type === "renew") this.#granter.recordRenew(message.renew, view);
    else if (message.type === "confirm") this.#granter.recordConfirm(message.confirm, view);
    else this.#granter.recordGoodbye(message.goodbye);
    this.#settle();
  }

  #viewAt(at: RegionStepContext["now"]): ChainView {
    return { at, onChain: this.#holds };
  }

  #recordLeaderAnswer(renew: Renew, answer: HomeAnswer): void {
    if (answer.type === "granted") this.#granter.recordLeaderAnswer(renew, "granted", this.#context.now);
    else if (answer.type === "refused")
      this.#granter.recordLeaderAnswer(renew, { refused: answer.refusal }, this.#context.now);
  }

  #answerLocally(id: number, message: AuthenticMessage): void {
    if (message.type === "renew") this.#renewLocally(id, message.renew);
    // The broker has recorded the confirmation; the leader learns of it with the next renew. A goodbye is for the
    // leader alone.
    else if (message.type === "confirm") this.#answer(id, { type: "taken" });
    else this.#answer(id, { type: "unavailable", message: outOfReach });
  }

  #renewLocally(id: number, renew: Renew): void {
    if (this.#closed) {
      this.#answer(id, { type: "unavailable", message: stopping });
      return;
    }
    if (this.#context.own.lease === null || this.#mark === "on the disk") {
      this.#grantByAge(id, renew);
      return;
    }
    if (this.#unmarked.size >= waitingMax) {
      this.#answer(id, { type: "unavailable", message: "too many renews wait for the disk" });
      return;
    }
    this.#unmarked.set(id, renew);
    if (this.#mark === "asked for") return;
    this.#mark = "asked for";
    this.#context.emit({ type: "keepMark" });
  }

  #grantByAge(id: number, renew: Renew): void {
    const { lease, applied, digest, level } = this.#context.own;
    const copy = { lease, applied, digest: digest(), version: this.#version, level };
    const to = this.#revocations?.tightenedTo ?? null;
    if (to !== null && renew.brokers === undefined) {
      this.#answer(id, { type: "unavailable", message: keepsNone });
      return;
    }
    if (lease !== null && this.#revocations?.mayPass(lease) === false) {
      this.#answer(id, { type: "unavailable", message: notReady });
      return;
    }
    const tightened = { seq: this.#revocations?.store.head ?? 0, to };
    const answer = this.#granter.grant(renew, copy, this.#context.at, tightened);
    switch (answer.type) {
      case "granted":
        this.#answer(id, { type: "grantByAge", grant: answer.grant });
        return;
      case "refused":
        this.#answer(id, { type: "refused", refusal: answer.refusal });
        return;
      case "unavailable":
        this.#answer(id, { type: "unavailable", message: answer.reason });
    }
  }

  /** Reports every change that no node holds back any more, and removes the mark when no lease by age needs it. */
  #settle(): void {
    const now = this.#context.now;
    for (const [id, link] of [...this.#unenforced]) {
      const until = this.#granter.blockedUntil(link, this.#viewAt(now));
      if (until !== null) {
        this.#context.wakeBy(until);
        continue;
      }
      this.#unenforced.delete(id);
      this.#context.emit({ type: "enforced", id });
    }
    const protectsNothing = this.leased(now) === 0 && this.#context.own.lease !== null && this.#unmarked.size === 0;
    if (this.#mark !== "on the disk" || !protectsNothing) return;
    this.#mark = "none";
    this.#context.emit({ type: "clearMark" });
  }

  #answer(id: number, answer: NodeAnswer): void {
    this.#context.emit({ type: "answerNode", id, answer });
  }
}

/**
 * Why the message is rejected. A node speaks only for itself: its name, boot and role must match its certificate.
 */
function problemOf(message: OpenedNodeMessage): string | undefined {
  if (message.type === "refused") return message.reason;
  const { node, boot } = senderOf(message);
  const isOwn = node === message.from.name && boot === message.from.boot;
  const hasOwnRole = message.type !== "renew" || message.renew.role === message.from.role;
  return isOwn && hasOwnRole ? undefined : "a node may send only its own messages";
}

function senderOf(message: AuthenticMessage): Readonly<{ node: NodeId; boot: string }> {
  switch (message.type) {
    case "renew":
      return message.renew;
    case "confirm":
      return message.confirm;
    case "goodbye":
      return message.goodbye;
  }
}
