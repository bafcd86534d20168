/**
 * Postgres facts: what the Postgres model reports (PG). `process` is the server, `writer` the process that asked.
 * facts.ts has the other facts. Only types.
 */
import type {
  BootId,
  BrokerId,
  CommandId,
  Epoch,
  Incarnation,
  Link,
  NodeId,
  Position,
} from "../../src/events/index.ts";
import type { Lessee, LogEntry } from "../../src/replication/log/index.ts";
import type { FactOf, ProcessName } from "./facts.ts";

/** Number of a transaction, unique in a run. A request that is sent twice makes two transactions. */
export type Txn = number;

/**
 * PG: the commit record of a transaction is in this server's own WAL. Its position in the server's log is now fixed.
 * The commit may not be visible or replicated, and may never be acknowledged. Reported at that moment, in WAL order.
 */
export type Wrote = FactOf<
  "wrote",
  {
    txn: Txn;
    op: "append" | "beat" | "open-epoch";
    writer: ProcessName;
    epoch: Epoch;
    incarnation: Incarnation;
    /** Head of the server's own log before the transaction. */
    previous: Link;
    /** Empty for a beat. */
    entries: readonly LogEntry[];
    /** Head after the transaction; equal to `previous` for a beat. */
    head: Link;
    commands: readonly Readonly<{ commandId: CommandId; first: Position; count: number }>[];
    /** Empty except for a beat. */
    lessees: readonly Lessee[];
    left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
    /** The broker that the head row names after `open-epoch`; null for other operations. */
    brokerId: BrokerId | null;
  }
>;
/**
 * PG: the wait of a transaction ended normally: the quorum has flushed it, or there are no synchronous standbys. The
 * server is about to answer success without a warning. From here on `head` counts as acknowledged, even if no process
 * receives the answer.
 */
export type CommittedCleanly = FactOf<"committed-cleanly", { txn: Txn; epoch: Epoch; head: Link }>;
/**
 * PG: the answer to the caller, reported when the server sends it. `op` and `outcome` use the terms of
 * src/replication/log/log.ts.
 */
export type LogAnswered = FactOf<
  "log-answered",
  {
    /** Null: no transaction was started. */
    txn: Txn | null;
    to: ProcessName;
    op: "append" | "beat" | "open-epoch" | "read" | "observe" | "other";
    outcome: string;
  }
>;
/**
 * PG: this server accepts writes from now on, and its log ends at `head`.
 *   initial     the first primary of the run
 *   procedure   promoted by docs/protocol.md §4.4 with synchronous standbys: no acknowledged event may be missing
 *   unsafe      promoted without proof (asynchronous, or forced): acknowledged events may be lost
 *   restored    started from a backup
 *   restarted   the same server after a crash: unreplicated commits may have become visible
 */
export type Promoted = FactOf<
  "promoted",
  {
    how: "initial" | "procedure" | "unsafe" | "restored" | "restarted";
    head: Link;
    /** Number of standbys that a commit waits for. Absent: unchanged. */
    standbys?: number;
    /**
     * Number of standbys that had stopped receiving, of all standbys, when the furthest one was chosen. Absent: none
     * was compared.
     */
    stopped?: Readonly<{ count: number; of: number }>;
  }
>;
/**
 * PG: the server no longer accepts writes (stopped, demoted, rewound). An isolated old primary has not reported this.
 */
export type Demoted = FactOf<"demoted", unknown>;
/** PG: from now on commits wait for this many standbys. 0: asynchronous. */
export type SynchronousSet = FactOf<
  "synchronous-set",
  {
    standbys: number;
    /** Number of waiting commits that are now answered as if their standbys had flushed them. Absent: 0. */
    released?: number;
  }
>;
/**
 * PG: `synchronous_standby_names` in the file names this many standbys, and sessions read it. Commits still wait by
 * `synchronous-set`.
 */
export type NamesSet = FactOf<"names-set", { standbys: number }>;
/** PG: the log that this standby has flushed ends at `head`: received from the primary, or replaced by a copy. */
export type StandbyFlushed = FactOf<"standby-flushed", { head: Link }>;
/**
 * PG: this server has dropped all positions below `first`, at the request of `writer`. Reported by every server on
 * replay, or by the primary alone.
 */
export type Truncated = FactOf<"truncated", { first: Position; writer: ProcessName }>;
