/** Entry point of the event log: its contract, its rules, and the stores (memory, SQLite, Postgres). */

export { isLostHistory, lostHistory, windowMsMax } from "./continuity.ts";
export {
  type AdmittedNode,
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
  type NodeName,
  type Observation,
  type OpenEpochOutcome,
  type OpenEpochRequest,
  type ReadOutcome,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
  type VaultEntry,
} from "./log.ts";
export {
  type HistoryPage,
  type HistoryRequest,
  historyDepthMax,
  historyStreamsMax,
  parseHistoryRequest,
  readHistory,
} from "./log-history.ts";
export { checkBatch, MalformedBatchError, pageBytesMax, pageEventsMax } from "./log-rules.ts";
export { createLogVerifier, type LogVerdict, type LogVerifier, verifyChain, verifyLog } from "./log-verify.ts";
export { createMemoryLog, type MemoryLogOptions } from "./memory-log.ts";
export type { LogSink } from "./postgres/connection.ts";
export { postgresDriver } from "./postgres/driver.ts";
export { HostOrder, type PostgresHost, parsePostgresHosts } from "./postgres/hosts.ts";
export { openPostgresLog, type PostgresLogOptions } from "./postgres/log.ts";
export { type LogReader, openPostgresReader } from "./postgres/log-reader.ts";
export { type MovedHome, type MoveHomeOptions, movePostgresHome } from "./postgres/move-home.ts";
export { type MovePlan, type MoveStep, type MoveView, refusesMeanwhile } from "./postgres/move-plan.ts";
export type { NewestHead, Rival, SeenHeads, ServerHead, UnreadServer } from "./postgres/newest-head.ts";
export {
  type PromoteOptions,
  type Promotion,
  PromotionRefusedError,
  promotePostgresStandby,
} from "./postgres/promote.ts";
export { PromotionFailedError } from "./postgres/promotion-servers.ts";
export { readServerHeads, type ServerHeadsOptions, ServerHeadsReader } from "./postgres/server-heads.ts";
export { openSqliteLog, type SqliteLogOptions } from "./sqlite/log.ts";
