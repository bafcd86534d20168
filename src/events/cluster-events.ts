/** Cluster events: facts about the cluster itself, its nodes, its log and its audit records. Only types. */
import type { BootId, BrokerId, ConfigHash, Epoch, Fact, Hash, Incarnation, NodeId, Position } from "./ids.ts";
import type { Stream } from "./streams.ts";

export type ConfigurationActivated = Fact<"ConfigurationActivated", { nodeId: NodeId; configHash: ConfigHash }>;
/** The first event of each epoch. `publicKey` is the broker's raw Ed25519 key for the epoch, base64url. */
export type EpochOpened = Fact<
  "EpochOpened",
  { epoch: Epoch; incarnation: Incarnation; brokerId: BrokerId; publicKey: string }
>;
/**
 * A tightening event that the log had lost (a failover without its last suffix, a restore) and whose type this build
 * does not know: it denies the subject of the stream permanently. An event of a known type is recorded again as itself.
 * `of`: the lost event's type; `lost`: its hash.
 */
export type TighteningReasserted = Fact<"TighteningReasserted", { subject: Stream; of: string; lost: Hash }>;
/**
 * From this event on the cluster is at this level (formats.ts). Newer formats may be written, and builds that cannot
 * read them get no lease. A level is never lowered, so there is no way back to such a build.
 */
export type UpgradeFinalized = Fact<"UpgradeFinalized", { level: number }>;
/**
 * An operator has retired nodes that are absent: they no longer count as nodes of the cluster. It takes no right away;
 * a node that comes back is admitted again.
 */
export type NodesRetired = Fact<
  "NodesRetired",
  { nodes: readonly Readonly<{ nodeId: NodeId; role: string; region: string }>[] }
>;
/**
 * What is kept for a receiver of Shared Signals has changed: its stream, or how far the stream has been delivered. The
 * record itself is in the vault, written in the same transaction; here is only what operators may see.
 */
export type SignalStreamChanged = Fact<
  "SignalStreamChanged",
  {
    /** A name in `signal_receivers`. */
    receiver: string;
    /** Null: the receiver has no stream. */
    streamId: string | null;
    status: "enabled" | "paused" | "disabled" | "none";
    /** Everything at or below this position has been delivered. */
    delivered: Position;
  }
>;
export type SnapshotTaken = Fact<"SnapshotTaken", { position: Position; manifestHash: Hash }>;
/**
 * A node has signed the root of the hash tree over the audit records of a boot. This seal adds the numbers `first` to
 * `last`; `root` is that of the tree over 1 to `last`.
 */
export type AuditSegmentSealed = Fact<
  "AuditSegmentSealed",
  {
    nodeId: NodeId;
    bootId: BootId;
    first: number;
    last: number;
    root: Hash;
    /** The boot has ended, and has no later number. Absent: not known. */
    final?: boolean;
    /** What the node signed (replication/wire/audit-seal.ts). Absent: a version that no build has written. */
    seal?: Uint8Array;
  }
>;
