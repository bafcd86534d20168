/**
 * Node lease: a node's right to decide, and the messages about it that the node sends to the leader.
 *
 * - It combines the lease holder, which compares moments, and the lease sender, which schedules messages.
 * - It numbers every message once.
 * - It detects that the process did not run, and renews at once.
 * - It quarantines the node when the leader has another projection at the same link.
 *
 * Pure.
 */
import type { BootId, Epoch, Link, NodeId, Projection } from "../../events/index.ts";
import type { ChainHistory } from "../lease/chain-history.ts";
import {
  type BlockReason,
  type HeldLease,
  type LeaseHolder,
  type LeaseInput,
  leaseHeldAt,
  type Moment,
  newLeaseHolder,
  step as stepLease,
} from "../lease/lease-holder.ts";
import type { LeaseRefusal } from "../lease/lease-refusal.ts";
import { type Backoff, backoffMs } from "../runtime/jitter.ts";
import type { RefusedEnvelope } from "../wire/broker-opener.ts";
import type { Grant, Renew, SolePathClaim, StorePosition } from "../wire/messages.ts";
import { LeaseSender } from "./lease-sender.ts";
import type { LeaseMessage, NodeEffect, NodeLeaseAnswer } from "./messages.ts";

export type NodeLeaseOptions = Readonly<{
  node: NodeId;
  boot: BootId;
  role: Renew["role"];
  region: string;
  version: string;
  reads: number;
  replaces: BootId | null;
  replacementProof?: Uint8Array;
  windowMs: number;
  configHash: string;
  renewMs: number;
  at: Moment;
  /** The addresses of the brokers that this node uses. Absent: it keeps no local revocations. */
  brokers?: readonly string[];
  /** Of a regional broker that may revoke by itself (lease/region-paths.ts). */
  solePath?: () => Pick<SolePathClaim, "wanted" | "retained">;
  /** The local revocations that this boot has confirmed. */
  denials: () => readonly StorePosition[];
  random: (size: number) => Uint8Array;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  log: (level: "debug" | "info" | "warn" | "error", message: string, fields: object) => void;
  /** The node's current copy. */
  copy: () => Readonly<{ projection: Projection; enforced: Link; isRebuilding: boolean; history: ChainHistory }>;
  /** The epoch named by a credential of a lost history (link-waiters.ts); null: none. */
  lostEpoch: (leasedAt: number) => Epoch | null;
  /** Called with an authentic grant for this boot, before it counts for the lease. */
  onGranted: (grant: Grant) => void;
  onRefused: (refused: RefusedEnvelope) => void;
  /** The projection must be rebuilt. */
  onDistrusted: () => void;
}>;

/** Before the first grant, this many renews are sent early. */
const hurriedRenewsMax = 20;
/** The delay (ms) between two rebuilds of a projection that the leader finds wrong. */
const quarantineBackoff: Backoff = { first: 30_000, max: 600_000 };
const never = Number.POSITIVE_INFINITY;

export class NodeLease {
  readonly #options: NodeLeaseOptions;
  readonly #sender: LeaseSender;
  #holder: LeaseHolder;
  #at: Moment;
  #windowMs: number;
  #configHash: string;
  #grants = 0;
  /** When the leader's newest answer to a renew arrived. */
  #leaderHeardAt: number = Number.NEGATIVE_INFINITY;
  #replaces: BootId | null;
  #bootRecorded = false;
  #renewNow = false;
  /** What the newest grant says of the sole path; null: nothing, or this broker has given it up since. */
  #solePath: Readonly<{ brokers: readonly string[]; epoch: Epoch }> | null = null;
  /** Grants for earlier renews give no sole path: a later renew said that this broker does not have it. */
  #solePathFrom = 0;
  #quarantines = 0;
  #quarantineAt = never;
  #mayQuarantineAt = Number.NEGATIVE_INFINITY;
  /** Messages sent before this time do not describe the current projection. */
  #rebuiltAt = Number.NEGATIVE_INFINITY;

  constructor(options: NodeLeaseOptions) {
    const { node, boot, at } = options;
    this.#options = options;
    this.#replaces = options.replaces;
    this.#at = at;
    this.#windowMs = options.windowMs;
    this.#configHash = options.configHash;
    this.#holder = newLeaseHolder({ node, boot, at });
    this.#sender = new LeaseSender({
      ...options,
      nextRenew: () => this.#nextRenew(),
      nextConfirm: () => ({
        type: "confirm",
        confirm: { node, boot, nonce: this.#nextNonce(), enforced: options.copy().enforced, ...this.#denials() },
      }),
      nextGoodbye: () => ({ type: "goodbye", goodbye: { node, boot, nonce: this.#nextNonce() } }),
      isHurried: () => this.#grants === 0 && this.#holder.nonce < hurriedRenewsMax,
    });
  }

  get holder(): LeaseHolder {
    return this.#holder;
  }
  /** The lease that a regional broker grants from; null: none. */
  heldAt(at: Moment): HeldLease | null {
    const held = leaseHeldAt(this.#holder, at);
    return held === null ? null : { ...held, solePath: this.#solePath?.brokers ?? null };
  }
  get counts(): Readonly<{
    renews: number;
    confirms: number;
    leaseFailures: number;
    grants: number;
    quarantines: number;
  }> {
    return { ...this.#sender.counts, grants: this.#grants, quarantines: this.#quarantines };
  }
  get due(): number {
    return Math.min(this.#sender.due, this.#quarantineAt);
  }

  /** Time (ms) since the leader's newest answer to a renew. A grant by age is none. Infinity: no answer yet. */
  leaderSilentMs(now: number): number {
    return now - this.#leaderHeardAt;
  }

  /** Sets the moment of the current input. */
  setMoment(at: Moment): void {
    this.#at = at;
  }

  start(): void {
    this.#sender.renew(this.#at.monotonic);
  }

  configure({ windowMs, configHash }: Readonly<{ windowMs: number; configHash: string }>): void {
    this.#windowMs = windowMs;
    this.#configHash = configHash;
  }

  tick(): void {
    this.#stepHolder({ type: "tick", at: this.#at });
  }

  wake(): void {
    this.#sender.wake(this.#at.monotonic);
    if (this.#at.monotonic >= this.#quarantineAt) this.#requestRebuild();
  }

  /** Call this after an input has been handled: a process that did not run renews at once. */
  renewAfterPause(): void {
    if (!this.#renewNow) return;
    this.#renewNow = false;
    if (this.#sender.renewedAt < this.#at.monotonic) this.#sender.renew(this.#at.monotonic);
  }

  /** An authenticated message named this epoch. */
  noteEpoch(epoch: LeaseHolder["epoch"]): void {
    this.#stepHolder({ type: "epochSeen", epoch, at: this.#at });
  }

  /** More local revocations are in force here. */
  onTightened(tightened: readonly StorePosition[]): void {
    this.#stepHolder({ type: "tightened", tightened, history: this.#options.copy().history, at: this.#at });
  }

  /** The visible projection has moved. */
  onProjectionMoved(): void {
    this.#stepHolder({ type: "projectionMoved", history: this.#options.copy().history, at: this.#at });
  }

  block(reason: BlockReason): void {
    this.#stepHolder({ type: "blocked", reason, at: this.#at });
  }

  /** Another projection, read to the head of the log, has replaced the old one. */
  onRebuilt(): void {
    this.unblock("rebuilding");
    this.unblock("quarantined");
    this.#quarantineAt = never;
    this.#rebuiltAt = this.#at.monotonic;
    this.onProjectionMoved();
  }

  unblock(reason: BlockReason): void {
    this.#stepHolder({ type: "unblocked", reason, at: this.#at });
  }

  /** Confirms a change that a receipt may wait for. No receipt waits for a boot that was never granted a lease. */
  confirm(): void {
    if (this.#grants > 0) this.#sender.confirm(this.#at.monotonic);
  }

  leave(): void {
    this.#stepHolder({ type: "goodbye", at: this.#at });
    this.#sender.leave(this.#at.monotonic);
  }

  stop(): void {
    this.block("stopped");
    this.#sender.stop();
  }

  onAnswer({ id, answer }: Readonly<{ id: number; answer: NodeLeaseAnswer }>): void {
    const call = this.#sender.onAnswer(id, answer, this.#at.monotonic);
    if (call?.kind === "goodbye" && answer.type === "taken") this.#options.emit({ type: "clearBoot" });
    if (call?.kind !== "renew") return;
    if (answer.type === "grant") this.#onGrant(answer.grant);
    else if (answer.type === "refused") {
      this.#leaderHeardAt = this.#at.monotonic;
      this.#onRefusal(answer.refusal, call.at);
    }
  }

  #onRefusal({ code, message }: LeaseRefusal, sentAt: number): void {
    if (code === "digest-mismatch" && sentAt > this.#rebuiltAt) this.#quarantine();
    else if (code === "level-too-old") this.#blockTooOld(message);
  }

  /** Blocks the node until the projection's level shows that this build can read it. */
  #blockTooOld(reason: string): void {
    if (this.#holder.blockedBy.includes("too-old")) return;
    this.block("too-old");
    this.#options.log("error", "this build is too old for the cluster: permitting nothing", { reason });
  }

  #onGrant(grant: Grant | RefusedEnvelope): void {
    const { node, boot } = this.#options;
    if ("refused" in grant) {
      this.#options.onRefused(grant);
      return;
    }
    if (grant.node !== node || grant.boot !== boot) return;
    this.#grants += 1;
    // A lease by age is not the leader's grant. The leader deleted the replaced boot's row in the write before its own.
    if (grant.ageMs === undefined || grant.ageMs === null) {
      this.#replaces = null;
      this.#leaderHeardAt = this.#at.monotonic;
      this.#sender.pauseConfirms(grant.confirmPauseMs ?? 0);
    }
    if (this.#options.copy().projection.level <= this.#options.reads) this.unblock("too-old");
    this.#options.onGranted(grant);
    this.#stepHolder({ type: "granted", grant, history: this.#options.copy().history, at: this.#at });
    this.#noteSolePath(grant);
  }

  /** The newest grant counts, and only if it answers a renew since this broker said that it has no sole path. */
  #noteSolePath({ nonce, epoch, solePath: brokers }: Grant): void {
    if (this.#holder.limits?.nonce !== nonce) return;
    this.#solePath = brokers === undefined || nonce < this.#solePathFrom ? null : { brokers, epoch };
  }

  /** What the renew that is sent now says of the sole path. Saying that this broker does not have it gives it up. */
  #solePathClaim(): Pick<Renew, "solePath"> {
    if (this.#options.solePath === undefined) return {};
    const { wanted, retained } = this.#options.solePath();
    const hasLease = leaseHeldAt(this.#holder, this.#at) !== null;
    if (!hasLease || !(wanted || retained)) this.#solePath = null;
    const grantedIn = this.#solePath?.epoch ?? null;
    if (grantedIn === null && !retained) this.#solePathFrom = this.#holder.nonce;
    return { solePath: { wanted, retained, grantedIn } };
  }

  /** Stops deciding from a projection that the leader finds wrong (docs/protocol.md §5.2). */
  #quarantine(): void {
    const { projection, isRebuilding: rebuilding } = this.#options.copy();
    if (rebuilding || this.#holder.blockedBy.includes("quarantined")) return;
    this.block("quarantined");
    const fields = { link: projection.applied, digest: projection.digest() };
    this.#options.log(
      "error",
      "this node's projection differs from the leader's at the same link; quarantined",
      fields,
    );
    this.#quarantineAt = Math.max(this.#at.monotonic, this.#mayQuarantineAt);
    if (this.#at.monotonic >= this.#quarantineAt) this.#requestRebuild();
  }

  #requestRebuild(): void {
    this.#quarantineAt = never;
    this.#quarantines += 1;
    const waitMs = quarantineBackoff.first + backoffMs(quarantineBackoff, this.#quarantines, this.#options.random);
    this.#mayQuarantineAt = this.#at.monotonic + waitMs;
    this.#options.onDistrusted();
  }

  #stepHolder(input: LeaseInput): void {
    const before = this.#holder.pausedMs;
    this.#holder = stepLease(this.#holder, input);
    const { pausedMs } = this.#holder;
    if (pausedMs === null || pausedMs === before) return;
    this.#renewNow = true;
    const fields = { pausedMs: Math.round(pausedMs) };
    this.#options.log("warn", "this process did not run for a while; permitting nothing until a new grant", fields);
  }

  #denials(): Pick<Renew, "denials"> {
    const denials = this.#options.denials();
    return denials.length === 0 ? {} : { denials };
  }

  #nextNonce(): number {
    this.#stepHolder({ type: "nonceTaken", at: this.#at });
    return this.#holder.nonce;
  }

  /** Null when the boot can never permit again: it sends no renew, so that it is fenced soon. */
  #nextRenew(): LeaseMessage | null {
    const { left, blockedBy } = this.#holder;
    if (left || blockedBy.includes("enforcement-failed") || blockedBy.includes("stopped")) return null;
    if (!this.#bootRecorded) this.#options.emit({ type: "recordBoot" });
    this.#bootRecorded = true;
    this.#stepHolder({ type: "renewDue", at: this.#at });
    const { projection, enforced } = this.#options.copy();
    const { node, boot, region, role, version, reads, replacementProof } = this.#options;
    const lostEpoch = this.#options.lostEpoch(this.#holder.freshSince);
    const renew: Renew = {
      node,
      boot,
      nonce: this.#holder.nonce,
      region,
      role,
      version,
      reads,
      windowMs: Math.ceil(this.#windowMs),
      applied: projection.applied,
      enforced,
      digest: projection.digest(),
      configHash: this.#configHash,
      replaces: this.#replaces,
      ...(this.#replaces === null || replacementProof === undefined ? {} : { replacementProof }),
      monotonicMs: this.#at.monotonic,
      ...(lostEpoch === null ? {} : { lostEpoch }),
      ...(this.#options.brokers === undefined ? {} : { brokers: this.#options.brokers }),
      ...this.#denials(),
      ...this.#solePathClaim(),
    };
    return { type: "renew", renew };
  }
}
