/**
 * Regional granter: leases by age, for the nodes of a region whose leader is unreachable (docs/protocol.md §5.4).
 *
 * A regional broker holds a lease of its own. While the leader answers, the leader grants to the broker's nodes, and
 * this granter only records. Otherwise the granter passes on the rest of the broker's own lease, as of `ageMs` before
 * its answer. So no node decides from older data than the broker could. The leader knows the broker as one lessee: when
 * it has waited for the broker, it has waited for all of its nodes.
 *
 * - No grant exceeds the broker's own lease or its window.
 * - The head of a grant is everything the broker has applied. So what it has confirmed to the leader is in force at a
 *   node before the node's lease counts.
 * - The broker confirms no change that a node with such a lease may not enforce yet (`blockedUntil`).
 * - A node's statements about a history that the broker has left do not count (`forgetEnforced`). Only its newest
 *   message counts: a node that has moved to another history enforces nothing of this one. A link that the broker does
 *   not hold yet counts as soon as it does: a node may read faster than its broker.
 * - A node whose projection differs enforces nothing until it shows ours or the leader grants it a lease.
 * - A boot that left, was replaced, or is refused by the leader gets no grant here.
 * - It records for how long each lease may count, and up to which local revocation that lease is tightened: a receipt
 *   of the region waits for the leases without the revocation (docs/adr/0039-a-cut-off-region-revokes-locally.md).
 *
 * Pure.
 */
import { type BootId, type Link, type MonotonicMs, type NodeId, sameLink } from "../../events/index.ts";
import type { Confirm, Goodbye, Grant, Renew, StorePosition } from "../wire/messages.ts";
import { CopiedNodes } from "./copied-nodes.ts";
import { type DriftWatch, driftMax, driftOf, type Moment, newDriftWatch, observeClock } from "./drift-watch.ts";
import type { HeldLease } from "./lease-holder.ts";
import {
  bootHasLeft,
  concernsBoot,
  digestMismatch,
  type LeaseRefusal,
  levelTooOld,
  repeatedMessage,
} from "./lease-refusal.ts";
import { type ChainView, fenceAfterMs } from "./lessee-record.ts";

/** The broker's own lease and copy, at the moment of an answer. */
export type RegionalCopy = Readonly<{
  /** Null: it holds no lease that it could grant from. */
  lease: HeldLease | null;
  applied: Link;
  /** The digest of the projection at `applied`. */
  digest: string;
  version: string;
  /** The newest finalized level. A build that cannot read it gets no grant. */
  level: number;
}>;

export type GrantByAge =
  | Readonly<{ type: "granted"; grant: Grant }>
  /** Sending the same renew again does not help. */
  | Readonly<{ type: "refused"; refusal: LeaseRefusal }>
  | Readonly<{ type: "unavailable"; reason: string }>;

/** A lease that was passed on may count until then. It is tightened: revocations up to `seq` were in force first. */
export type PassedLease = Readonly<{ seq: number; until: number }>;

/** What a receipt of the region needs to know of a node. */
export type TightenedNode = Readonly<{
  renew: Renew;
  /** The local revocations in this broker's store that the node enforces and has on its disk. */
  confirmed: number;
  passed: readonly PassedLease[];
}>;

/** A node of the region as this broker knows it. */
export type RegionalNodeStatus = Readonly<{
  renew: Renew;
  enforced: Link | null;
  /** Since its newest grant by age or by the leader, whichever this broker saw. Null: it saw none. */
  grantedAgoMs: number | null;
  /** Time (ms) until no grant by age counts any more; 0: now. */
  fencedInMs: number;
}>;

type RegionalNode = {
  renew: Renew;
  /** What its newest message says that it enforces, on the broker's chain. */
  enforced: Link | null;
  /** The same, as long as the broker does not hold that link: the node may be ahead, or on another chain. */
  claimed: Link | null;
  /** Null: no grant by age. */
  fencedAt: number | null;
  grantedAt: number | null;
  heardAt: number;
  byAgeNonce: number;
  /** The nonce of its newest message; renews and confirmations share one sequence. */
  enforcedNonce: number;
  clocks: DriftWatch;
  /** Why this boot gets no lease: the leader refused it, or its projection differs. */
  refusal: LeaseRefusal | null;
  confirmed: number;
  /** Oldest first, by rising `seq`. */
  passed: readonly PassedLease[];
};

const nodesMax = 20_000;
const removedMax = 100_000;
/** A node that has been silent for this long, and is fenced, is forgotten. */
const forgetAfterMs = 120_000;
const sweepMs = 5_000;

export class RegionalGranter {
  readonly #nodes = new Map<string, RegionalNode>();
  readonly #removed = new Set<string>();
  readonly #copied = new CopiedNodes<RegionalNode>();
  readonly #store: string | null;
  #grants = 0;
  #sweptAt = Number.NEGATIVE_INFINITY;
  /** Until when a lease may count whose node found no room here. */
  #unrecordedUntil = Number.NEGATIVE_INFINITY;

  /** @param store the store of local revocations whose positions nodes confirm; null: none */
  constructor(store: string | null = null) {
    this.#store = store;
  }

  /** Until when a lease may count of a node that is not among `tightenedNodes`. */
  get unrecordedUntil(): number {
    return this.#unrecordedUntil;
  }

  /** Grants by age so far. */
  get grants(): number {
    return this.#grants;
  }
  get nodes(): number {
    return this.#nodes.size;
  }

  /** The longest window that a node of the region requests, so that this broker can request as much; 0: none. */
  windowMs(now: MonotonicMs): number {
    this.#sweep(now);
    let longest = 0;
    for (const { renew } of this.#nodes.values()) longest = Math.max(longest, renew.windowMs);
    return longest;
  }

  /** How many leases by age may still count. */
  leased(now: MonotonicMs): number {
    let count = 0;
    for (const { fencedAt } of this.#nodes.values()) if (fencedAt !== null && fencedAt > now) count += 1;
    return count;
  }

  /** When the last lease by age ends that may count now; `now`: none counts. */
  leasedUntil(now: MonotonicMs): number {
    let until: number = now;
    for (const { fencedAt } of this.#nodes.values()) until = Math.max(until, fencedAt ?? now);
    return until;
  }

  /** Records an authenticated renew, whether or not the leader answers it. */
  recordRenew(renew: Renew, view: ChainView): void {
    this.#sweep(view.at);
    const key = keyOf(renew);
    this.#reviveIfReplaced(renew, (node) => renew.nonce > node.renew.nonce);
    if (this.#removed.has(key)) return;
    if (renew.replaces !== null && renew.replaces !== renew.boot)
      this.#replace({ node: renew.node, boot: renew.replaces });
    const node = this.#nodes.get(key);
    if (node === undefined) {
      if (this.#nodes.size < nodesMax) {
        const created = newRegionalNode(renew, view);
        this.#recordConfirmed(created, renew);
        this.#nodes.set(key, created);
      }
      return;
    }
    this.#recordConfirmed(node, renew);
    if (renew.nonce <= node.renew.nonce) return;
    node.renew = renew;
    node.heardAt = view.at;
    node.clocks = observeClock(node.clocks, { ours: view.at, theirs: renew.monotonicMs });
    recordEnforced(node, renew, view);
  }

  /** Records an authenticated confirmation, whether or not the leader accepts it. */
  recordConfirm(confirm: Confirm, view: ChainView): void {
    this.#reviveIfReplaced(confirm, (node) => confirm.nonce > node.enforcedNonce);
    const node = this.#nodes.get(keyOf(confirm));
    if (node === undefined) return;
    this.#recordConfirmed(node, confirm);
    recordEnforced(node, confirm, view);
  }

  /** What a boot confirms of local revocations stays true, so messages out of order do no harm. */
  #recordConfirmed(node: RegionalNode, { denials = [] }: Pick<Confirm, "denials">): void {
    for (const { store, seq } of denials) if (store === this.#store) node.confirmed = Math.max(node.confirmed, seq);
  }

  /** The local revocations that a boot has confirmed; 0: none. */
  confirmedBy(boot: Readonly<{ node: NodeId; boot: BootId }>): number {
    return this.#nodes.get(keyOf(boot))?.confirmed ?? 0;
  }

  /**
   * A lease leaves for a node: it may count for `forMs` from now.
   * @param seq every local revocation up to this one is in force before it counts, by itself or from the log
   */
  recordPassed(renew: Renew, { forMs, seq }: Readonly<{ forMs: number; seq: number }>, now: MonotonicMs): void {
    const node = this.#nodes.get(keyOf(renew));
    const until = now + forMs;
    if (node === undefined) {
      this.#unrecordedUntil = Math.max(this.#unrecordedUntil, until);
      return;
    }
    const last = node.passed.at(-1);
    const open = node.passed.filter((lease) => lease.until > now && lease.seq !== seq);
    node.passed = [...open, { seq, until: last?.seq === seq ? Math.max(last.until, until) : until }];
  }

  tightenedNodes(): readonly TightenedNode[] {
    return [...this.#nodes.values()].map(({ renew, confirmed, passed }) => ({ renew, confirmed, passed }));
  }

  /** An authenticated goodbye: this boot permits nothing more, and never will. */
  recordGoodbye(goodbye: Pick<Goodbye, "node" | "boot">): void {
    this.#copied.recordGoodbye(goodbye);
    this.#remove(goodbye);
  }

  /** The leader has answered a renew of this boot. */
  recordLeaderAnswer(renew: Renew, answer: "granted" | Readonly<{ refused: LeaseRefusal }>, now: MonotonicMs): void {
    const node = this.#nodes.get(keyOf(renew));
    if (node === undefined) return;
    if (answer === "granted") {
      node.refusal = null;
      node.grantedAt = now;
    } else if (concernsBoot(answer.refused)) refuse(node, answer.refused);
  }

  /**
   * The broker has moved to another history: confirmations for the one it left do not count.
   */
  forgetEnforced(): void {
    for (const node of this.#nodes.values()) forgetEnforced(node);
  }

  /** Answers a renew that was passed to `recordRenew` and that no leader answers. */
  grant(renew: Renew, copy: RegionalCopy, at: Moment, tightened: Tightened = untightened): GrantByAge {
    const key = keyOf(renew);
    if (this.#removed.has(key)) return { type: "refused", refusal: bootHasLeft };
    const node = this.#nodes.get(key);
    if (node === undefined) return { type: "unavailable", reason: "too many nodes in this region" };
    if (node.refusal?.code === "digest-mismatch" && digestMatches(renew, copy)) node.refusal = null; // it has rebuilt
    const refusal = refusalFor(node, renew, copy) ?? node.refusal;
    if (refusal?.code === "digest-mismatch") refuse(node, refusal);
    if (refusal !== null) return { type: "refused", refusal };
    if (renew.nonce <= node.byAgeNonce) return { type: "refused", refusal: repeatedMessage };
    const { lease } = copy;
    if (lease === null) return { type: "unavailable", reason: outOfReach };
    const ageMs = Math.max(0, at.monotonic - lease.freshSinceMs);
    if (ageMs > lease.windowMs) return { type: "unavailable", reason: outOfReach };
    const windowMs = Math.min(Math.max(renew.windowMs, lease.deltaMs), lease.windowMs);
    node.byAgeNonce = renew.nonce;
    node.grantedAt = at.monotonic;
    node.fencedAt = Math.max(node.fencedAt ?? 0, lease.freshSinceMs + fenceAfterMs(windowMs, lease.drift));
    this.#grants += 1;
    const forMs = Math.max(0, lease.freshSinceMs + fenceAfterMs(windowMs, lease.drift) - at.monotonic);
    this.recordPassed(renew, { forMs, seq: tightened.seq }, at.monotonic);
    const { epoch, incarnation, start, deltaMs, drift } = lease;
    const { node: name, boot, nonce } = renew;
    const head = copy.applied;
    const grant: Grant = {
      node: name,
      boot,
      nonce,
      epoch,
      incarnation,
      start,
      head,
      deltaMs,
      drift,
      windowMs,
      wallMs: at.wall,
      ageMs,
      ...(tightened.to === null ? {} : { tightenedTo: tightened.to }),
    };
    return { type: "granted", grant };
  }

  /**
   * Until when the broker must not confirm a change to the leader: a node with a lease by age has not confirmed it yet.
   * An earlier confirmation ends the wait. @returns null: the broker may confirm it
   */
  blockedUntil(link: Link, view: ChainView): number | null {
    let until: number | null = null;
    for (const node of this.#nodes.values()) {
      const { fencedAt } = node;
      if (fencedAt === null || fencedAt <= view.at) continue;
      const enforced = enforcedBy(node, view);
      if (enforced === null || enforced.position < link.position) until = Math.max(until ?? 0, fencedAt);
    }
    return until;
  }

  statuses(view: ChainView): readonly RegionalNodeStatus[] {
    return [...this.#nodes.values()].map((node) => ({
      renew: node.renew,
      enforced: enforcedBy(node, view),
      grantedAgoMs: node.grantedAt === null ? null : view.at - node.grantedAt,
      fencedInMs: Math.max(0, (node.fencedAt ?? 0) - view.at),
    }));
  }

  #replace(replaced: Readonly<{ node: NodeId; boot: BootId }>): void {
    const key = keyOf(replaced);
    if (this.#removed.has(key)) return;
    if (this.#copied.replace(replaced, this.#nodes.get(key) ?? null)) this.#remove(replaced);
  }

  /** As in lease-granter.ts: a replaced boot that sends again is alive. */
  #reviveIfReplaced(speaker: Readonly<{ node: NodeId; boot: BootId }>, isNew: (known: RegionalNode) => boolean): void {
    const known = this.#copied.reviveIfReplaced(speaker, isNew);
    if (known === undefined) return;
    this.#removed.delete(keyOf(speaker));
    if (known !== null) this.#nodes.set(keyOf(speaker), known);
  }

  #remove(one: Readonly<{ node: NodeId; boot: BootId }>): void {
    const key = keyOf(one);
    this.#nodes.delete(key);
    this.#removed.add(key);
    if (this.#removed.size > removedMax) this.#removed.delete(this.#removed.values().next().value ?? "");
  }

  #sweep(now: MonotonicMs): void {
    if (now < this.#sweptAt + sweepMs) return;
    this.#sweptAt = now;
    for (const [key, { heardAt, fencedAt, passed }] of this.#nodes) {
      const mayCount = (fencedAt ?? 0) >= now || passed.some(({ until }) => until > now);
      if (now > heardAt + forgetAfterMs && !mayCount) this.#nodes.delete(key);
    }
  }
}

/** Which local revocations a grant waits for. `seq`: the head of the store; `to`: null when the log has them all. */
export type Tightened = Readonly<{ seq: number; to: StorePosition | null }>;

const untightened: Tightened = { seq: 0, to: null };
const outOfReach = "the leader is unreachable, and this broker's lease has expired";

function newRegionalNode(renew: Renew, view: ChainView): RegionalNode {
  const node: RegionalNode = {
    renew,
    enforced: null,
    claimed: null,
    fencedAt: null,
    grantedAt: null,
    heardAt: view.at,
    byAgeNonce: 0,
    refusal: null,
    confirmed: 0,
    passed: [],
    enforcedNonce: 0,
    clocks: observeClock(newDriftWatch, { ours: view.at, theirs: renew.monotonicMs }),
  };
  recordEnforced(node, renew, view);
  return node;
}

function recordEnforced(
  node: RegionalNode,
  { nonce, enforced }: Pick<Confirm, "nonce" | "enforced">,
  view: ChainView,
): void {
  if (nonce < node.enforcedNonce) return;
  node.enforcedNonce = nonce;
  forgetEnforced(node);
  if (node.refusal?.code !== "digest-mismatch") node.claimed = enforced;
  acceptClaim(node, view);
}

function enforcedBy(node: RegionalNode, view: ChainView): Link | null {
  acceptClaim(node, view);
  return node.enforced;
}

/** Accepts what the node says once the broker holds that link, and so knows that it is on its own chain. */
function acceptClaim(node: RegionalNode, { onChain }: ChainView): void {
  if (node.claimed === null || !onChain(node.claimed)) return;
  node.enforced = node.claimed;
  node.claimed = null;
}

function forgetEnforced(node: RegionalNode): void {
  node.enforced = null;
  node.claimed = null;
}

/** A node with another projection does not enforce what it confirms. */
function refuse(node: RegionalNode, refusal: LeaseRefusal): void {
  node.refusal = refusal;
  if (refusal.code === "digest-mismatch") forgetEnforced(node);
}

function refusalFor(node: RegionalNode, renew: Renew, copy: RegionalCopy): LeaseRefusal | null {
  const drift = driftOf(node.clocks);
  if (drift !== undefined && Math.abs(drift) > driftMax)
    return {
      code: "clock-drift",
      message: `its monotonic clock runs at least ${(Math.abs(drift) * 100).toFixed(2)} % off this broker's`,
    };
  if (renew.reads < copy.level) return levelTooOld({ finalized: copy.level, reads: renew.reads });
  return isComparable(renew, copy) && renew.digest !== copy.digest ? digestMismatch : null;
}

/** Digests are comparable only for the same build and the same link. */
function isComparable({ applied, version }: Renew, copy: RegionalCopy): boolean {
  return version === copy.version && sameLink(applied, copy.applied);
}

function digestMatches(renew: Renew, copy: RegionalCopy): boolean {
  return isComparable(renew, copy) && renew.digest === copy.digest;
}

function keyOf({ node, boot }: Readonly<{ node: NodeId; boot: BootId }>): string {
  return JSON.stringify([node, boot]);
}
