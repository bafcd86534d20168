/**
 * Lessee record: what the leader knows of one boot that may hold a lease, and the rules for it. Pure.
 *
 * - `enforced` of a lessee only grows, and only by links on this chain from the start of this epoch. An older link may
 *   predate a boot's move to another chain.
 * - A boot whose projection differed from the leader's at the same link enforces nothing, until a renew shows an equal
 *   projection.
 */
import type { BootId, Link, MonotonicMs, NodeId, Position } from "../../events/index.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Lessee } from "../log/log.ts";
import type { Confirm, Renew } from "../wire/messages.ts";
import { type DriftWatch, driftMax, driftOf, newDriftWatch } from "./drift-watch.ts";
import type { LeaseRefusal } from "./lease-refusal.ts";

export type LesseeRecord = {
  lessee: Lessee;
  /** The window its durable row names; 0: it has none. */
  durableWindowMs: number;
  /** Null: nothing was granted, in any epoch. */
  fencedAt: number | null;
  lastGrantAt: number | null;
  enforced: Link | null;
  /** When `enforced` advanced, oldest first; at most `confirmationsMax`. */
  confirmations: Confirmation[];
  renew: Renew | null;
  refusal: LeaseRefusal | null;
  /** A row that represents a lost history existed when the epoch opened. */
  onLostHistory: boolean;
  /**
   * From the newest renew that could be compared. A boot whose projection differs does not enforce what it confirms.
   */
  digest: DigestComparison;
  /**
   * The newest nonce of each kind, and the newest one whose `enforced` was recorded: renews and confirmations share one
   * sequence.
   */
  nonces: { renew: number; confirm: number; enforced: number };
  clocks: DriftWatch;
};

/** The leader learned that a boot enforces everything up to a position. */
export type Confirmation = Readonly<{ position: Position; at: MonotonicMs }>;

/** A renew's digest compared with ours at the link it names; `unknown`: nothing to compare it with. */
export type DigestComparison = "same" | "other" | "unknown";

/**
 * The chain when a message arrives. For a link that is older than memory, the caller has looked it up.
 */
export type ChainView = Readonly<{
  at: MonotonicMs;
  onChain: (link: Link) => boolean;
}>;

/**
 * A lessee that may hold a lease until `fencedAt`, by the leader's monotonic clock, with the longest window it was
 * granted. Findings about its projection and its clock carry over to the next epoch.
 */
export type GrantedLessee = Readonly<{
  lessee: Lessee;
  fencedAt: number;
  digest: DigestComparison;
  clocks: DriftWatch;
}>;

/** What a receipt and the cluster status say of one lessee. */
export type LesseeStatus = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: Lessee["role"];
  enforced: Link | null;
  /** When `enforced` advanced, oldest first: the newest ones. An older change was confirmed by the first of them. */
  confirmations: readonly Confirmation[];
  /** Time (ms) until no grant of this or an earlier leader counts any more; 0: now. */
  fencedInMs: number;
  /** Null: no grant in this epoch. */
  lastGrantAgoMs: number | null;
  /** The newest renew of this epoch. */
  renew: Renew | null;
  /** Time (ms) since that renew; null: none. */
  heardAgoMs: number | null;
  /** Why it gets no grants; null: it does. */
  refusal: string | null;
  /** Another live boot of the same node, as after a disk was cloned; null: none. */
  twin: BootId | null;
  /** True: no grant in this epoch, and possibly a longer one on a lost history. */
  onLostHistory: boolean;
}>;

const confirmationsMax = 64;

/** A lessee that has been silent for this long after W is forgotten. */
const forgetAfterMs = 60_000;

/** W: how long after its last grant a lessee may still decide, for clocks whose rates are within 1 ± ρ. */
export function fenceAfterMs(windowMs: number, drift: number): number {
  return (windowMs * (1 + drift)) / (1 - drift) + 50;
}

export function newLesseeRecord(lessee: Lessee): LesseeRecord {
  return {
    lessee,
    durableWindowMs: 0,
    fencedAt: null,
    lastGrantAt: null,
    enforced: null,
    confirmations: [],
    renew: null,
    refusal: null,
    onLostHistory: false,
    digest: "unknown",
    nonces: { renew: 0, confirm: 0, enforced: 0 },
    clocks: newDriftWatch,
  };
}

/**
 * The newest message of a boot counts. A boot on another chain enforces nothing of this one, even if it confirmed
 * links before: while two histories grow, a node may move between them. A boot whose projection differs enforces
 * nothing either.
 * @returns whether it is on our chain
 */
export function recordEnforced(
  record: LesseeRecord,
  { nonce, enforced }: Pick<Confirm, "nonce" | "enforced">,
  { view, start }: Readonly<{ view: ChainView; start: Position }>,
): boolean {
  const isNewest = nonce >= record.nonces.enforced;
  if (isNewest) {
    record.nonces.enforced = nonce;
    if (!view.onChain(enforced) || record.digest === "other") {
      record.enforced = null;
      record.confirmations = [];
    }
  }
  if (!view.onChain(enforced)) return false;
  const least = record.enforced?.position ?? start;
  if (isNewest && enforced.position >= least && record.digest !== "other")
    recordConfirmation(record, enforced, view.at);
  return true;
}

function recordConfirmation(record: LesseeRecord, enforced: Link, at: MonotonicMs): void {
  record.enforced = enforced;
  const { confirmations } = record;
  if (confirmations.at(-1)?.position === enforced.position) return;
  if (confirmations.length >= confirmationsMax) confirmations.splice(0, confirmationsMax / 2);
  confirmations.push({ position: enforced.position, at });
}

export function refusalFor(clocks: DriftWatch): LeaseRefusal | null {
  const drift = driftOf(clocks);
  if (drift === undefined || Math.abs(drift) <= driftMax) return null;
  const percent = (Math.abs(drift) * 100).toFixed(2);
  const message = `its monotonic clock runs at least ${percent} % ${drift > 0 ? "slower" : "faster"} than the leader's`;
  return { code: "clock-drift", message };
}

/**
 * Whether its lease has ended and it has not renewed since. It is remembered for a while, and counts against the limit
 * again only with another lease.
 */
export function hasExpired({ fencedAt, clocks }: LesseeRecord, now: MonotonicMs): boolean {
  return fencedAt !== null && fencedAt <= now && (clocks.samples.at(-1)?.at ?? 0) <= fencedAt;
}

/** Also true of a lessee that renewed once, was never granted a lease and went silent. */
export function isForgettable({ lessee, fencedAt, renew, clocks }: LesseeRecord, now: MonotonicMs): boolean {
  // The next epoch waits for every row. This one is removed at once, because no node of its name can return.
  if (fencedAt !== null) return now >= fencedAt + (isLostHistory(lessee) ? 0 : forgetAfterMs);
  return renew !== null && now >= (clocks.samples.at(-1)?.at ?? 0) + forgetAfterMs;
}

/**
 * A wrong rate carries over. A rate within bounds is measured again: before the next epoch opens, its leader may sleep
 * or be away, and across such a gap a small step resembles a rate (seeds 471 and 545).
 */
export function driftToCarryOver(clocks: DriftWatch): DriftWatch {
  return Math.abs(driftOf(clocks) ?? 0) > driftMax ? clocks : newDriftWatch;
}

/** The status of a lessee that was granted a lease. */
export function statusOf(
  { lessee, lastGrantAt, enforced, confirmations, renew, clocks, refusal, onLostHistory }: LesseeRecord,
  { fencedAt, now, twin }: Readonly<{ fencedAt: number; now: MonotonicMs; twin: BootId | null }>,
): LesseeStatus {
  const heardAt = clocks.samples.at(-1)?.at;
  return {
    node: lessee.node,
    boot: lessee.boot,
    region: lessee.region,
    role: lessee.role,
    enforced,
    confirmations,
    fencedInMs: Math.max(0, fencedAt - now),
    lastGrantAgoMs: lastGrantAt === null ? null : now - lastGrantAt,
    renew,
    heardAgoMs: heardAt === undefined ? null : now - heardAt,
    refusal: refusal?.message ?? null,
    twin,
    onLostHistory: onLostHistory && lastGrantAt === null,
  };
}
