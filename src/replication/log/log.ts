/**
 * EventLog: the contract of the one totally ordered log. The memory, SQLite and Postgres logs all satisfy it
 * (test/contract).
 *
 * What always holds:
 *   - positions are dense and in commit order: position n+1 exists only after n is committed;
 *   - one writer at a time, fenced by data: every append and beat names its epoch and incarnation, and is refused when
 *     the head row holds others;
 *   - no reader ever reads above the durable horizon (the last clean commit of the current epoch);
 *   - only a clean commit is reported as success.
 *
 * A log stores and compares; it never decides. The writer (src/broker) knows the head, encodes the events at their
 * positions and chains the hashes. The log refuses a batch that does not directly follow its head.
 */
import {
  type BootId,
  type BrokerId,
  CodedError,
  type CommandId,
  type ConfigHash,
  type ConfigurationEntry,
  type Epoch,
  type Fact,
  type Incarnation,
  type Link,
  type NodeId,
  type Position,
  type Recorded,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  type UnixMs,
  type UserId,
  type WrappedKey,
} from "../../events/index.ts";

/** An event with its position and its bytes, exactly as they are hashed, stored and sent. */
export type LogEntry = Readonly<{ recorded: Recorded; bytes: Uint8Array }>;

/** The sealed identity-provider tokens of one session, written in the transaction of the event. */
export type VaultEntry = Readonly<{ sessionId: SessionId; version: number; sealed: Uint8Array }>;

export type AppendBatch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The head that the writer assumes. */
  previous: Link;
  /** At least one; consecutive after `previous`. */
  entries: readonly LogEntry[];
  last: Link;
  /** The entries of each command, for idempotency. */
  commands: readonly Readonly<{ commandId: CommandId; first: Position; count: number }>[];
  /** Each distinct stream once: `expected` is its version before the batch, `next` its version after. */
  streams: readonly Readonly<{ stream: Stream; expected: number; next: number }>[];
  /** Keys of people who first appear in this batch. An existing key is kept. */
  newKeys: readonly WrappedKey[];
  /** People whose keys are destroyed with this batch. */
  erasedKeys: readonly UserId[];
  vault: readonly VaultEntry[];
  /** Sessions whose vault entries are removed. */
  vaultRemoved: readonly SessionId[];
  /**
   * Bodies of configurations that this batch activates. The first body with a given hash is kept. At most
   * `configBodiesMax` bodies are kept; beyond that, the batch is written without its body.
   */
  configurations: readonly StoredConfiguration[];
  /** Removed from the admitted nodes, by an event of this batch. Absent: none. */
  retired?: readonly NodeName[];
}>;

/** docs/protocol.md §3.2: the outcome table. */
export type AppendOutcome =
  | Fact<"appended", { last: Link }>
  /** The head row holds another epoch or incarnation: step down. */
  | Fact<"fenced", { epoch: Epoch }>
  /** The writer has a wrong head (an indeterminate commit did commit, or a bug): step down and reopen the epoch. */
  | Fact<"head-moved", { head: Link }>
  /** A completed command was sent again; nothing of this batch was written. */
  | Fact<"duplicate-command", { commandId: CommandId; first: Position; count: number }>
  /** The writer's versions are stale; nothing was written. */
  | Fact<"version-conflict", { streams: readonly Readonly<{ stream: Stream; actual: number }>[] }>
  /** May be committed, visible or lost: never success. The connection is closed; open the epoch again. */
  | Fact<"indeterminate", { cause: unknown }>
  /** Certainly not written: the store was unreachable, or refused before anything was sent. */
  | Fact<"unavailable", { cause: unknown }>;

/** A (node, boot) that may hold a lease, with the time that it may decide after its last grant. */
export type Lessee = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: "proxy" | "authorize" | "broker";
  windowMs: number;
}>;

/**
 * A node or regional broker that was granted a lease, whatever its boot, and has since neither said goodbye nor been
 * retired (docs/adr/0040). It shows operators which nodes are absent. Only `Lessee` says which boots may decide.
 */
export type AdmittedNode = Readonly<{
  node: NodeId;
  role: Lessee["role"];
  region: string;
  /** Its newest boot. */
  boot: BootId;
  /** When the leader heard from it last, by the leader's wall clock. The row may be older by a minute. */
  heardAt: UnixMs;
  /** The position that it had applied by then. */
  applied: Position;
}>;

/** One admitted node: processes of two roles may share a name. */
export type NodeName = Pick<AdmittedNode, "node" | "role">;

export type BeatRequest = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The writer's own head. A beat never moves it; a clean beat proves it durable. */
  head: Link;
  /** Written before the first grant of each (node, boot, window). */
  lessees: readonly Lessee[];
  left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
  /** Removed from the admitted nodes. Absent: none. */
  departed?: readonly NodeName[];
  /** Written after `departed` is removed; a row replaces the one before it. Absent: none. */
  admitted?: readonly AdmittedNode[];
}>;
export type BeatOutcome =
  | Fact<"beaten", { head: Link }>
  | Fact<"fenced", { epoch: Epoch }>
  | Fact<"head-moved", { head: Link }>
  | Fact<"indeterminate", { cause: unknown }>
  | Fact<"unavailable", { cause: unknown }>;

export type OpenEpochRequest = Readonly<{
  brokerId: BrokerId;
  incarnation: Incarnation;
  /** The URL at which other brokers reach this one; null in a single process. */
  brokerUrl: string | null;
  /** Opens only if the head row still holds this epoch. 0: never opened. */
  expected: Epoch;
  /** The new epoch is `max(expected, atLeast - 1) + 1`: it skips an epoch named by an authenticated message. */
  atLeast: Epoch;
  /**
   * The newest epoch that this process led, if the process still knows every boot that it granted a lease to; null:
   * none.
   */
  led: Incarnation | null;
  /**
   * The longest window, in ms, that any broker grants to a node of another process. 0: no such node is granted a lease.
   * The store records it, and applies the longest recorded window to a history that may be lost.
   */
  windowMaxMs: number;
  /**
   * Creates the first event of the epoch, EpochOpened, at its position. Pure; called inside the transaction, and again
   * if the head moves meanwhile. `streamVersion` is the version of the event in its stream, `cluster:log`.
   */
  firstEvent: (at: Readonly<{ epoch: Epoch; previous: Link; streamVersion: number }>) => LogEntry;
}>;
export type OpenEpochOutcome =
  /**
   * `head` is the EpochOpened event itself; everything at or below it is durable.
   * `beatsLost`: why beats of an earlier epoch, and with them lessees, may be missing; a row in `lessees` then
   * represents them (continuity.ts). Null: none is missing. Nodes in `admitted` may be missing as well.
   */
  | Fact<
      "opened",
      {
        epoch: Epoch;
        head: Link;
        entry: LogEntry;
        lessees: readonly Lessee[];
        admitted: readonly AdmittedNode[];
        beatsLost: string | null;
      }
    >
  /** Another process opened an epoch first. */
  | Fact<"overtaken", { epoch: Epoch }>
  | Fact<"indeterminate", { cause: unknown }>
  | Fact<"unavailable", { cause: unknown }>;

/** The content of the head row. Proves nothing by itself: the server may be an old primary. */
export type Observation = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation | null;
  brokerId: BrokerId | null;
  brokerUrl: string | null;
  /** Grows with every append and beat. A leader whose count no longer grows is gone. */
  beat: number;
  /** The durable head. */
  head: Link;
}>;

/**
 * Consecutive events at or below the durable horizon. Empty `entries`: the reader is at the head, or ahead of what this
 * log knows to be durable (`head.position < last.position`). In the second case nothing may be concluded.
 */
export type LogPage = Readonly<{ previous: Link; entries: readonly Uint8Array[]; last: Link; head: Link }>;

export type ReadOutcome =
  | Fact<"page", { page: LogPage }>
  /** The reader's link is not in this log. */
  | Fact<"forked", { head: Link }>
  /** Retention has dropped the events after the position of the reader. */
  | Fact<"truncated", { first: Position }>;

export type EpochStart = Readonly<{ epoch: Epoch; incarnation: Incarnation; start: Position }>;

export type RetainRequest = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The oldest event that must stay. A position beyond the durable head means the head. */
  first: Position;
  /**
   * The link of the snapshot that replaces the dropped events, checked in the same transaction. Absent: no snapshot is
   * required.
   */
  holding?: Link;
}>;
export type RetainOutcome =
  /**
   * The log now begins after `base`. A store drops in units of its own (whole partitions, a bounded number of rows), so
   * it may drop less than requested, never more.
   * `more`: an immediate second call would drop more.
   */
  | Fact<"retained", { base: Link; more: boolean }>
  /** The chain of this log does not contain `holding`: nothing was dropped. */
  | Fact<"not-held", unknown>
  | Fact<"fenced", { epoch: Epoch }>
  | Fact<"indeterminate", { cause: unknown }>
  | Fact<"unavailable", { cause: unknown }>;

/**
 * One step of refilling an empty log from a snapshot and the events after it. No broker can write to such a log until
 * an epoch is opened over it. An interrupted restore can only be restarted in another empty store.
 */
export type RestoreStep =
  /** The log will begin after `base`; `epochs` had been opened by then. */
  | Fact<"begin", { base: Link; epochs: readonly EpochStart[] }>
  /** Consecutive after the events restored so far. */
  | Fact<"events", { entries: readonly LogEntry[] }>
  | Fact<"keys", { keys: readonly WrappedKey[] }>
  | Fact<"configurations", { configurations: readonly StoredConfiguration[] }>;

/**
 * The failure that it takes to lose an event:
 *   - `synchronous`: loss of the primary and of as many synchronous standbys as commits wait for; each holds the event
 *     on disk;
 *   - `asynchronous`: loss of the primary alone, as far as is known. Commits wait for no standby, or none is shown to
 *     hold the event;
 *   - `local`: loss of the disk of this machine, which is flushed before the answer;
 *   - `volatile`: the end of the process.
 */
export type Durability = "synchronous" | "asynchronous" | "local" | "volatile";

export type EventLog = {
  readonly kind: "memory" | "file" | "postgres";
  /** True when the store itself guarantees that no other process can write. No beat is needed then. */
  readonly exclusive: boolean;
  /**
   * For operators: whether the newest write had to wait for standbys, by the settings of the server. Undefined:
   * unknown, or there are no standbys.
   */
  readonly waitsForStandbys?: boolean | undefined;

  observe(): Promise<Observation>;
  /**
   * Reports an epoch that an authenticated sender named. A server that shows an older epoch may be an old primary and
   * is no longer tried first. An opening of a lower epoch is abandoned with an unknown outcome.
   */
  heardOf?(epoch: Epoch): void;
  openEpoch(request: OpenEpochRequest): Promise<OpenEpochOutcome>;
  append(batch: AppendBatch): Promise<AppendOutcome>;
  /**
   * Prepares a batch that may be appended next: does the slow work now, if the log has any. Sends nothing and never
   * fails; `append` refuses a malformed batch.
   */
  layOut?(batch: AppendBatch): void;
  beat(request: BeatRequest): Promise<BeatOutcome>;

  /** @param limit at most this many events, and at most about 1 MB @throws LogUnavailableError, LogDamagedError */
  read(after: Link, limit: number): Promise<ReadOutcome>;
  /** The link before the oldest kept event; the genesis while the log is whole. */
  base(): Promise<Link>;
  /** Permanently drops the events below a position, but never the link that directly precedes the kept events. */
  retain(request: RetainRequest): Promise<RetainOutcome>;
  /**
   * @returns the head of the restored log
   * @throws LogRefusedError when the log is not empty, or not being restored; MalformedBatchError when the events do
   * not follow
   */
  restore(step: RestoreStep): Promise<Link>;
  /**
   * The link at a position at or below the durable horizon. Undefined: above the horizon, or dropped by retention
   * (`base` itself is kept).
   */
  linkAt(position: Position): Promise<Link | undefined>;
  /** Oldest first; every epoch ever opened. */
  epochs(): Promise<readonly EpochStart[]>;
  /**
   * The durability of the event at a link, from evidence gathered for this call. Never reports `synchronous` from
   * memory or from a setting. Takes at most 1.5 s and does not fail: without evidence the result is `asynchronous`.
   */
  durabilityOf(link: Link): Promise<Durability>;
  findCommand(commandId: CommandId): Promise<Readonly<{ first: Position; count: number }> | undefined>;
  /** Versions of the streams that exist. A stream that is absent from the map has version 0. */
  streamVersions(streams: readonly Stream[]): Promise<ReadonlyMap<Stream, number>>;
  lessees(): Promise<readonly Lessee[]>;
  admittedNodes(): Promise<readonly AdmittedNode[]>;
  /** Wrapped keys of these people; erased and unknown people are omitted. */
  keys(users: readonly UserId[]): Promise<readonly WrappedKey[]>;
  /**
   * Wrapped keys ordered by user id, after `user`; null: from the first. Fewer than `limit`: this page is the last.
   */
  keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]>;
  /**
   * Replaces the wrappings of existing keys. A key that is gone, or is a different key, stays as it is.
   * @returns how many were replaced
   */
  rewrapKeys(keys: readonly WrappedKey[]): Promise<number>;
  vault(sessionId: SessionId): Promise<VaultEntry | undefined>;
  /** Undefined: no body with this hash is kept. Retention of events never drops one. */
  configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined>;
  /** All kept bodies, oldest first; at most `configBodiesMax`. */
  configurations(): Promise<readonly ConfigurationEntry[]>;
  /** Deletes expired command ids, by the clock of the store; each id is kept at least 24 h. */
  sweepCommands(): Promise<number>;
  close(): Promise<void>;
};

/** The store did not answer, or reported that it cannot serve (read-only, stale, foreign). Reads are safe to retry. */
export class LogUnavailableError extends CodedError<"ERR_REPLICATION_LOG_UNAVAILABLE"> {
  override readonly code = "ERR_REPLICATION_LOG_UNAVAILABLE";
}

/**
 * An event is missing or changed: its bytes do not match the stored hash. No reader gets this event or a later one.
 */
export class LogDamagedError extends CodedError<"ERR_REPLICATION_LOG_DAMAGED"> {
  override readonly code = "ERR_REPLICATION_LOG_DAMAGED";
  /** The last intact link. */
  readonly after: Link;
  constructor(store: string, after: Link, how: "missing" | "changed") {
    const what = how === "missing" ? "the event there is missing" : "the event there is not the one that was written";
    super(
      `${store} is damaged at position ${after.position + 1}: ${what}. No event from there on is read; replace the store with ` +
        "a backup or a restored snapshot (docs/backup.md)",
    );
    this.after = after;
  }
}

/** The store holds data that this build must not touch: a newer schema, or the log of another cluster. */
export class LogRefusedError extends CodedError<"ERR_REPLICATION_LOG_REFUSED"> {
  override readonly code = "ERR_REPLICATION_LOG_REFUSED";
}
