/**
 * Entry point of replication: the interfaces to a process's copy of the log and to the databroker, and `Clock` and
 * `Logger`, which every package takes.
 *
 * Other packages import everything else from the index.ts of its folder.
 */

export type {
  AbsentNode,
  BrokerPresence,
  ClusterStatus,
  CutOffRegion,
  Databroker,
  DenialsOutcome,
  HomeOutOfReach,
  KeyedPage,
  LeaderStatus,
  LocalReceipt,
  LocalReceiptNode,
  LocalReceiptOutcome,
  LocalResult,
  NodeStatus,
  PageOutcome,
  Receipt,
  ReceiptNode,
  ReceiptOptions,
  ReceiptRegion,
  ReceiptTarget,
  ReceiptWait,
  RegionLag,
  SnapshotPlace,
  StatusOptions,
} from "./databroker.ts";
export { type RegionAbsences, regionLags } from "./region-lag.ts";
export type { Behind, Change, ChangeListener, Freshness, Replica } from "./replica.ts";
export type { Clock } from "./runtime/clock.ts";
export type { Logger } from "./runtime/logger.ts";
