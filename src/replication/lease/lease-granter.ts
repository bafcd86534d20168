/**
 * Lease granter: the leader's side of the staleness contract (docs/protocol.md §5).
 *
 * Synchronous and without I/O or clocks. Renews wait for a write (a beat or an append) that *started* after they arrived and
 * committed cleanly; only then are they granted. It knows every (node, boot) that may be deciding, and how long each may go
 * on after its last grant. It lives for one epoch.
 *
 * Always:
 *   - no grant before the lessee's row (node, boot, window) is durable, so that the next leader knows of it; one without a
 *     row lives in our own process;
 *   - whom we have granted to, the next epoch of this process knows, whatever has become of the rows: a log may lose some;
 *   - while a row stands for a lost history, every other row counts for its window as well;
 *   - a lessee is let go only when it said goodbye, a newer boot of the same node replaced it, or its W has passed;
 *   - a boot that left is never granted again; one that was replaced and speaks again is alive, and counts again;
 *   - `enforced` of a lessee only grows, and only by links that are on our chain, from where our epoch begins: what names an older
 *     place may have been said before we led, by a boot that has gone elsewhere since;
 *   - a boot whose projection was another than ours at the same place enforces nothing, until a renew shows that it is ours again.
 */
import type { BootId, Epoch, Incarnation, Link, MonotonicMs, NodeId, Position, UnixMs } from "../../events/index.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Lessee } from "../log/log.ts";
import type { Confirm, Goodbye, Grant, Renew } from "../wire/messages.ts";
import { type CopiedNode, CopiedNodes } from "./copied-nodes.ts";
import { type DriftWatch, driftMax, driftOf, newDriftWatch, observeClock } from "./drift-watch.ts";
import { digestMismatch, tooManyNodes } from "./lease-refusal.ts";

export type GranterOptions = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The place of the epoch's EpochOpened event. */
  start: Position;
  /** When the opening of the epoch was acknowledged, by our clock. */
  openedAt: MonotonicMs;
  /** Those that an earlier epoch may have granted to. */
  lessees: readonly Lessee[];
  /** Those that the epoch before this one, in this process, had granted to, with a row or without. */
  known?: readonly Granted[];
  deltaMs: number;
  drift: number;
  /** No window is longer than this, whatever its role's limit is. */
  windowMaxMs: number;
  /** Absent: every role may have `windowMaxMs`, and as many nodes as the granter keeps. */
  limits?: RoleLimits;
  /** The log is ours alone: a node in our own process needs neither a beat nor a row, for it ends with us. */
  exclusive: boolean;
}>;

/** How many boots of each role may hold a lease at once, and the longest window that each is granted. */
export type RoleLimits = Readonly<Record<Lessee["role"], Readonly<{ nodesMax: number; windowMaxMs: number }>>>;

/**
 * Somebody who may hold a lease, with the longest window they were granted, until a moment by our own clock; and what was found of their
 * projection and their clock, which another epoch does not mend.
 */
export type Granted = Readonly<{ lessee: Lessee; fencedAt: number; digest: DigestStanding; clocks: DriftWatch }>;

export type RenewOrigin = "in-process" | "remote";

/** What is known of the chain when a message comes: a link may be too old for memory, then the caller has looked it up. */
export type ChainView = Readonly<{
  at: MonotonicMs;
  onChain: (link: Link) => boolean;
}>;

/** A renew's digest beside ours at the place that it names; `unknown`: nothing to compare it with. */
export type DigestStanding = "same" | "other" | "unknown";

export type RenewView = ChainView & Readonly<{ digest: DigestStanding }>;

export type RenewAnswer =
  | Readonly<{ type: "waiting"; ticket: number; limited: LimitedWindow | null }>
  /** May be granted at once by `grantNow`: see `exclusive`. */
  | Readonly<{ type: "ready"; ticket: number; limited: LimitedWindow | null }>
  /** A newer one of the same boot came first, as happens when several have waited for a leader. It gets no grant. */
  | Readonly<{ type: "overtaken" }>
  | Readonly<{ type: "refused"; reason: string }>;

/** A node requests a longer window than its role may have. It is granted `windowMaxMs`. */
export type LimitedWindow = Readonly<{ windowMs: number; windowMaxMs: number }>;

export type Accepted = "accepted" | Readonly<{ refused: string }>;

/** A write about to start, and what is to be written with it (a beat only). */
export type WriteRound = Readonly<{
  tickets: readonly number[];
  lessees: readonly Lessee[];
  left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
}>;

/** What a receipt and the cluster status say of one lessee. */
export type LesseeStanding = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: Lessee["role"];
  enforced: Link | null;
  /** In how many ms nothing we or an earlier leader granted counts any more; 0: now. */
  fencedInMs: number;
  /** Null: not in this epoch. */
  lastGrantAgoMs: number | null;
  /** The newest renew of this epoch. */
  renew: Renew | null;
  /** Why it gets no grants; null: it does. */
  refusal: string | null;
  /** Another boot of the same node that is alive as well, as after a disk was cloned; null: none. */
  twin: BootId | null;
  /** True: it has had no grant in this epoch, and may have had a longer one on a history that is lost. */
  onLostHistory: boolean;
}>;

/** W: how long after its last grant a lessee may still decide, for clocks whose rates are within 1 ± ρ. */
export function fenceAfterMs(windowMs: number, drift: number): number {
  return (windowMs * (1 + drift)) / (1 - drift) + 50;
}

type LesseeRecord = {
  lessee: Lessee;
  /** The window its durable row names; 0: it has none. */
  durableWindowMs: number;
  /** Null: nothing was granted, in any epoch. */
  fencedAt: number | null;
  lastGrantAt: number | null;
  enforced: Link | null;
  renew: Renew | null;
  refusal: string | null;
  /** A row that stands for a lost history was there when the epoch opened. */
  onLostHistory: boolean;
  /** As of the newest renew that could be compared: whose projection is another does not enforce what it says it does. */
  digest: DigestStanding;
  /** The newest of each kind, and the newest whose word on what is enforced has been taken: renews and confirmations share one sequence. */
  nonces: { renew: number; confirm: number; credited: number };
  clocks: DriftWatch;
};
type Waiting = Readonly<{ key: string; renew: Renew; windowMs: number; exclusive: boolean }>;

const lesseesMax = 20_000;
const waitingMax = 20_000;
const waitingPerBootMax = 4;
const removedMax = 100_000;
const notABoot = "no boot may have this id";
/** A lessee that has been silent for this long after W is forgotten. */
const forgetAfterMs = 60_000;

export class LeaseGranter {
  readonly #options: GranterOptions;
  readonly #lessees = new Map<string, LesseeRecord>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #removed = new Set<string>();
  readonly #copied = new CopiedNodes<LesseeRecord>();
  /** Rows to be taken out of the table with the next beat. */
  readonly #leaving = new Map<string, Readonly<{ node: NodeId; boot: BootId }>>();
  #ticket = 0;

  constructor(options: GranterOptions) {
    this.#options = options;
    for (const known of options.known ?? [])
      this.#lessees.set(keyOf(known.lessee), { ...unheard(known.lessee), ...known });
    // A row that survives may lack a longer window that was granted on a history that is lost.
    const lostMs = Math.max(0, ...options.lessees.filter(isLostHistory).map(({ windowMs }) => windowMs));
    for (const row of options.lessees) {
      const known = this.#lessees.get(keyOf(row)) ?? unheard({ ...row, windowMs: 0 });
      const lessee = { ...row, windowMs: Math.max(row.windowMs, known.lessee.windowMs) };
      // An earlier leader's last grant was before the epoch opened: its anchor is earlier still.
      const longestMs = Math.max(lessee.windowMs, options.deltaMs, lostMs);
      const fencedAt = options.openedAt + fenceAfterMs(longestMs, options.drift);
      const onLostHistory = lostMs > 0;
      this.#lessees.set(keyOf(row), { ...known, lessee, durableWindowMs: row.windowMs, fencedAt, onLostHistory });
    }
  }

  get lessees(): number {
    return this.#lessees.size;
  }
  get waiting(): number {
    return this.#waiting.size;
  }

  /** An authenticated renew has arrived. It waits for a write that starts from now on. */
  renew(renew: Renew, origin: RenewOrigin, view: RenewView): RenewAnswer {
    const key = keyOf(renew);
    if (isLostHistory(renew) || (renew.replaces !== null && isLostHistory({ boot: renew.replaces })))
      return { type: "refused", reason: notABoot };
    this.#putBack(renew, ({ nonces }) => renew.nonce > nonces.renew);
    if (this.#removed.has(key)) return { type: "refused", reason: "this boot has left" };
    let registered = this.#lessees.get(key);
    if (registered === undefined || hasRunOut(registered, view.at)) {
      const full = this.#fullFor(renew.role, view.at);
      if (full !== null) return { type: "refused", reason: tooManyNodes({ role: renew.role, nodesMax: full }) };
    }
    if (registered === undefined) {
      if (this.#lessees.size >= lesseesMax)
        return { type: "refused", reason: tooManyNodes({ role: renew.role, nodesMax: lesseesMax }) };
      registered = unheard({ ...lesseeOf(renew), windowMs: 0 });
      this.#lessees.set(key, registered);
      this.#leaving.delete(key); // forgotten after a long silence, and back again: its row is written anew
    }
    if (registered.renew === null) this.#copied.began(boot(renew), this.#othersOf(renew));
    if (renew.nonce <= registered.nonces.renew) return late(renew.nonce, registered);
    registered.nonces.renew = renew.nonce;
    if (renew.replaces !== null && renew.replaces !== renew.boot)
      this.#replace({ node: renew.node, boot: renew.replaces });
    this.#copied.renewed(boot(renew), (other) => this.#lessees.has(keyOf(other)));
    registered.renew = renew;
    registered.lessee = { ...lesseeOf(renew), windowMs: registered.lessee.windowMs };
    if (view.digest !== "unknown") registered.digest = view.digest;
    this.#recordEnforced(registered, renew, view);
    registered.clocks = observeClock(registered.clocks, { ours: view.at, theirs: renew.monotonicMs });
    registered.refusal = refusalFor(registered.clocks);
    if (registered.refusal !== null) return { type: "refused", reason: registered.refusal };
    return this.#queue(key, renew, origin);
  }

  /** An authenticated confirmation: everything up to `enforced` is in force at the node. */
  confirm(confirm: Confirm, view: ChainView): Accepted {
    if (isLostHistory(confirm)) return { refused: notABoot };
    this.#putBack(confirm, ({ nonces }) => confirm.nonce > nonces.confirm);
    const registered = this.#lessees.get(keyOf(confirm));
    if (registered === undefined) return { refused: "no lessee of this epoch" };
    if (confirm.nonce <= registered.nonces.confirm) return { refused: "repeated" };
    registered.nonces.confirm = confirm.nonce;
    if (!this.#recordEnforced(registered, confirm, view)) return { refused: "not on our chain" };
    return registered.digest === "other" ? { refused: digestMismatch } : "accepted";
  }

  /** An authenticated goodbye: the boot permits nothing more, and never will. */
  goodbye(goodbye: Goodbye): Accepted {
    if (isLostHistory(goodbye)) return { refused: notABoot };
    this.#copied.left(goodbye);
    this.#remove(goodbye.node, goodbye.boot);
    return "accepted";
  }

  /** Nodes of which two boots were found alive since this was last asked. */
  takeCopied(): readonly CopiedNode[] {
    return this.#copied.takeFound();
  }

  /** Keeps a node from being granted to until its next renew passes; for what the caller alone can see. */
  refuse(ticket: number, reason: string): void {
    const waiting = this.#waiting.get(ticket);
    const registered = waiting && this.#lessees.get(waiting.key);
    if (registered !== undefined) registered.refusal = reason;
    this.#waiting.delete(ticket);
  }

  /** Grants a `ready` ticket without a write. */
  grantNow(ticket: number, head: Link, at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>): Grant | undefined {
    const waiting = this.#waiting.get(ticket);
    return waiting?.exclusive === true ? this.#grant(ticket, waiting, head, at) : undefined;
  }

  /** True when a row must be written or removed before somebody can go on. */
  needsBeat(now: MonotonicMs): boolean {
    if (this.#leaving.size > 0) return true;
    for (const waiting of this.#waiting.values()) if (!this.#hasRow(waiting)) return true;
    for (const registered of this.#lessees.values()) if (isLongFenced(registered, now)) return true;
    return false;
  }

  /** A write starts now: those who wait already may be granted when it commits cleanly. An append writes no rows. */
  beginWrite(kind: "beat" | "append", now: MonotonicMs): WriteRound {
    const tickets = [...this.#waiting.keys()];
    if (kind === "append") return { tickets, lessees: [], left: [] };
    const rows = new Map<string, Lessee>();
    for (const waiting of this.#waiting.values()) {
      const registered = this.#lessees.get(waiting.key);
      if (registered === undefined || this.#hasRow(waiting)) continue;
      const windowMs = Math.max(waiting.windowMs, registered.durableWindowMs, rows.get(waiting.key)?.windowMs ?? 0);
      rows.set(waiting.key, { ...registered.lessee, windowMs });
    }
    for (const [key, registered] of this.#lessees) {
      if (!isLongFenced(registered, now) || rows.has(key) || this.#isWaiting(key)) continue;
      this.#lessees.delete(key);
      if (registered.durableWindowMs > 0) this.#leaving.set(key, boot(registered.lessee));
    }
    return { tickets, lessees: [...rows.values()], left: [...this.#leaving.values()] };
  }

  /** The write of this round has committed cleanly with this head. */
  grantAfterCommit(
    round: WriteRound,
    head: Link,
    at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>,
  ): readonly Readonly<{ ticket: number; grant: Grant }>[] {
    for (const lessee of round.lessees) {
      const registered = this.#lessees.get(keyOf(lessee));
      if (registered !== undefined) {
        registered.durableWindowMs = Math.max(registered.durableWindowMs, lessee.windowMs);
        const windowMs = Math.max(registered.lessee.windowMs, registered.durableWindowMs);
        registered.lessee = { ...registered.lessee, windowMs };
      } // else it left while its row was being written: it stands in `leaving`
    }
    const written = new Set(round.lessees.map(keyOf));
    for (const one of round.left) if (!written.has(keyOf(one))) this.#leaving.delete(keyOf(one));
    const grants: Readonly<{ ticket: number; grant: Grant }>[] = [];
    for (const ticket of round.tickets) {
      const waiting = this.#waiting.get(ticket);
      if (waiting === undefined || !this.#hasRow(waiting)) continue;
      const grant = this.#grant(ticket, waiting, head, at);
      if (grant !== undefined) grants.push({ ticket, grant });
    }
    return grants;
  }

  /** The write of this round came to nothing, or to nothing that is known: nobody is granted, the nodes will renew. */
  dropRound(round: WriteRound): readonly number[] {
    for (const ticket of round.tickets) this.#waiting.delete(ticket);
    return round.tickets;
  }

  /** Tickets that still wait; those that have been dropped are gone. */
  isWaiting(ticket: number): boolean {
    return this.#waiting.has(ticket);
  }

  /** Everybody who may hold a lease: what the next epoch of this process must know, whatever has become of the rows. */
  granted(now: MonotonicMs): readonly Granted[] {
    return [...this.#lessees.values()].flatMap(({ lessee, fencedAt, digest, clocks }) =>
      fencedAt !== null && fencedAt > now ? [{ lessee, fencedAt, digest, clocks: foundOf(clocks) }] : [],
    );
  }

  /** All lessees, by node and boot. */
  standings(now: MonotonicMs): readonly LesseeStanding[] {
    const standings: LesseeStanding[] = [];
    const twins = this.#copied.twins();
    for (const registered of this.#lessees.values()) {
      const { lessee, fencedAt, lastGrantAt, enforced, renew, refusal, onLostHistory } = registered;
      if (fencedAt === null) continue; // has asked, was never granted anything
      standings.push({
        node: lessee.node,
        boot: lessee.boot,
        region: lessee.region,
        role: lessee.role,
        enforced,
        fencedInMs: Math.max(0, fencedAt - now),
        lastGrantAgoMs: lastGrantAt === null ? null : now - lastGrantAt,
        ...{ renew, refusal, twin: this.#present(lessee.node, twins.get(keyOf(lessee))) },
        onLostHistory: onLostHistory && lastGrantAt === null,
      });
    }
    return standings.sort((a, b) => compare(a.node, b.node) || compare(a.boot, b.boot));
  }

  #queue(key: string, renew: Renew, origin: RenewOrigin): RenewAnswer {
    if (this.#waiting.size >= waitingMax) return { type: "refused", reason: "too many renews are waiting" };
    const own = [...this.#waiting].filter(([, waiting]) => waiting.key === key).map(([ticket]) => ticket);
    for (const ticket of own.slice(0, Math.max(0, own.length - waitingPerBootMax + 1))) this.#waiting.delete(ticket);
    const windowMaxMs = this.#windowMaxMs(renew.role);
    const windowMs = Math.min(Math.max(renew.windowMs, this.#options.deltaMs), windowMaxMs);
    const limited = renew.windowMs > windowMaxMs ? { windowMs: renew.windowMs, windowMaxMs } : null;
    const exclusive = this.#options.exclusive && origin === "in-process";
    this.#ticket += 1;
    this.#waiting.set(this.#ticket, { key, renew, windowMs, exclusive });
    return { type: exclusive ? "ready" : "waiting", ticket: this.#ticket, limited };
  }

  #windowMaxMs(role: Lessee["role"]): number {
    return Math.min(this.#options.windowMaxMs, this.#options.limits?.[role].windowMaxMs ?? Number.POSITIVE_INFINITY);
  }

  /** @returns the limit that one more boot of this role would exceed; null: there is room */
  #fullFor(role: Lessee["role"], now: MonotonicMs): number | null {
    const nodesMax = this.#options.limits?.[role].nodesMax;
    if (nodesMax === undefined || this.#lessees.size < nodesMax) return null;
    let count = 0;
    for (const each of this.#lessees.values()) if (each.lessee.role === role && !hasRunOut(each, now)) count += 1;
    return count >= nodesMax ? nodesMax : null;
  }

  #grant(
    ticket: number,
    waiting: Waiting,
    head: Link,
    at: Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>,
  ): Grant | undefined {
    this.#waiting.delete(ticket);
    const registered = this.#lessees.get(waiting.key);
    if (registered === undefined) return undefined;
    const { deltaMs, drift, epoch, incarnation, start } = this.#options;
    registered.lastGrantAt = at.monotonic;
    // The largest of all: a grant that was lost on the way does not shorten the one before it.
    registered.fencedAt = Math.max(registered.fencedAt ?? 0, at.monotonic + fenceAfterMs(waiting.windowMs, drift));
    const { node, boot, nonce } = waiting.renew;
    const { windowMs } = waiting;
    registered.lessee = { ...registered.lessee, windowMs: Math.max(registered.lessee.windowMs, windowMs) };
    return { node, boot, nonce, epoch, incarnation, start, head, deltaMs, drift, windowMs, wallMs: at.wall };
  }

  /**
   * The newest word of a boot counts. One that stands in another history enforces nothing of ours any more, whatever it said before:
   * where two histories grow at once, a node may go from the one to the other and back. Nor does one that has folded something else.
   * @returns whether it is on our chain
   */
  #recordEnforced(
    registered: LesseeRecord,
    { nonce, enforced }: Pick<Confirm, "nonce" | "enforced">,
    view: ChainView,
  ): boolean {
    const isNewest = nonce >= registered.nonces.credited;
    if (isNewest) {
      registered.nonces.credited = nonce;
      if (!view.onChain(enforced) || registered.digest === "other") registered.enforced = null;
    }
    if (!view.onChain(enforced)) return false;
    const least = registered.enforced?.position ?? this.#options.start;
    if (isNewest && enforced.position >= least && registered.digest !== "other") registered.enforced = enforced;
    return true;
  }

  #present(node: NodeId, twin: BootId | undefined): BootId | null {
    return twin !== undefined && this.#lessees.has(keyOf({ node, boot: twin })) ? twin : null;
  }

  #othersOf({ node, boot: own }: Renew): readonly Readonly<{ node: NodeId; boot: BootId }>[] {
    const lessees = [...this.#lessees.values()].map(({ lessee }) => lessee);
    return lessees.filter((lessee) => lessee.node === node && lessee.boot !== own).map(boot);
  }

  /** The word of a boot that holds the lock of the data folder that the other one wrote into, on the same running kernel. */
  #replace(replaced: Readonly<{ node: NodeId; boot: BootId }>): void {
    const key = keyOf(replaced);
    if (this.#removed.has(key)) return;
    if (this.#copied.replace(replaced, this.#lessees.get(key) ?? null)) this.#remove(replaced.node, replaced.boot);
  }

  /** A boot that was replaced speaks: it may be deciding, so it counts as it did before, and its row is written anew. */
  #putBack(speaker: Readonly<{ node: NodeId; boot: BootId }>, isNew: (known: LesseeRecord) => boolean): void {
    const known = this.#copied.spoke(speaker, isNew);
    if (known === undefined) return;
    const key = keyOf(speaker);
    this.#removed.delete(key);
    this.#leaving.delete(key);
    if (known !== null) this.#lessees.set(key, { ...known, durableWindowMs: 0 });
  }

  #remove(node: NodeId, boot: BootId): void {
    const key = keyOf({ node, boot });
    const known = this.#lessees.delete(key);
    for (const [ticket, waiting] of this.#waiting) if (waiting.key === key) this.#waiting.delete(ticket);
    if (this.#removed.has(key)) return;
    this.#removed.add(key);
    if (this.#removed.size > removedMax) this.#removed.delete(this.#removed.values().next().value ?? "");
    // Every row of the table is a known lessee. A boot that was never heard of has none to remove.
    if (known) this.#leaving.set(key, { node, boot });
  }

  #hasRow(waiting: Waiting): boolean {
    return waiting.exclusive || (this.#lessees.get(waiting.key)?.durableWindowMs ?? 0) >= waiting.windowMs;
  }

  #isWaiting(key: string): boolean {
    for (const waiting of this.#waiting.values()) if (waiting.key === key) return true;
    return false;
  }
}

function late(nonce: number, { nonces }: LesseeRecord): RenewAnswer {
  return nonce < nonces.renew ? { type: "overtaken" } : { type: "refused", reason: "repeated" };
}

function unheard(lessee: Lessee): LesseeRecord {
  return {
    lessee,
    durableWindowMs: 0,
    fencedAt: null,
    lastGrantAt: null,
    enforced: null,
    renew: null,
    refusal: null,
    onLostHistory: false,
    digest: "unknown",
    nonces: { renew: 0, confirm: 0, credited: 0 },
    clocks: newDriftWatch,
  };
}

function refusalFor(clocks: DriftWatch): string | null {
  const drift = driftOf(clocks);
  if (drift === undefined || Math.abs(drift) <= driftMax) return null;
  const percent = (Math.abs(drift) * 100).toFixed(2);
  return `its monotonic clock runs at least ${percent} % ${drift > 0 ? "slower" : "faster"} than the leader's`;
}

/** Its lease has ended, and it has not renewed since: it is remembered for a while, and needs room again for another lease. */
function hasRunOut({ fencedAt, clocks }: LesseeRecord, now: MonotonicMs): boolean {
  return fencedAt !== null && fencedAt <= now && (clocks.samples.at(-1)?.at ?? 0) <= fencedAt;
}

/** Also true of one that asked once, was never granted anything and went silent. */
function isLongFenced({ lessee, fencedAt, renew, clocks }: LesseeRecord, now: MonotonicMs): boolean {
  // The next epoch waits for every row: this one is removed at once, for no node of its name can come back.
  if (fencedAt !== null) return now >= fencedAt + (isLostHistory(lessee) ? 0 : forgetAfterMs);
  return renew !== null && now >= (clocks.samples.at(-1)?.at ?? 0) + forgetAfterMs;
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

/**
 * A rate that was found wrong stays so. What has looked right is measured anew: before the next epoch is open, its leader may sleep or be
 * away, and a step that small looks like a rate across such a gap (seeds 471 and 545).
 */
function foundOf(clocks: DriftWatch): DriftWatch {
  return Math.abs(driftOf(clocks) ?? 0) > driftMax ? clocks : newDriftWatch;
}
