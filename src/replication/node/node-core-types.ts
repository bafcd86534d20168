/** Node core types: the options, measures and savepoint of the core of an enforcement node. Only types. */
import type { BootId, Link, NodeId, Projection, Stream } from "../../events/index.ts";
import type { EpochMark } from "../lease/chain-history.ts";
import type { Moment } from "../lease/lease-holder.ts";
import type { Renew, SolePathClaim } from "../wire/messages.ts";
import type { PersonKeys } from "./person-keys.ts";

export type NodeCoreOptions = Readonly<{
  node: NodeId;
  /** Random, new at each start. */
  boot: BootId;
  role: Renew["role"];
  region: string;
  version: string;
  /** The level up to which this build can read events. Absent: the build's own level. */
  reads?: number;
  /** The boot that this one replaces, known because it holds that boot's data folder lock; null: none. */
  replaces: BootId | null;
  /** The replaced boot's signature; absent: its id commits to no key. */
  replacementProof?: Uint8Array;
  /** In ms, until the first `configured` input. */
  windowMs: number;
  configHash: string;
  keys: PersonKeys;
  /** An input stream: the driver of the core owns its source. */
  random: (size: number) => Uint8Array;
  /** The moment of the start. */
  at: Moment;
  renewMs?: number;
  /** How long a read waits at the head when the fan-out does not deliver. */
  pollMs?: number;
  pageLimit?: number;
  /** A change not enforced within this much running time (ms) counts as failed. */
  enforcingMsMax?: number;
  /**
   * The addresses of the brokers that this node uses. Absent: it keeps no local revocations.
   */
  brokers?: readonly string[];
  /** Only of a regional broker that may revoke by itself: read at every renew, and by no other step. */
  solePath?: () => Pick<SolePathClaim, "wanted" | "retained">;
}>;

export type NodeMetrics = Readonly<{
  applied: number;
  enforced: number;
  /** The number of known positions that are not applied. */
  lag: number;
  deliveries: number;
  refused: Readonly<Record<string, number>>;
  rebuilds: number;
  quarantines: number;
  snapshots: number;
  stickyDenials: number;
  /** The number of lost denials that no broker has accepted yet. */
  reasserting: number;
  enforcing: number;
  /** Revocations that the region accepted by itself and the log does not have yet. */
  localDenials: number;
  waiting: number;
  reads: number;
  readFailures: number;
  renews: number;
  grants: number;
  confirms: number;
  leaseFailures: number;
  personKeys: number;
  personKeyFailures: number;
}>;

/**
 * The data of a snapshot of this node. The core still owns the projection: read it before the next step.
 */
export type Savepoint = Readonly<{
  projection: Projection;
  link: Link;
  epochs: readonly EpochMark[];
  retained: ReadonlySet<Stream>;
}>;
