/** Entry point of leases and receipts: the state machines of both sides, and the chain history that compares links. */

export {
  type AdmittedBefore,
  type AdmittedNodeStatus,
  AdmittedNodes,
  type NodeRows,
  noNodeRows,
} from "./admitted-nodes.ts";
export {
  type ChainHistory,
  type EpochMark,
  emptyHistory,
  extendHistory,
  historyFrom,
  incarnationOf,
  type LinkLocation,
  locateLink,
  mayHold,
  sharesLink,
} from "./chain-history.ts";
export {
  type GranterOptions,
  LeaseGranter,
  type LeaseMessageOutcome,
  type LimitedWindow,
  type RenewAnswer,
  type RenewOrigin,
  type RoleLimits,
  type WriteRound,
} from "./lease-granter.ts";
export {
  type HeldLease,
  type LeaseHolder,
  type LeaseInput,
  leaseHeldAt,
  leaseReasons,
  type Moment,
  newLeaseHolder,
  overdueMs,
  step as stepLease,
} from "./lease-holder.ts";
export {
  bootHasLeft,
  digestMismatch,
  type LeaseRefusal,
  type LeaseRefusalCode,
  LeaseRefusedError,
  levelTooOld,
} from "./lease-refusal.ts";
export {
  type ChainView,
  type Confirmation,
  type DigestComparison,
  fenceAfterMs,
  type GrantedLessee,
  type LesseeStatus,
} from "./lessee-record.ts";
export { type ReceiptQuery, type ReceiptState, type RegionHeard, receiptFor } from "./receipt.ts";
export { isLastAnswer, progressOf, watchReceipt } from "./receipt-progress.ts";
export {
  type PassedLease,
  type RegionalCopy,
  RegionalGranter,
  type RegionalNodeStatus,
  type Tightened,
  type TightenedNode,
} from "./regional-granter.ts";
