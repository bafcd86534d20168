/**
 * Lease granter: the leader's side of the staleness contract (docs/protocol.md §5).
 *
 * It knows every boot that may be deciding, and how long each may continue after its last grant. It lives for one
 * epoch. Synchronous, without I/O or clocks.
 *
 * - A renew waits for a write (a beat or an append) that started after the renew arrived. It is granted only if that
 *   write commits cleanly.
 * - No grant leaves before the lessee's row (node, boot, window) is durable, so that the next leader knows of it. A
 *   node in the leader's own process needs no row.
 * - The next epoch of this process knows every lessee that was granted a lease, even if the log has lost rows.
 * - While a row represents a lost history, every other row counts for that row's window as well.
 * - A lessee is released only when it said goodbye, a newer boot of the same node replaced it, or its W has passed.
 * - A boot that left is never granted again. A boot that was replaced and sends again is alive, and counts again.
 */
import type { BootId, Epoch, Incarnation, Link, MonotonicMs, NodeId, Position, UnixMs } from "../../events/index.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Lessee } from "../log/log.ts";
import type { Confirm, Goodbye, Grant, Renew } from "../wire/messages.ts";
import { type CopiedNode, CopiedNodes } from "./copied-nodes.ts";
import { observeClock } from "./drift-watch.ts";
import {
  bootHasLeft,
  digestMismatch,
  type LeaseRefusal,
  repeatedMessage,
  tooManyNodes,
  tooManyRenews,
} from "./lease-refusal.ts";
import {
  type ChainView,
  type DigestComparison,
  driftToCarryOver,
  fenceAfterMs,
  type GrantedLessee,
  hasExpired,
  isForgettable,
  type LesseeRecord,
  type LesseeStatus,
  newLesseeRecord,
  recordEnforced,
  refusalFor,
  statusOf,
} from "./lessee-record.ts";
import { RegionPaths } from "./region-paths.ts";

export type GranterOptions = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The position of the epoch's EpochOpened event. */
  start: Position;
  /** When the opening of the epoch was acknowledged, by our clock. */
  openedAt: MonotonicMs;
  /** Lessees that an earlier epoch may have granted to. */
  lessees: readonly Lessee[];
  /** Lessees that this process's previous epoch granted to, with or without a row. */
  grantedBefore?: readonly GrantedLessee[];
  deltaMs: number;
  drift: number;
  /** No window is longer than this, even if its role's limit is. */
  windowMaxMs: number;
  /** Absent: `windowMaxMs` and the granter's own capacity apply to every role. */
  limits?: RoleLimits;
  /**
   * This process alone writes the log: a node in it needs neither a beat nor a row, because it ends with the process.
   */
  exclusive: boolean;
  /** The leader's own region. Absent: unknown, so that no region counts as its own. */
  region?: string;
}>;

/** How many boots of each role may hold a lease at once, and the longest window that each is granted. */
export type RoleLimits = Readonly<Record<Lessee["role"], Readonly<{ nodesMax: number; windowMaxMs: number }>>>;

export type RenewOrigin = "in-process" | "remote";

/** `through`: the regional broker that forwarded the renew; null or absent: none. */
export type RenewView = ChainView & Readonly<{ digest: DigestComparison; through?: string | null }>;

/** `passesBrokers`: the node's region has brokers, and the renew came past them. */
export type RenewAnswer =
  | Readonly<{ type: "queued"; ticket: number; limited: LimitedWindow | null; passesBrokers: boolean }>
  /** May be granted at once by `grantNow`: see `exclusive`. */
  | Readonly<{ type: "ready"; ticket: number; limited: LimitedWindow | null; passesBrokers: boolean }>
  /** A newer renew of the same boot arrived first, as when several waited for a leader. This one gets no grant. */
  | Readonly<{ type: "overtaken" }>
  /** `overNodeLimit`: one more node would exceed the operator's limit. */
  | Readonly<{ type: "refused"; refusal: LeaseRefusal; overNodeLimit: boolean }>;

/** A node requests a longer window than its role may have. It is granted `windowMaxMs`. */
export type LimitedWindow = Readonly<{ windowMs: number; windowMaxMs: number }>;

export type LeaseMessageOutcome = "accepted" | Readonly<{ refused: LeaseRefusal }>;

/** A write about to start, and the rows written with it (a beat only). */
export type WriteRound = Readonly<{
  tickets: readonly number[];
  lessees: readonly Lessee[];
  left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
}>;

/** `past`: it came past the brokers of its region. */
type QueuedRenew = Readonly<{ key: string; renew: Renew; windowMs: number; exclusive: boolean; past: boolean }>;

const lesseesMax = 20_000;
const queuedRenewsMax = 20_000;
const queuedPerBootMax = 4;
const removedMax = 100_000;
const confirmsPerSecondMax = 500;
const unknownLessee: LeaseRefusal = { code: "other", message: "no lessee of this epoch" };
const notOnChain: LeaseRefusal = { code: "other", message: "not on this log's chain" };
const reservedBootId: LeaseRefusal = { code: "other", message: "no boot may have this id" };

export class LeaseGranter {
  readonly #options: GranterOptions;
  readonly #lessees = new Map<string, LesseeRecord>();
  readonly #queued = new Map<number, QueuedRenew>();
  readonly #removed = new Set<string>();
  readonly #copied = new CopiedNodes<LesseeRecord>();
  readonly #paths: RegionPaths;
  /** Rows to delete from the table with the next beat. */
  readonly #rowsToDelete = new Map<string, Readonly<{ node: NodeId; boot: BootId }>>();
  #ticket = 0;

  constructor(options: GranterOptions) {
    this.#options = options;
    for (const known of options.grantedBefore ?? [])
      this.#lessees.set(keyOf(known.lessee), { ...newLesseeRecord(known.lessee), ...known });
    // A row that survives may lack a longer window that was granted on a history that is lost.
    const lostMs = Math.max(0, ...options.lessees.filter(isLostHistory).map(({ windowMs }) => windowMs));
    for (const row of options.lessees) {
      const known = this.#lessees.get(keyOf(row)) ?? newLesseeRecord({ ...row, windowMs: 0 });
      const lessee = { ...row, windowMs: Math.max(row.windowMs, known.lessee.windowMs) };
      // An earlier leader's last grant was before the epoch opened: the renew behind it was sent earlier still.
      const longestMs = Math.max(lessee.windowMs, options.deltaMs, lostMs);
      const fencedAt = options.openedAt + fenceAfterMs(longestMs, options.drift);
      const onLostHistory = lostMs > 0;
      this.#lessees.set(keyOf(row), { ...known, lessee, durableWindowMs: row.windowMs, fencedAt, onLostHistory });
    }
    const lessees = [...this.#lessees.values()].map(({ lessee, fencedAt }) => ({ lessee, until: fencedAt ?? 0 }));
    this.#paths = new RegionPaths({ epoch: options.epoch, home: options.region ?? null, lessees });
  }

  get lessees(): number {
    return this.#lessees.size;
  }
  get queued(): number {
    return this.#queued.size;
  }

  /** An authenticated renew has arrived. It waits for a write that starts from now on. */
  renew(renew: Renew, origin: RenewOrigin, view: RenewView): RenewAnswer {
    const key = keyOf(renew);
    if (isLostHistory(renew) || (renew.replaces !== null && isLostHistory({ boot: renew.replaces })))
      return refuse(reservedBootId);
    this.#reviveIfReplaced(renew, ({ nonces }) => renew.nonce > nonces.renew);
    if (this.#removed.has(key)) return refuse(bootHasLeft);
    let record = this.#lessees.get(key);
    if (record === undefined || hasExpired(record, view.at)) {
      const full = this.#exceededLimit(renew.role, view.at);
      if (full !== null) return overLimit(renew.role, full);
    }
    if (record === undefined) {
      if (this.#lessees.size >= lesseesMax) return overLimit(renew.role, lesseesMax);
      record = newLesseeRecord({ ...lesseeOf(renew), windowMs: 0 });
      this.#lessees.set(key, record);
      this.#rowsToDelete.delete(key); // forgotten after a long silence, now back: its row is written again
    }
    if (record.renew === null) this.#copied.recordFirstRenew(boot(renew), this.#otherBootsOf(renew));
    if (renew.nonce <= record.nonces.renew) return outdatedRenew(renew.nonce, record);
    const windowMs = this.#grantedWindowMs(renew);
    const past = this.#paths.isPast(renew, view.through ?? null);
    record.refusal = this.#paths.admit(renew, { past, forMs: fenceAfterMs(windowMs, this.#options.drift) }, view.at);
    if (record.refusal !== null) return refuse(record.refusal); // the same renew may come through another broker
    record.nonces.renew = renew.nonce;
    if (renew.replaces !== null && renew.replaces !== renew.boot)
      this.#replace({ node: renew.node, boot: renew.replaces });
    this.#copied.recordRenew(boot(renew), (other) => this.#lessees.has(keyOf(other)));
    record.renew = renew;
    record.lessee = { ...lesseeOf(renew), windowMs: record.lessee.windowMs };
    if (view.digest !== "unknown") record.digest = view.digest;
    recordEnforced(record, renew, { view, start: this.#options.start });
    record.clocks = observeClock(record.clocks, { ours: view.at, theirs: renew.monotonicMs });
    record.refusal = refusalFor(record.clocks);
    if (record.refusal !== null) return refuse(record.refusal);
    return this.#queue(
      { key, renew, windowMs, past, exclusive: this.#options.exclusive && origin === "in-process" },
      view,
    );
  }

  /** An authenticated confirmation: everything up to `enforced` is in force at the node. */
  confirm(confirm: Confirm, view: ChainView): LeaseMessageOutcome {
    if (isLostHistory(confirm)) return { refused: reservedBootId };
    this.#reviveIfReplaced(confirm, ({ nonces }) => confirm.nonce > nonces.confirm);
    const record = this.#lessees.get(keyOf(confirm));
    if (record === undefined) return { refused: unknownLessee };
    if (confirm.nonce <= record.nonces.confirm) return { refused: repeatedMessage };
    record.nonces.confirm = confirm.nonce;
    if (!recordEnforced(record, confirm, { view, start: this.#options.start })) return { refused: notOnChain };
    return record.digest === "other" ? { refused: digestMismatch } : "accepted";
  }

  /** An authenticated goodbye: the boot permits nothing more, and never will. */
  goodbye(goodbye: Goodbye): LeaseMessageOutcome {
    if (isLostHistory(goodbye)) return { refused: reservedBootId };
    this.#copied.recordGoodbye(goodbye);
    this.#remove(goodbye.node, goodbye.boot);
    return "accepted";
  }

  /** The lessee that this boot is; undefined: none. */
  find(named: Readonly<{ node: NodeId; boot: BootId }>): Lessee | undefined {
    return this.#lessees.get(keyOf(named))?.lessee;
  }

  /** True if this boot was ever granted a lease and is still known, so that `statuses` names it. */
  wasGranted(named: Readonly<{ node: NodeId; boot: BootId }>): boolean {
    return (this.#lessees.get(keyOf(named))?.fencedAt ?? null) !== null;
  }

  /** True while a grant to this boot may count. */
  isLeased(named: Readonly<{ node: NodeId; boot: BootId }>, now: MonotonicMs): boolean {
    return (this.#lessees.get(keyOf(named))?.fencedAt ?? 0) > now;
  }

  /** Returns the nodes with two live boots found since the last call. */
  drainCopiedNodes(): readonly CopiedNode[] {
    return this.#copied.drainNewPairs();
  }

  /**
   * Refuses a queued renew for a reason that only the caller can see; the node gets no grant until its next renew
   * passes.
   */
  refuseQueued(ticket: number, refusal: LeaseRefusal): void {
    const queued = this.#queued.get(ticket);
    const record = queued && this.#lessees.get(queued.key);
    if (record !== undefined) record.refusal = refusal;
    this.#queued.delete(ticket);
  }

  /** Grants a `ready` ticket without a write. */
  grantNow(ticket: number, head: Link, at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>): Grant | undefined {
    const queued = this.#queued.get(ticket);
    return queued?.exclusive === true ? this.#grant(ticket, queued, head, at) : undefined;
  }

  /** True when a row must be written or removed before a node can proceed. */
  needsBeat(now: MonotonicMs): boolean {
    if (this.#rowsToDelete.size > 0) return true;
    for (const queued of this.#queued.values()) if (!this.#hasRow(queued)) return true;
    for (const record of this.#lessees.values()) if (isForgettable(record, now)) return true;
    return false;
  }

  /** A write starts now: renews that already wait may be granted when it commits cleanly. An append writes no rows. */
  beginWrite(kind: "beat" | "append", now: MonotonicMs): WriteRound {
    const tickets = [...this.#queued.keys()];
    if (kind === "append") return { tickets, lessees: [], left: [] };
    const rows = new Map<string, Lessee>();
    for (const queued of this.#queued.values()) {
      const record = this.#lessees.get(queued.key);
      if (record === undefined || this.#hasRow(queued)) continue;
      // At least the longest window granted: a boot that was taken for replaced has no row, and that grant may count.
      const windowMs = Math.max(queued.windowMs, record.lessee.windowMs, rows.get(queued.key)?.windowMs ?? 0);
      rows.set(queued.key, { ...record.lessee, windowMs });
    }
    for (const [key, record] of this.#lessees) {
      if (!isForgettable(record, now) || rows.has(key) || this.#isWaiting(key)) continue;
      this.#lessees.delete(key);
      if (record.durableWindowMs > 0) this.#rowsToDelete.set(key, boot(record.lessee));
    }
    return { tickets, lessees: [...rows.values()], left: [...this.#rowsToDelete.values()] };
  }

  /** The write of this round has committed cleanly with this head. */
  grantAfterCommit(
    round: WriteRound,
    head: Link,
    at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>,
  ): readonly Readonly<{ ticket: number; grant: Grant }>[] {
    for (const lessee of round.lessees) {
      const record = this.#lessees.get(keyOf(lessee));
      if (record !== undefined) {
        record.durableWindowMs = Math.max(record.durableWindowMs, lessee.windowMs);
        const windowMs = Math.max(record.lessee.windowMs, record.durableWindowMs);
        record.lessee = { ...record.lessee, windowMs };
      } // else it left while its row was being written: it is in `leaving`
    }
    const written = new Set(round.lessees.map(keyOf));
    for (const one of round.left) if (!written.has(keyOf(one))) this.#rowsToDelete.delete(keyOf(one));
    const grants: Readonly<{ ticket: number; grant: Grant }>[] = [];
    for (const ticket of round.tickets) {
      const queued = this.#queued.get(ticket);
      if (queued === undefined || !this.#hasRow(queued)) continue;
      const grant = this.#grant(ticket, queued, head, at);
      if (grant !== undefined) grants.push({ ticket, grant });
    }
    return grants;
  }

  /** The write of this round failed, or its outcome is unknown. No renew of it is granted; the nodes send new ones. */
  dropRound(round: WriteRound): readonly number[] {
    for (const ticket of round.tickets) this.#queued.delete(ticket);
    return round.tickets;
  }

  /** Whether a ticket still waits; a dropped ticket does not. */
  isQueued(ticket: number): boolean {
    return this.#queued.has(ticket);
  }

  /** Every lessee that may hold a lease. The next epoch of this process must know them even if their rows are lost. */
  grantedLessees(now: MonotonicMs): readonly GrantedLessee[] {
    return [...this.#lessees.values()].flatMap(({ lessee, fencedAt, digest, clocks }) =>
      fencedAt !== null && fencedAt > now ? [{ lessee, fencedAt, digest, clocks: driftToCarryOver(clocks) }] : [],
    );
  }

  /**
   * The lowest position that a lessee with a lease that may count has confirmed; -1: one has confirmed nothing. Every
   * receipt for a later change is incomplete. Cheap, because it is read whenever a lessee confirms.
   * @param region null: of all regions. A row for a lost history counts in every region.
   */
  lowestEnforced(now: MonotonicMs, region: string | null): number {
    let lowest = Number.POSITIVE_INFINITY;
    for (const { lessee, fencedAt, enforced } of this.#lessees.values()) {
      if (fencedAt === null || fencedAt <= now) continue;
      if (region !== null && lessee.region !== region && !isLostHistory(lessee)) continue;
      lowest = Math.min(lowest, enforced?.position ?? -1);
    }
    return lowest;
  }

  /** All lessees, by node and boot. */
  statuses(now: MonotonicMs): readonly LesseeStatus[] {
    const statuses: LesseeStatus[] = [];
    const twins = this.#copied.pairedBoots();
    for (const record of this.#lessees.values()) {
      const { lessee, fencedAt } = record;
      if (fencedAt === null) continue; // has renewed, but was never granted a lease
      const twin = this.#aliveTwin(lessee.node, twins.get(keyOf(lessee)));
      statuses.push(statusOf(record, { fencedAt, now, twin }));
    }
    return statuses.sort((a, b) => compare(a.node, b.node) || compare(a.boot, b.boot));
  }

  #queue(queued: QueuedRenew, view: RenewView): RenewAnswer {
    const { key, renew, exclusive } = queued;
    if (this.#queued.size >= queuedRenewsMax) return refuse(tooManyRenews);
    const own = [...this.#queued].filter(([, other]) => other.key === key).map(([ticket]) => ticket);
    for (const ticket of own.slice(0, Math.max(0, own.length - queuedPerBootMax + 1))) this.#queued.delete(ticket);
    const windowMaxMs = this.#windowMaxMs(renew.role);
    const limited = renew.windowMs > windowMaxMs ? { windowMs: renew.windowMs, windowMaxMs } : null;
    this.#ticket += 1;
    this.#queued.set(this.#ticket, queued);
    const passesBrokers = queued.past && this.#paths.hasBrokers(renew.region, view.at);
    return { type: exclusive ? "ready" : "queued", ticket: this.#ticket, limited, passesBrokers };
  }

  #grantedWindowMs(renew: Renew): number {
    return Math.min(Math.max(renew.windowMs, this.#options.deltaMs), this.#windowMaxMs(renew.role));
  }

  #windowMaxMs(role: Lessee["role"]): number {
    return Math.min(this.#options.windowMaxMs, this.#options.limits?.[role].windowMaxMs ?? Number.POSITIVE_INFINITY);
  }

  /** @returns the limit that one more boot of this role would exceed; null: there is room */
  #exceededLimit(role: Lessee["role"], now: MonotonicMs): number | null {
    const nodesMax = this.#options.limits?.[role].nodesMax;
    if (nodesMax === undefined || this.#lessees.size < nodesMax) return null;
    let count = 0;
    for (const each of this.#lessees.values()) if (each.lessee.role === role && !hasExpired(each, now)) count += 1;
    return count >= nodesMax ? nodesMax : null;
  }

  #grant(
    ticket: number,
    queued: QueuedRenew,
    head: Link,
    at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>,
  ): Grant | undefined {
    this.#queued.delete(ticket);
    const record = this.#lessees.get(queued.key);
    if (record === undefined) return undefined;
    const { deltaMs, drift, epoch, incarnation, start } = this.#options;
    const { windowMs, past, renew } = queued;
    const until = at.monotonic + fenceAfterMs(queued.windowMs, drift);
    if (past && !this.#paths.grantPast(renew, until, at.monotonic)) return undefined;
    const solePath = renew.role === "broker" ? this.#paths.grantBroker(renew, until, at.monotonic) : null;
    record.lastGrantAt = at.monotonic;
    // The maximum: a grant lost in transit does not shorten the one before it.
    record.fencedAt = Math.max(record.fencedAt ?? 0, until);
    const { node, boot, nonce } = renew;
    record.lessee = { ...record.lessee, windowMs: Math.max(record.lessee.windowMs, windowMs) };
    const grant = { node, boot, nonce, epoch, incarnation, start, head, deltaMs, drift, windowMs, wallMs: at.wall };
    const confirmPauseMs = this.#confirmPauseMs();
    return {
      ...grant,
      ...(solePath === null ? {} : { solePath }),
      ...(confirmPauseMs === 0 ? {} : { confirmPauseMs }),
    };
  }

  /** All nodes together confirm at most `confirmsPerSecondMax` times a second; their renews say the rest. */
  #confirmPauseMs(): number {
    const nodes = this.#lessees.size;
    if (nodes <= 1) return 0;
    return Math.ceil((nodes * 1_000) / confirmsPerSecondMax);
  }

  #aliveTwin(node: NodeId, twin: BootId | undefined): BootId | null {
    return twin !== undefined && this.#lessees.has(keyOf({ node, boot: twin })) ? twin : null;
  }

  #otherBootsOf({ node, boot: own }: Renew): readonly Readonly<{ node: NodeId; boot: BootId }>[] {
    const lessees = [...this.#lessees.values()].map(({ lessee }) => lessee);
    return lessees.filter((lessee) => lessee.node === node && lessee.boot !== own).map(boot);
  }

  /**
   * Trusts the new boot: it holds the lock of the data folder that the replaced boot wrote to, on the same running
   * kernel.
   */
  #replace(replaced: Readonly<{ node: NodeId; boot: BootId }>): void {
    const key = keyOf(replaced);
    if (this.#removed.has(key)) return;
    if (this.#copied.replace(replaced, this.#lessees.get(key) ?? null)) this.#remove(replaced.node, replaced.boot);
  }

  /**
   * A replaced boot sent a message: it may be deciding, so it counts as before, and its row is written again.
   */
  #reviveIfReplaced(speaker: Readonly<{ node: NodeId; boot: BootId }>, isNew: (known: LesseeRecord) => boolean): void {
    const known = this.#copied.reviveIfReplaced(speaker, isNew);
    if (known === undefined) return;
    const key = keyOf(speaker);
    this.#removed.delete(key);
    this.#rowsToDelete.delete(key);
    if (known !== null) this.#lessees.set(key, { ...known, durableWindowMs: 0 });
  }

  #remove(node: NodeId, boot: BootId): void {
    const key = keyOf({ node, boot });
    const known = this.#lessees.delete(key);
    this.#paths.forget(boot);
    for (const [ticket, queued] of this.#queued) if (queued.key === key) this.#queued.delete(ticket);
    if (this.#removed.has(key)) return;
    this.#removed.add(key);
    if (this.#removed.size > removedMax) this.#removed.delete(this.#removed.values().next().value ?? "");
    // Every row of the table is a known lessee, so an unknown boot has no row to remove.
    if (known) this.#rowsToDelete.set(key, { node, boot });
  }

  #hasRow(queued: QueuedRenew): boolean {
    return queued.exclusive || (this.#lessees.get(queued.key)?.durableWindowMs ?? 0) >= queued.windowMs;
  }

  #isWaiting(key: string): boolean {
    for (const queued of this.#queued.values()) if (queued.key === key) return true;
    return false;
  }
}

function outdatedRenew(nonce: number, { nonces }: LesseeRecord): RenewAnswer {
  return nonce < nonces.renew ? { type: "overtaken" } : refuse(repeatedMessage);
}

function refuse(refusal: LeaseRefusal): RenewAnswer {
  return { type: "refused", refusal, overNodeLimit: false };
}

function overLimit(role: Lessee["role"], nodesMax: number): RenewAnswer {
  return { type: "refused", refusal: tooManyNodes({ role, nodesMax }), overNodeLimit: true };
}

function lesseeOf({ node, boot, region, role, windowMs }: Renew): Lessee {
  return { node, boot, region, role, windowMs };
}

function boot({ node, boot }: Readonly<{ node: NodeId; boot: BootId }>): Readonly<{ node: NodeId; boot: BootId }> {
  return { node, boot };
}

function keyOf({ node, boot }: Readonly<{ node: NodeId; boot: BootId }>): string {
  return JSON.stringify([node, boot]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
