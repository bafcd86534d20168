/**
 * Node core: an enforcement node as a state machine without I/O: `step(core, input) → [core, effects]`.
 *
 * - It combines log sync, the lease, the enforcement of changes and the messages to the leader.
 * - The shell (node-process.ts) and the simulator (chaos/sim/sim-node.ts) perform effects and pass the results back as
 *   inputs. They decide nothing.
 * - It reads no clock, timer, promise or randomness. Each input carries its moment; random bytes come from the source
 *   in the options, which is an input stream.
 * - No wake-up decides whether the node may permit anything: `overdueMs`, a comparison, does.
 */
import {
  type FactPositions,
  type Link,
  type MonotonicMs,
  type NeededLink,
  type Projection,
  readsLevel,
  type Stream,
} from "../../events/index.ts";
import {
  type BlockReason,
  type HeldLease,
  leaseReasons,
  type Moment,
  overdueMs,
  tickMs,
} from "../lease/lease-holder.ts";
import type { Behind } from "../replica.ts";
import type { RefusedEnvelope } from "../wire/broker-opener.ts";
import { DenialSync } from "./denials/denial-sync.ts";
import type { PersistedDenial } from "./denials/persisted-denials.ts";
import { Reassertions } from "./denials/reassertions.ts";
import { Enforcement } from "./enforcement.ts";
import { LinkWaiters, type LinkWaitResult } from "./link-waiters.ts";
import { LogSync, type ProjectionMove } from "./log-sync.ts";
import type { Delivered, NodeEffect, NodeInput } from "./messages.ts";
import type { NodeCoreOptions, NodeMetrics, Savepoint } from "./node-core-types.ts";
import { NodeLease } from "./node-lease.ts";
import type { PersonKeys } from "./person-keys.ts";

const never = Number.POSITIVE_INFINITY;

/** The state of the node, changed in place: after a step, use only the core that the step returned. */
export class NodeCore {
  readonly #keys: PersonKeys;
  readonly #enforcingTicksMax: number;
  readonly #reads: number;
  /** Whether this node keeps the revocations that its region accepts by itself. */
  readonly #keepsLocal: boolean;
  readonly #sync: LogSync;
  readonly #lease: NodeLease;
  readonly #enforcement: Enforcement;
  readonly #waiters = new LinkWaiters();
  readonly #reassertions: Reassertions;
  readonly #denialSync: DenialSync;
  readonly #refusals: Record<string, number> = {};
  #effects: NodeEffect[] = [];
  #now: MonotonicMs;
  #ids = 0;
  #refusedDeliveries = 0;
  #tickAt = never;
  #wakeAt = never;
  /**
   * For how many ticks `enforced` has not moved past a change. Ticks, not time: listeners do not run during a pause.
   */
  #stalled: Readonly<{ enforced: Link | null; ticks: number }> = { enforced: null, ticks: 0 };
  #draining = false;
  #stopped = false;

  constructor(options: NodeCoreOptions) {
    const emit = (effect: NodeEffect): void => void this.#effects.push(effect);
    const parts = { random: options.random, nextId: () => ++this.#ids, emit };
    this.#keys = options.keys;
    this.#reads = options.reads ?? readsLevel;
    this.#keepsLocal = options.brokers !== undefined;
    this.#now = options.at.monotonic;
    this.#enforcingTicksMax = Math.ceil((options.enforcingMsMax ?? 10_000) / tickMs);
    this.#sync = new LogSync({
      ...parts,
      keys: options.keys,
      pollMs: options.pollMs ?? 1_000,
      pageLimit: options.pageLimit ?? 2_000,
      replays: options.role === "broker",
      onMoved: (onMoved) => this.#moved(onMoved),
      onRebuilding: (lost) => this.#rebuilding(lost),
      onRebuilt: () => this.#lease.onRebuilt(),
      onLost: (events, now) => this.#reassertions.add(events, now),
      onEpoch: () => this.#lease.noteEpoch(this.#sync.epoch),
      onApplied: (recorded) => this.#denialSync.denials.recordApplied(recorded),
      onBroken: (error) => this.#fail("stopped", error),
    });
    this.#denialSync = new DenialSync({
      ...parts,
      log: (level, message, fields) => this.#log(level, message, fields),
      onDenied: (streams) => this.#deny(streams),
      onTightened: (tightened) => this.#lease.onTightened(tightened),
      onConfirmed: () => this.#lease.confirm(),
    });
    this.#enforcement = new Enforcement(this.projection.applied);
    this.#reassertions = new Reassertions(parts);
    this.#lease = new NodeLease({
      ...options,
      ...parts,
      reads: this.#reads,
      renewMs: options.renewMs ?? 1_000,
      log: (level, message, fields) => this.#log(level, message, fields),
      copy: () => ({
        projection: this.projection,
        enforced: this.enforced,
        isRebuilding: this.rebuilding,
        history: this.#sync.history,
      }),
      lostEpoch: (leasedAt) => this.#waiters.lostEpoch(this.#sync.history, leasedAt),
      denials: () => this.#denialSync.confirmed,
      onGranted: (grant) => {
        this.#sync.onGrant(grant, this.#now);
        if (this.#keepsLocal && grant.tightenedTo) this.#denialSync.onAwaited(grant.tightenedTo, this.#now);
      },
      onRefused: (refused) => this.#refuse("grant", refused),
      onDistrusted: () => this.#sync.rebuildProjection(this.#now),
    });
  }

  get projection(): Projection {
    return this.#sync.copy.projection;
  }
  get applied(): Link {
    return this.projection.applied;
  }
  get appliedLink(): NeededLink {
    return this.#sync.copy.appliedLink;
  }
  get enforced(): Link {
    return this.#enforcement.enforced;
  }
  get rebuilding(): boolean {
    return this.#sync.copy.rebuilding;
  }
  /** Authentic grants for this boot so far. */
  get grants(): number {
    return this.#lease.counts.grants;
  }
  /** The cluster has finalized a level that this build cannot read. */
  get tooOld(): boolean {
    return this.#lease.holder.blockedBy.includes("too-old");
  }
  get savepoint(): Savepoint {
    const { copy, history } = this.#sync;
    return { projection: copy.projection, link: history.applied, epochs: history.epochs, retained: copy.retained };
  }

  /** Grows with every final denial; see `denialsToPersist`. */
  get tightened(): number {
    return this.#sync.copy.tightened;
  }

  /** The final denials to keep on disk across a restart. */
  denialsToPersist(): readonly PersistedDenial[] {
    return this.#sync.copy.denialsToPersist();
  }

  /** How long ago (ms) the lease expired; see `Freshness`. */
  overdueMs(at: Moment): number {
    return overdueMs(this.#lease.holder, at);
  }

  /** How long (ms) the leader has not answered a renew; see `ReplicaProcess`. */
  leaderSilentMs(now: MonotonicMs): number {
    return this.#lease.leaderSilentMs(now);
  }

  /** See `Replica`. */
  behind(now: MonotonicMs): Behind | null {
    const since = this.#sync.behindSince;
    if (since === null) return null;
    return { events: this.#sync.knownHead - this.applied.position, ms: Math.max(0, now - since) };
  }

  /** The lease from which grants by age may be made; null: none. */
  heldLease(at: Moment): HeldLease | null {
    return this.#lease.heldAt(at);
  }

  /** Whether a lost suffix that this node had applied, or this node's region by itself, denied this fact. */
  isDeniedLocally(stream: Stream): boolean {
    return this.isDeniedByRegion(stream) || this.#sync.copy.isDeniedLocally(stream);
  }

  /** Whether this node's region revoked the fact by itself and the log does not have that yet. */
  isDeniedByRegion(stream: Stream): boolean {
    return this.#denialSync.denials.denies(stream);
  }

  /** The log positions of the facts in the projection. */
  get places(): FactPositions {
    return this.#sync.copy.places;
  }

  /** Whether a delivery that ends at this link need not be decoded, because its events would be ignored. */
  hasApplied(link: Link): boolean {
    return this.#sync.hasApplied(link);
  }

  /** Why the node does not serve; empty: it serves. */
  reasons(at: Moment): readonly string[] {
    const reasons = leaseReasons(this.#lease.holder, at);
    const { caughtUp, knownHead, truncated } = this.#sync;
    if (!caughtUp) reasons.unshift(`reading the log: at ${this.applied.position} of ${knownHead}`);
    if (truncated) reasons.push("the log begins after this node's position");
    if (this.#draining) reasons.push("draining");
    return reasons;
  }

  metrics(): NodeMetrics {
    const { deliveries, ...counts } = this.#sync.counts;
    const { keys, failures } = this.#keys.counts();
    const applied = this.applied.position;
    return {
      ...this.#lease.counts,
      ...counts,
      deliveries: deliveries + this.#refusedDeliveries,
      applied,
      enforced: this.enforced.position,
      lag: Math.max(0, this.#sync.knownHead - applied),
      refused: { ...this.#refusals },
      stickyDenials: this.#sync.copy.retained.size,
      reasserting: this.#reassertions.size,
      enforcing: this.#enforcement.waiting,
      localDenials: this.#denialSync.denials.size,
      waiting: this.#waiters.count,
      personKeys: keys,
      personKeyFailures: failures,
    };
  }

  /** Only `step` calls this. */
  handleInput(input: NodeInput): readonly NodeEffect[] {
    this.#effects = [];
    if (this.#stopped) return this.#effects;
    this.#now = input.at.monotonic;
    this.#lease.setMoment(input.at);
    this.#handle(input);
    this.#lease.renewAfterPause();
    if (!this.#stopped) this.#scheduleWake();
    return this.#effects;
  }

  #handle(input: NodeInput): void {
    switch (input.type) {
      case "started":
        this.#tickAt = this.#now + tickMs;
        if (input.denials !== undefined) this.#sync.copy.restoreDenials(input.denials);
        if (this.#keepsLocal) this.#denialSync.start(input.localDenials ?? [], this.#now);
        this.#sync.start(input, this.#now);
        this.#lease.start();
        return;
      case "woke":
        this.#wake();
        return;
      case "fanoutChanged":
        this.#sync.onFanoutChanged(input.fanout, this.#now);
        return;
      case "configured":
        this.#lease.configure(input);
        return;
      case "delivered":
        this.#onDelivery(input.delivery);
        return;
      case "readAnswered":
        this.#sync.onReadAnswer(input, this.#now);
        return;
      case "leaseAnswered":
        this.#lease.onAnswer(input);
        return;
      case "changeEnforced":
        this.#changeEnforced(input.id);
        return;
      case "enforcementFailed":
        this.#fail("enforcement-failed", input.error);
        return;
      case "snapshotLoaded":
        this.#sync.onSnapshotLoaded(input, this.#now);
        return;
      case "snapshotFailed":
        this.#sync.onSnapshotFailed(input, this.#now);
        return;
      case "reassertAnswered": {
        const { id, answer, settledAt } = input;
        const hash = this.#reassertions.recordAnswer(id, answer, this.#now);
        if (hash !== null && settledAt !== undefined) this.#sync.copy.answers.add(hash, settledAt);
        return;
      }
      case "denialsAnswered":
        this.#denialSync.onRead(input.id, input.answer, this.#now);
        return;
      case "localDenialsKept":
        this.#denialSync.onKept(input.id, input.outcome);
        return;
      case "revocationSubmitted":
        this.#denialSync.onSubmitted(input.id, input.answer, this.#now);
        this.#denialSync.settle(this.#sync.history, this.projection, this.#now);
        return;
      case "linkAwaited": {
        const outcome = this.#waiters.wait(input, this.#sync.history, this.#now);
        if (outcome !== undefined) this.#reach([{ id: input.id, outcome }]);
        return;
      }
      case "nudged":
        this.#sync.requestRead(this.#now);
        return;
      case "draining":
        this.#draining = true;
        return;
      case "leaving":
        this.#lease.leave();
        return;
      case "stopped":
        this.#stop();
    }
  }

  // --- time

  #wake(): void {
    this.#wakeAt = never;
    if (this.#now >= this.#tickAt) {
      this.#tickAt = this.#now + tickMs;
      this.#lease.tick();
      this.#sync.tick(this.#now);
      this.#watchEnforcement();
    }
    const { answered, ask } = this.#waiters.wake(this.#now);
    this.#reach(answered);
    if (ask) this.#sync.requestRead(this.#now);
    this.#sync.wake(this.#now);
    this.#lease.wake();
    this.#reassertions.wake(this.#now);
    this.#denialSync.wake(this.#now);
  }

  #scheduleWake(): void {
    const own = Math.min(this.#tickAt, this.#waiters.due, this.#reassertions.due, this.#denialSync.due);
    const due = Math.min(own, this.#sync.due, this.#lease.due);
    if (due === this.#wakeAt) return;
    this.#wakeAt = due;
    this.#effects.push({ type: "wake", at: due });
  }

  // --- the log

  #onDelivery(delivery: Delivered | RefusedEnvelope): void {
    if ("refused" in delivery) {
      this.#refusedDeliveries += 1;
      this.#refuse("delivery", delivery);
    } else {
      this.#sync.onDelivery(delivery, this.#now);
    }
  }

  #moved({ touched, decisive, rebuilt, committedAt }: ProjectionMove): void {
    const { projection } = this;
    const id = ++this.#ids;
    this.#noteDegraded(projection.degraded);
    this.#noteLevel(projection.level);
    this.#enforcement.begin({ id, link: projection.applied, decisive, rebuilt });
    this.#effects.push({ type: "changed", id, link: projection.applied, touched, rebuilt, committedAt });
    if (rebuilt) this.#denialSync.denials.forgetDropped();
    this.#denialSync.settle(this.#sync.history, this.projection, this.#now);
    this.#lease.onProjectionMoved();
    this.#reach(this.#waiters.onProjectionMoved(this.#sync.history));
  }

  /** Decides open exchanges again: the region has denied these facts by itself. @returns the number of the change */
  #deny(streams: readonly Stream[]): number {
    const id = ++this.#ids;
    const link = this.projection.applied;
    this.#enforcement.begin({ id, link, decisive: true, rebuilt: false });
    this.#effects.push({ type: "changed", id, link, touched: [streams], rebuilt: false, committedAt: null });
    return id;
  }

  #rebuilding(lost: Link): void {
    this.#lease.block("rebuilding");
    this.#effects.push({ type: "rebuilding", lost });
    this.#log("error", "the log lacks events that this node has applied, or has others in their place; rebuilding", {
      lost,
    });
  }

  /** @param event the unknown event in the projection; undefined: none, for example after a rebuild */
  #noteDegraded(event: string | undefined): void {
    if ((event !== undefined) === this.#lease.holder.blockedBy.includes("degraded")) return;
    if (event === undefined) {
      this.#lease.unblock("degraded");
      return;
    }
    this.#lease.block("degraded");
    this.#log("error", "this build does not know an event that could change decisions", { event });
  }

  #noteLevel(finalized: number): void {
    if (finalized > this.#reads === this.tooOld) return;
    if (finalized > this.#reads) {
      this.#lease.block("too-old");
      const fields = { finalized, reads: this.#reads };
      this.#log("error", "this build is too old for the cluster: permitting nothing", fields);
    } else this.#lease.unblock("too-old");
  }

  #changeEnforced(id: number): void {
    if (this.#lease.holder.blockedBy.includes("enforcement-failed")) return;
    const { moved, decisive } = this.#enforcement.complete(id);
    this.#denialSync.onEnforced(id);
    if (moved && decisive) this.#lease.confirm();
  }

  /** Fails the node when a listener never answers; otherwise receipts would wait forever too. */
  #watchEnforcement(): void {
    const enforced = this.#enforcement.waiting > 0 ? this.enforced : null;
    const still = enforced !== null && enforced === this.#stalled.enforced;
    this.#stalled = { enforced, ticks: still ? this.#stalled.ticks + 1 : 0 };
    if (this.#stalled.ticks !== this.#enforcingTicksMax) return;
    const problem = "a change was not enforced in time: a listener never answered";
    this.#fail("enforcement-failed", new Error(problem));
  }

  /** Stops permitting anything: an outage is recoverable, a wrong decision is not. */
  #fail(reason: Extract<BlockReason, "enforcement-failed" | "stopped">, error: unknown): void {
    if (this.#lease.holder.blockedBy.includes(reason)) return;
    this.#lease.block(reason);
    this.#log("error", "this node permits nothing until it is restarted", { err: error, reason });
  }

  #stop(): void {
    this.#stopped = true;
    this.#lease.stop();
    this.#sync.stop();
    this.#denialSync.stop();
    this.#reach(this.#waiters.close());
    this.#effects.push({ type: "wake", at: never });
  }

  // --- effects for the outside

  #reach(answered: readonly LinkWaitResult[]): void {
    for (const { id, outcome } of answered) this.#effects.push({ type: "linkReached", id, outcome });
  }

  /** Logs the first refusal and then ever fewer, so a flood of messages does not flood the log. */
  #refuse(what: "delivery" | "grant", { refused: why, detail }: RefusedEnvelope): void {
    const count = (this.#refusals[`${what}: ${why}`] ?? 0) + 1;
    this.#refusals[`${what}: ${why}`] = count;
    if (Number.isInteger(Math.log2(count))) this.#log("warn", `a ${what} was refused`, { why, detail, count });
  }

  #log(level: "debug" | "info" | "warn" | "error", message: string, fields: object): void {
    this.#effects.push({ type: "log", level, message, fields });
  }
}

export function newNodeCore(options: NodeCoreOptions): NodeCore {
  return new NodeCore(options);
}

/** Handles one input. @returns the core for the next step (see `NodeCore`), and its effects in order */
export function step(core: NodeCore, input: NodeInput): readonly [NodeCore, readonly NodeEffect[]] {
  return [core, core.handleInput(input)];
}
