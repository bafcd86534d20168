/** Entry point of replication: keeps copies of the log correct. Other packages import replication only from here. */

export type {
  BrokerPresence,
  ClusterStatus,
  Databroker,
  KeyedPage,
  LeaderStatus,
  NodeStatus,
  PageOutcome,
  Receipt,
  ReceiptNode,
  ReceiptOptions,
  ReceiptTarget,
  ReceiptWait,
  SnapshotPlace,
} from "./databroker.ts";
export { batchBytesMax, believeBatch, type OpenedBatch, openBatch, splitBatch } from "./fanout/batch.ts";
export { checkDeliveryTag, createDeliveryTag, deliveryTagKey } from "./fanout/delivery-tag.ts";
export type { DeliveryListener, Fanout, FanoutStatus } from "./fanout/fanout.ts";
export { createLocalFanout } from "./fanout/local-fanout.ts";
export { credentialsIn } from "./fanout/nats-credentials-file.ts";
export { overheadBytesOf } from "./fanout/nats-delivery.ts";
export { connectNatsFanout, InvalidClusterNameError, type NatsFanoutOptions } from "./fanout/nats-fanout.ts";
export { natsJetstream, natsTransport } from "./fanout/nats-modules.ts";
export {
  type ChainHistory,
  type EpochMark,
  emptyHistory,
  extendHistory,
  historyFrom,
  type LinkLocation,
  locateLink,
  sharesLink,
} from "./lease/chain-history.ts";
export {
  type GranterOptions,
  LeaseGranter,
  type LeaseMessageOutcome,
  type LimitedWindow,
  type RenewAnswer,
  type RenewOrigin,
  type RoleLimits,
  type WriteRound,
} from "./lease/lease-granter.ts";
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
} from "./lease/lease-holder.ts";
export {
  bootHasLeft,
  digestMismatch,
  type LeaseRefusal,
  LeaseRefusedError,
  levelTooOld,
} from "./lease/lease-refusal.ts";
export {
  type ChainView,
  type DigestComparison,
  fenceAfterMs,
  type GrantedLessee,
  type LesseeStatus,
} from "./lease/lessee-record.ts";
export { type ReceiptQuery, type ReceiptState, receiptFor } from "./lease/receipt.ts";
export { isLastAnswer, progressOf, watchReceipt } from "./lease/receipt-progress.ts";
export { type RegionalCopy, RegionalGranter, type RegionalNodeStatus } from "./lease/regional-granter.ts";
export { isLostHistory, lostHistory, windowMsMax } from "./log/continuity.ts";
export {
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type Durability,
  type EpochStart,
  type EventLog,
  type Lessee,
  LogDamagedError,
  type LogEntry,
  type LogPage,
  LogRefusedError,
  LogUnavailableError,
  type Observation,
  type OpenEpochOutcome,
  type OpenEpochRequest,
  type ReadOutcome,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
  type VaultEntry,
} from "./log/log.ts";
export {
  type HistoryPage,
  type HistoryRequest,
  historyDepthMax,
  historyStreamsMax,
  parseHistoryRequest,
  readHistory,
} from "./log/log-history.ts";
export { checkBatch, MalformedBatchError, pageBytesMax, pageEventsMax } from "./log/log-rules.ts";
export { createLogVerifier, type LogVerdict, type LogVerifier, verifyChain, verifyLog } from "./log/log-verify.ts";
export { createMemoryLog, type MemoryLogOptions } from "./log/memory-log.ts";
export type { LogSink } from "./log/postgres/connection.ts";
export { openPostgresLog, type PostgresLogOptions } from "./log/postgres/log.ts";
export {
  type PromoteOptions,
  type Promotion,
  PromotionFailedError,
  PromotionRefusedError,
  promotePostgresStandby,
} from "./log/postgres/promote.ts";
export { openSqliteLog, type SqliteLogOptions } from "./log/sqlite/log.ts";
export { DataFolderLockedError } from "./node/data-folder-lock.ts";
export type { DenialsOnDisk } from "./node/denials/persisted-denials.ts";
export { Reassertions } from "./node/denials/reassertions.ts";
export { Tightenings } from "./node/denials/tightenings.ts";
export {
  type Effect as FollowerEffect,
  type Follower,
  type Input as FollowerInput,
  newFollower,
  step as stepFollower,
} from "./node/follower.ts";
export type {
  Delivered,
  FanoutState,
  LeaseMessage,
  LoadedSnapshot,
  NodeEffect,
  NodeInput,
  NodeLeaseAnswer,
  ReadAnswer,
} from "./node/messages.ts";
export {
  NodeCore,
  type NodeCoreOptions,
  type NodeMetrics,
  newNodeCore,
  type Savepoint,
  step as stepNode,
} from "./node/node-core.ts";
export {
  type ReplicaMetrics,
  type ReplicaOptions,
  type ReplicaProcess,
  type ReplicaReadiness,
  type SnapshotSource,
  startReplica,
} from "./node/node-process.ts";
export { createPersonKeys, type PersonKeys } from "./node/person-keys.ts";
export { createNodeSnapshots, type NodeSnapshots } from "./node/snapshot-source-file.ts";
export { type RegionLag, regionLags } from "./region-lag.ts";
export type { Change, ChangeListener, Freshness, Replica } from "./replica.ts";
export { type Clock, momentOf } from "./runtime/clock.ts";
export { withoutJsonSchemas } from "./runtime/fastify-without-schemas.ts";
export { upTo } from "./runtime/jitter.ts";
export type { Logger } from "./runtime/logger.ts";
export { systemClock } from "./runtime/system-clock.ts";
export { createSystemLookup } from "./runtime/system-lookup.ts";
export {
  type Builder,
  type BuilderEffect,
  type BuilderInput,
  type ChunkRef,
  newBuilder,
  projectorVersion,
  SnapshotCancelledError,
  stepBuilder,
} from "./snapshot/builder.ts";
export { loadSnapshot } from "./snapshot/load-snapshot.ts";
export {
  hashOfChunk,
  openManifest,
  type SignedManifest,
  type SnapshotManifest,
  SnapshotRefusedError,
  sameContent,
  sealManifest,
} from "./snapshot/manifest.ts";
export {
  SnapshotCorruptError,
  SnapshotFolder,
  type SnapshotList,
  SnapshotNotSavedError,
} from "./snapshot/snapshot-folder.ts";
export { allKeys, fetchSnapshot, keysPage, type SnapshotSupply, supplyFrom } from "./snapshot/snapshot-supply.ts";
export {
  AnswerNotBelievedError,
  type BrokerClient,
  type BrokerClientOptions,
  BrokerRefusedError,
  createBrokerClient,
  headerIn,
  InsecureBrokerUrlError,
} from "./wire/broker-client.ts";
export {
  believeGrant,
  believeGrantByAge,
  createBrokerOpener,
  type EnvelopeOpener,
  openGrant,
  type Refusal,
  type RefusedEnvelope,
} from "./wire/broker-opener.ts";
export { BrokerUnavailableError } from "./wire/broker-unavailable-error.ts";
export { parseClusterStatus, parseCommandResult, parseReceipt, parseSnapshotAsked } from "./wire/broker-wire.ts";
export {
  deriveKey,
  enrolmentRoot,
  personKeyWrap,
  type Role,
  rawPublicKey,
  type SigningPair,
  serviceTokenKey,
  signingPairFromSeed,
  vaultKey,
} from "./wire/cluster-keys.ts";
export {
  type Certificate,
  createEnvelopeOpener,
  enrolKey,
  type MessageKind,
  type Opened,
  type RefusedMessage,
  type Signer,
  sealEnvelope,
} from "./wire/envelope.ts";
export {
  formatLeaseRefusal,
  type LeaseRefusalBody,
  parseLeaseRefusal,
} from "./wire/lease-refusal-body.ts";
export {
  type Batch,
  type Confirm,
  encodeMessage,
  type Goodbye,
  type Grant,
  MalformedMessageError,
  parseBatch,
  parseConfirm,
  parseGoodbye,
  parseGrant,
  parseRenew,
  parseWrappedKey,
  type Renew,
} from "./wire/messages.ts";
export {
  bootIdOf,
  commitsToKey,
  mayUseBoot,
  type NodeIdentity,
  type NodeKey,
  type NodeRole,
  nodeKeyFrom,
  provesReplacement,
  signReplacement,
} from "./wire/node-key.ts";
export {
  type CheckedReceipt,
  checkReceipt,
  createReceiptSigner,
  parseReceiptKeys,
  type ReceiptKeys,
  type ReceiptRefusal,
  receiptKeys,
  receiptKeysPath,
  type SignReceipt,
  statementIn,
} from "./wire/receipt-jws.ts";
export {
  changesIn,
  contradictionIn,
  digestOfIds,
  durabilityWords,
  promiseOf,
  type ReceiptStatement,
  type RecordedChange,
  type StatedChange,
  type StatedNode,
  stateReceipt,
} from "./wire/receipt-statement.ts";
export {
  bodyDigest,
  callText,
  type ServiceCall,
  type SignedCall,
  serviceTokenSeconds,
  signCall,
} from "./wire/service-call.ts";
export {
  type AnswerRefusal,
  answererOf,
  answerHeader,
  type GivenAnswer,
  mustBeSealed,
  refuseAnswer,
  sealAnswer,
} from "./wire/signed-answer.ts";
