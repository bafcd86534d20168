/**
 * EventLog: the contract of the one totally ordered log. Memory, SQLite and Postgres keep it alike (test/contract).
 *
 * What always holds:
 *   - positions are dense and in commit order: position n+1 exists only after n is committed;
 *   - one writer at a time, fenced by data: every append and beat names its epoch and incarnation and is refused when
 *     the head row holds others;
 *   - nothing above the durable horizon (the last clean commit of the current epoch) is ever read by anybody;
 *   - an answer that is not a clean commit is never reported as success.
 *
 * A log stores and compares; it never decides. The writer (src/broker) knows the head, encodes the events at their
 * positions and chains the hashes; the log refuses a batch that does not stand right behind its own head.
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
  type UserId,
  type WrappedKey,
} from "../../events/index.ts";

/** An event at its place with its bytes, exactly as they are hashed, stored and sent. */
export type LogEntry = Readonly<{ recorded: Recorded; bytes: Uint8Array }>;

/** An identity provider's tokens of one session, sealed; written in the event's transaction. */
export type VaultEntry = Readonly<{ sessionId: SessionId; version: number; sealed: Uint8Array }>;

export type AppendBatch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The head the writer believes in. */
  previous: Link;
  /** At least one; consecutive behind `previous`. */
  entries: readonly LogEntry[];
  last: Link;
  /** Which entries each command made, for idempotency. */
  commands: readonly Readonly<{ commandId: CommandId; first: Position; count: number }>[];
  /** Each distinct stream once: the version it must have before, and has after. */
  streams: readonly Readonly<{ stream: Stream; expected: number; next: number }>[];
  /** Keys of people first met in this batch. A key that exists already stays. */
  newKeys: readonly WrappedKey[];
  /** People whose keys are destroyed with this batch. */
  erasedKeys: readonly UserId[];
  vault: readonly VaultEntry[];
  /** Vault entries that go with their sessions. */
  vaultRemoved: readonly SessionId[];
  /**
   * Bodies of configurations whose activation is in this batch. The first of a hash stays; behind `configBodiesMax` of
   * them no other is kept, and the batch is written without it.
   */
  configurations: readonly StoredConfiguration[];
}>;

/** docs/protocol.md §3.2: the outcome table. */
export type AppendOutcome =
  | Fact<"appended", { last: Link }>
  /** Another epoch or incarnation is in the head row: step down. */
  | Fact<"fenced", { epoch: Epoch }>
  /** Our head is wrong (an indeterminate commit did commit, or a bug): step down and open the epoch again. */
  | Fact<"head-moved", { head: Link }>
  /** A finished command was sent again; nothing of this batch was written. */
  | Fact<"duplicate-command", { commandId: CommandId; first: Position; count: number }>
  /** The writer's versions are stale; nothing was written. */
  | Fact<"version-conflict", { streams: readonly Readonly<{ stream: Stream; actual: number }>[] }>
  /** May be committed, may be visible, may be lost: never success. The connection is gone; open the epoch again. */
  | Fact<"indeterminate", { cause: unknown }>
  /** Surely not written: the store could not be reached or refused before anything was sent. */
  | Fact<"unavailable", { cause: unknown }>;

/** A (node, boot) that may hold a lease, and for how long it may decide after its last grant. */
export type Lessee = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: "proxy" | "authorize" | "broker";
  windowMs: number;
}>;

export type BeatRequest = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The writer's own head: a beat never moves it, a clean beat proves it durable. */
  head: Link;
  /** Written before the first grant of each (node, boot, window). */
  lessees: readonly Lessee[];
  left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
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
  /** Where other brokers reach this one; null in a single process. */
  brokerUrl: string | null;
  /** Opens only if the head row still holds this epoch (0: never opened). */
  expected: Epoch;
  /** The new epoch is `max(expected, atLeast - 1) + 1`: an epoch met in an authenticated message is stepped over. */
  atLeast: Epoch;
  /**
   * The newest epoch that this very process led, if it still knows every boot that it granted a lease to; null: none.
   */
  led: Incarnation | null;
  /**
   * The longest window in ms that any broker grants to a node of another process. 0: no such node is granted a lease.
   * The store remembers it, and holds the longest that it remembers for a history that may be lost.
   */
  windowMaxMs: number;
  /**
   * Makes the epoch's first event, EpochOpened, at its place. Pure; called inside the transaction, more than once
   * where the head moves meanwhile. `streamVersion` is the version the event takes in its stream, `cluster:log`.
   */
  firstEvent: (at: Readonly<{ epoch: Epoch; previous: Link; streamVersion: number }>) => LogEntry;
}>;
export type OpenEpochOutcome =
  /**
   * `head` is the EpochOpened event itself; everything at or below it is durable. `beatsLost`: why beats of an earlier
   * epoch may be missing, and lessees with them; a row in `lessees` stands for those (continuity.ts). Null: none is
   * missing.
   */
  | Fact<"opened", { epoch: Epoch; head: Link; entry: LogEntry; lessees: readonly Lessee[]; beatsLost: string | null }>
  /** Somebody else opened one first. */
  | Fact<"overtaken", { epoch: Epoch }>
  | Fact<"indeterminate", { cause: unknown }>
  | Fact<"unavailable", { cause: unknown }>;

/** What the head row says. Proves nothing by itself: the server may be an old primary. */
export type Observation = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation | null;
  brokerId: BrokerId | null;
  brokerUrl: string | null;
  /** Grows with every append and beat: a leader whose count stands still is gone. */
  beat: number;
  /** The durable head. */
  head: Link;
}>;

/**
 * Consecutive events, at or below the durable horizon. Empty `entries` means the reader is at the head, or ahead of
 * what this log knows to be durable (`head.position < last.position`): then nothing may be concluded.
 */
export type LogPage = Readonly<{ previous: Link; entries: readonly Uint8Array[]; last: Link; head: Link }>;

export type ReadOutcome =
  | Fact<"page", { page: LogPage }>
  /** The reader's link is not in this log. */
  | Fact<"forked", { head: Link }>
  /** The reader's place is behind retention. */
  | Fact<"truncated", { first: Position }>;

export type EpochStart = Readonly<{ epoch: Epoch; incarnation: Incarnation; start: Position }>;

export type RetainRequest = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** The oldest event that must stay. Beyond the durable head it means the head. */
  first: Position;
  /**
   * The place of what stands for the events that go, a snapshot: looked for in the same transaction. Absent: nothing
   * has to.
   */
  holding?: Link;
}>;
export type RetainOutcome =
  /**
   * The log now begins behind `base`. A store drops in pieces of its own (whole partitions, a bounded number of rows),
   * so less may be gone than was asked for, never more. `more`: asking again at once would drop more.
   */
  | Fact<"retained", { base: Link; more: boolean }>
  /** This log does not go through `holding`: nothing was dropped. */
  | Fact<"not-held", unknown>
  | Fact<"fenced", { epoch: Epoch }>
  | Fact<"indeterminate", { cause: unknown }>
  | Fact<"unavailable", { cause: unknown }>;

/**
 * Refilling an empty log from a snapshot and the events behind it. Until an epoch is opened over it nobody can write to
 * such a log, and a restore that was broken off can only be begun again in another empty store.
 */
export type RestoreStep =
  /** The log is to begin behind `base`, where `epochs` had been opened. */
  | Fact<"begin", { base: Link; epochs: readonly EpochStart[] }>
  /** Consecutive behind what was restored so far. */
  | Fact<"events", { entries: readonly LogEntry[] }>
  | Fact<"keys", { keys: readonly WrappedKey[] }>
  | Fact<"configurations", { configurations: readonly StoredConfiguration[] }>;

/**
 * What it takes to lose an event:
 *   - `synchronous`: the primary and as many of its synchronous standbys as commits wait for; each holds it on disk;
 *   - `asynchronous`: the primary alone, as far as is known. No standby is waited for, or none is shown to hold it;
 *   - `local`: the disk of this machine, flushed before the answer;
 *   - `volatile`: the end of the process.
 */
export type Durability = "synchronous" | "asynchronous" | "local" | "volatile";

export type EventLog = {
  readonly kind: "memory" | "file" | "postgres";
  /** True when the store itself guarantees that no other process can write: no beat is needed then. */
  readonly exclusive: boolean;
  /**
   * For operators: whether the newest write was to wait for standbys, by the server's settings. Undefined: not known,
   * or none exist.
   */
  readonly waitsForStandbys?: boolean | undefined;

  observe(): Promise<Observation>;
  /**
   * An authenticated sender spoke of this epoch: a server that shows an older one may be an old primary, and is not
   * asked first any more; an epoch that is being opened below it is given up, with an outcome that nobody knows.
   */
  heardOf?(epoch: Epoch): void;
  openEpoch(request: OpenEpochRequest): Promise<OpenEpochOutcome>;
  append(batch: AppendBatch): Promise<AppendOutcome>;
  /**
   * This very batch may be appended next: what takes time about it is done now, where there is such a thing. Nothing is
   * sent, and it never fails: a batch that is not whole is refused by `append`.
   */
  layOut?(batch: AppendBatch): void;
  beat(request: BeatRequest): Promise<BeatOutcome>;

  /** @param limit at most this many events, and at most about 1 MB @throws LogUnavailableError, LogDamagedError */
  read(after: Link, limit: number): Promise<ReadOutcome>;
  /** The link that the oldest kept event stands behind; the genesis while the log is whole. */
  base(): Promise<Link>;
  /** Drops the events below a position, for good, and never the link behind which the kept ones stand. */
  retain(request: RetainRequest): Promise<RetainOutcome>;
  /**
   * @returns the head of what is restored
   * @throws LogRefusedError when the log is not empty, or not being restored; MalformedBatchError when the events do
   * not follow
   */
  restore(step: RestoreStep): Promise<Link>;
  /**
   * The link at a position at or below the durable horizon; undefined above it or behind retention (`base` itself is
   * kept).
   */
  linkAt(position: Position): Promise<Link | undefined>;
  /** Oldest first; every epoch ever opened. */
  epochs(): Promise<readonly EpochStart[]>;
  /**
   * What it takes to lose the event at a link, by evidence that is gathered for this call. `synchronous` is never said
   * from memory or from a setting. Takes 1.5 s at most and does not fail: what cannot be shown is `asynchronous`.
   */
  durabilityOf(link: Link): Promise<Durability>;
  findCommand(commandId: CommandId): Promise<Readonly<{ first: Position; count: number }> | undefined>;
  /** Versions of the streams that exist; the others are 0. */
  streamVersions(streams: readonly Stream[]): Promise<ReadonlyMap<Stream, number>>;
  lessees(): Promise<readonly Lessee[]>;
  /** Wrapped keys of these people; erased or unknown people are left out. */
  keys(users: readonly UserId[]): Promise<readonly WrappedKey[]>;
  /**
   * All wrapped keys in the order of their user ids, from behind one on; null: from the first. Fewer than `limit`: the
   * last.
   */
  keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]>;
  /**
   * Puts other wrappings of the same keys in the place of those that are there. A key that is gone, or is another one,
   * stays as it is.
   * @returns how many were replaced
   */
  rewrapKeys(keys: readonly WrappedKey[]): Promise<number>;
  vault(sessionId: SessionId): Promise<VaultEntry | undefined>;
  /** Undefined: no body of this hash is kept. Retention of events never drops one. */
  configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined>;
  /** All that are kept, oldest first: `configBodiesMax` at most. */
  configurations(): Promise<readonly ConfigurationEntry[]>;
  /** Forgets command ids older than this (Unix ms by the store's clock); they are kept at least 24 h. */
  sweepCommands(): Promise<number>;
  close(): Promise<void>;
};

/** The store did not answer, or answered that it cannot serve (read-only, stale, foreign). Safe to retry reads. */
export class LogUnavailableError extends CodedError<"ERR_REPLICATION_LOG_UNAVAILABLE"> {
  override readonly code = "ERR_REPLICATION_LOG_UNAVAILABLE";
}

/**
 * An event is missing, or is not the one that was written: its bytes do not have the hash that stands beside them.
 * Nothing at or behind its position is read by anybody.
 */
export class LogDamagedError extends CodedError<"ERR_REPLICATION_LOG_DAMAGED"> {
  override readonly code = "ERR_REPLICATION_LOG_DAMAGED";
  /** The last link that still holds. */
  readonly after: Link;
  constructor(store: string, after: Link, how: "missing" | "changed") {
    const what = how === "missing" ? "the event there is missing" : "the event there is not the one that was written";
    super(
      `${store} is damaged at position ${after.position + 1}: ${what}. Nothing from there on is believed; put a backup or a restored ` +
        "snapshot in its place (docs/backup.md)",
    );
    this.after = after;
  }
}

/** The store holds what this build must not touch: a newer schema, or another cluster's log. */
export class LogRefusedError extends CodedError<"ERR_REPLICATION_LOG_REFUSED"> {
  override readonly code = "ERR_REPLICATION_LOG_REFUSED";
}
