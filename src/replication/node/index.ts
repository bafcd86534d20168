/** Entry point of the node: one copy of the log in a process, and the right to decide from it. */

export { DataFolderLockedError } from "./data-folder-lock.ts";
export type { DenialsOnDisk } from "./denials/persisted-denials.ts";
export { Reassertions } from "./denials/reassertions.ts";
export { Tightenings } from "./denials/tightenings.ts";
export {
  type Effect as FollowerEffect,
  type Follower,
  type Input as FollowerInput,
  newFollower,
  step as stepFollower,
} from "./follower.ts";
export type {
  Delivered,
  DenialsAnswer,
  FanoutState,
  LeaseMessage,
  LoadedSnapshot,
  MergeAnswer,
  NodeEffect,
  NodeInput,
  NodeLeaseAnswer,
  ReadAnswer,
} from "./messages.ts";
export { NodeCore, newNodeCore, step as stepNode } from "./node-core.ts";
export type { NodeCoreOptions, NodeMetrics, Savepoint } from "./node-core-types.ts";
export {
  type ReplicaMetrics,
  type ReplicaOptions,
  type ReplicaProcess,
  type ReplicaReadiness,
  startReplica,
} from "./node-process.ts";
export { createPersonKeys, type PersonKeys } from "./person-keys.ts";
export type { SnapshotSource } from "./snapshot-source.ts";
export { createNodeSnapshots, type NodeSnapshots } from "./snapshot-source-file.ts";
