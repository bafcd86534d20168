/** Entry point of audit: decision records, their sinks, and their explanation. */
export {
  type AccessAnswer,
  type AccessFact,
  type AccessPerson,
  type AccessState,
  describePerson,
  evaluateAccess,
  evaluateAnonymous,
  factsBehind,
  whoCan,
} from "./access-report.ts";
export { type AuditRecord, parseLine, toLine, withoutEnvelope } from "./audit-record.ts";
export {
  AuditPartlyRejectedError,
  AuditRejectedError,
  type AuditSink,
  AuditSinkBusyError,
  type SinkBatching,
} from "./audit-sink.ts";
export { type ActRecord, type CommandKind, recordCommands, typedActor } from "./command-record.ts";
export { formatCsvCell } from "./csv-cell.ts";
export { type Explained, type ExplainedEvent, type ExplainedFact, explainDecision } from "./explain.ts";
export { type LogAtTime, type LogReading, type LogTarget, LogUnreachableError, readLogAt } from "./log-at-time.ts";
export { createLogWalk, type LogWalk } from "./log-walk.ts";
export { type AuditStreamFollower, followAuditStream } from "./nats-audit-feed.ts";
export { readAuditStream, type StreamedRecord } from "./nats-audit-reader.ts";
export { auditStreamName, createNatsAuditSink, ensureAuditStream } from "./nats-audit-sink.ts";
export { inspectSpool, listSpoolFolders, type SpoolFolder, spoolFolderOf } from "./orphaned-spool-folder.ts";
export { AuditDatabaseError, createPostgresAuditSink, schemaScript } from "./postgres/index.ts";
export {
  addCheckpointBody,
  type BootReport,
  CannotProveError,
  type CheckedProof,
  type Checkpoint,
  type CheckReport,
  type ConsistencyProof,
  checkProof,
  cosignedAt,
  type EvidenceLine,
  formatEvidence,
  formatNoteKey,
  type InclusionProof,
  type KeptSeal,
  type NoteKey,
  type OpenedEvidence,
  openEvidence,
  originOf,
  parseCheckpoint,
  parseEvidence,
  parseNoteKey,
  parseSignatures,
  proveConsistency,
  proveInclusion,
  RecordCheck,
  type RecordFinding,
  type SealEvidence,
  SealIndex,
  sealLeaf,
  signCheckpoint,
  treeOver,
} from "./proof/index.ts";
export {
  createFeed,
  createNatsHistory,
  type Feed,
  type FeedEntry,
  formatCursor,
  isAfter,
  type Missed,
  matchesFilter,
  newestCursor,
  openPullStore,
  parseCursor,
  type ReaderSources,
  type RecordCursor,
  type RecordFilter,
  type RecordHistory,
  type RecordPage,
  RecordsUnreadableError,
  readRecords,
  recordsChanged,
  TooManyWatchersError,
} from "./pull/index.ts";
export { type DecisionEntry, hasRecordId, parseRecordId, recordIdOf } from "./record-id.ts";
export {
  createRecordVerifier,
  type RecordRefusal,
  type RecordSigner,
  type RecordVerifierCounts,
  recordRefusals,
} from "./record-proof.ts";
export { createRecorder, type Recorder, type RecorderStats } from "./recorder.ts";
export {
  type AnswerDifference,
  type CallerOf,
  callersNow,
  callersThen,
  createRecheck,
  type DerivedAnswer,
  type DifferentDecision,
  decideOtherwise,
  digestOf,
  isUnchangedSince,
  type PastConfiguration,
  type PastDecision,
  type PastFacts,
  type PastRoute,
  pastConfigurationOf,
  type ReadRecord,
  type Recheck,
  type RecheckCounts,
  type RecordedQuestion,
  type RecordReaderOf,
  type Rederivation,
  readStoredConfiguration,
  rederiveDecision,
  reviveRoute,
  type SkipReason,
  type StoredRoute,
  skipReasons,
  type UnknownCode,
  type WhatIf,
  type WhatIfDifference,
  type WhatIfExample,
  WhatIfReport,
  type WhatIfSummary,
  whyNot,
  withRoutePolicy,
} from "./rederive/index.ts";
export {
  AuditForkedError,
  eraseLine,
  recordLeafOf,
  type SealerStats,
  type SealPort,
  type SubmittedSeal,
} from "./seal/index.ts";
export type { SinkStats } from "./sink-delivery.ts";
export { createFileSink } from "./sinks/file-sink.ts";
export { createRecordFormatter, withFormat } from "./sinks/formatted-sink.ts";
export { createOtlpSink } from "./sinks/otlp-sink.ts";
export { connectS3 } from "./sinks/s3-connection.ts";
export { createS3Sink } from "./sinks/s3-sink.ts";
export { createWebhookSink } from "./sinks/webhook-sink.ts";
export {
  auditFiles,
  createFileSource,
  createPostgresSource,
  createS3Source,
  createSpoolSource,
  emptyCounts,
  erasingSuffix,
  type FindCounts,
  type FoundRecord,
  findRecords,
  nodeOfSpoolFolder,
  type ReadingProgress,
  type RecordSource,
  SeenNumbers,
  type StoredRecordQuery,
  spoolFolders,
} from "./sources/index.ts";
export {
  type AuditBatch,
  AuditNotDurableError,
  type Damage,
  gapSizes,
  type NotDurableReason,
  openSpoolFolder,
  type Sleep,
  type SpoolDisk,
  type SpoolFile,
} from "./spool/index.ts";
export {
  blindOf,
  createStatusBoard,
  type HeardStatus,
  type NodeAuditStatus,
  publishAuditStatus,
  receiveAuditStatus,
  type SinkStatus,
  type StatusBoard,
  signStatus,
  statusOf,
} from "./status/index.ts";
