/**
 * SQLite store: the file log itself, one blocking call at a time. It runs only in sqlite/log-worker.ts.
 *
 * What always holds:
 *   - one process has the file: the lock is exclusive, taken when the file is opened and held until it is closed;
 *   - a batch is answered `appended` only after its commit was flushed to the disk (WAL, synchronous = FULL);
 *   - data left by a crash is flushed before any of it is read (the checkpoint in `open`);
 *   - a failed commit is indeterminate: the file is closed and read again from the disk.
 *
 * Erased keys and vault entries are overwritten with zeros (secure_delete), and an erasure empties the WAL at once.
 */

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import {
  type CommandId,
  type ConfigHash,
  type ConfigurationEntry,
  clusterStream,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  nextPosition,
  type Position,
  type Recorded,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  sameLink,
  type UserId,
  type WrappedKey,
} from "../../../events/index.ts";
import { joinBytes, splitBytes } from "../byte-list.ts";
import {
  type AdmittedNode,
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type EpochStart,
  type Lessee,
  LogDamagedError,
  LogRefusedError,
  LogUnavailableError,
  type Observation,
  type OpenEpochRequest,
  type RetainOutcome,
  type RetainRequest,
  type VaultEntry,
} from "../log.ts";
import { placeIsMissing, type StoredEvent, takeIntact } from "../log-damage.ts";
import {
  checkBatch,
  checkRestore,
  checkRestoring,
  commandsKeptMs,
  droppedEventsMax,
  epochToOpen,
  judgeReader,
  keysPageMax,
  MalformedBatchError,
  pageLimit,
  refuseAppend,
  refuseBeat,
  refuseRetain,
  sweptCommandsMax,
} from "../log-rules.ts";
import { type LeaseTables, openLeases, readLessees, writeLessees, writeNodes } from "./continuity.ts";
import { explain, openSqliteFile, type SqliteFileOptions } from "./file.ts";
import { insert } from "./inserts.ts";
import { putBase, putConfigurations, takeRestoreStep, unpackRestore } from "./restore.ts";
import {
  admittedNodeFromRow,
  configurationFromRow,
  configurationPlaceFromRow,
  decodeBatch,
  hashBytes,
  keyFromRow,
  linkFromRow,
  type OpenEpochCommit,
  type OpenEpochCommitted,
  type OpenEpochStep,
  type PackedBatch,
  type PackedRead,
  type PackedRestore,
  type SqliteRow,
} from "./rows.ts";

type Head = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation | null;
  brokerId: Observation["brokerId"];
  brokerUrl: string | null;
  beat: number;
  link: Link;
}>;

const written: ReadonlySet<string> = new Set(["appended", "beaten", "opened", "retained"]); // the rest is rolled back

export class SqliteStore {
  readonly #options: SqliteFileOptions;
  readonly #wallMs: () => number;
  #open: Readonly<{ db: DatabaseSync; statements: Map<string, StatementSync> }> | undefined;

  /** @throws LogUnavailableError, LogRefusedError */
  constructor(options: SqliteFileOptions, wallMs: () => number) {
    this.#options = options;
    this.#wallMs = wallMs;
    this.#database();
  }

  observe(): Observation {
    const { epoch, incarnation, brokerId, brokerUrl, beat, link } = this.#head();
    return { epoch, incarnation, brokerId, brokerUrl, beat, head: link };
  }

  /** First half of opening an epoch: determines the position of its first event. */
  placeEpoch(request: Pick<OpenEpochRequest, "expected" | "atLeast">): OpenEpochStep {
    const head = this.#head();
    if (head.epoch !== request.expected) return { type: "overtaken", epoch: head.epoch };
    const streamVersion = this.#versionOf(clusterStream) + 1;
    return { type: "place", epoch: epochToOpen(request), previous: head.link, streamVersion };
  }

  /** Second half: writes the event created for that position, if the head has not moved. */
  openEpoch(request: OpenEpochCommit): OpenEpochCommitted {
    return this.#transaction<OpenEpochCommitted>(() => {
      const head = this.#head();
      if (head.epoch !== request.expected || !sameLink(head.link, request.previous)) return { type: "moved" };
      const [entry] = decodeBatch([request.bytes], head.link);
      if (entry === undefined) throw new MalformedBatchError("no first event");
      const { recorded, bytes } = entry;
      this.#insertEvent(recorded, bytes);
      this.#run(insert.streamHead, [recorded.stream, recorded.version]);
      this.#run(insert.epoch, [
        recorded.epoch,
        request.incarnation,
        recorded.position,
        hashBytes(head.link.hash),
        request.brokerId,
        request.brokerUrl,
        this.#wallMs(),
      ]);
      this.#run(
        "update log_head set epoch = ?, incarnation = ?, broker_id = ?, broker_url = ?, beat = beat + 1, pos = ?, hash = ?",
        [
          recorded.epoch,
          request.incarnation,
          request.brokerId,
          request.brokerUrl,
          recorded.position,
          hashBytes(recorded.hash),
        ],
      );
      const opened = { epoch: recorded.epoch, beat: head.beat + 1 };
      const beatsLost = openLeases(this.#leaseTables, request, opened);
      const [lessees, admitted] = [this.lessees(), this.admittedNodes()];
      return { type: "opened", epoch: recorded.epoch, head: linkOf(recorded), lessees, admitted, beatsLost };
    });
  }

  append(packed: PackedBatch): AppendOutcome {
    const batch: AppendBatch = { ...packed, entries: decodeBatch(splitBytes(packed.entries), packed.previous) };
    checkBatch(batch);
    const outcome = this.#transaction<AppendOutcome>(() => {
      const head = this.#head();
      const refusal = refuseAppend(batch, {
        ...head,
        head: head.link,
        findCommand: (id) => this.findCommand(id),
        versionOf: (stream) => this.#versionOf(stream),
      });
      if (refusal !== undefined) return refusal;
      for (const { recorded, bytes } of batch.entries) this.#insertEvent(recorded, bytes);
      for (const { stream, next } of batch.streams) {
        this.#run(insert.streamHead, [stream, next]);
      }
      for (const { commandId, first, count } of batch.commands) {
        this.#run(insert.command, [commandId, first, count, this.#wallMs()]);
      }
      this.#writeSecrets(batch);
      writeNodes(this.#run.bind(this), { departed: batch.retired ?? [], admitted: [] });
      this.#run("update log_head set beat = beat + 1, pos = ?, hash = ?", [
        batch.last.position,
        hashBytes(batch.last.hash),
      ]);
      return { type: "appended", last: batch.last };
    });
    if (outcome.type === "appended" && batch.erasedKeys.length + batch.vaultRemoved.length > 0) this.#emptyWal();
    return outcome;
  }

  #writeSecrets(batch: AppendBatch): void {
    for (const { userId, keyId, wrapped } of batch.newKeys) {
      this.#run(insert.personKey, [userId, keyId, wrapped]);
    }
    for (const userId of batch.erasedKeys) {
      this.#run(insert.erasedKey, [userId]);
    }
    for (const { sessionId, version, sealed } of batch.vault) {
      this.#run(insert.vault, [sessionId, version, sealed]);
    }
    for (const sessionId of batch.vaultRemoved) this.#run("delete from vault where session_id = ?", [sessionId]);
    putConfigurations(this.#run.bind(this), batch.configurations);
  }

  beat(request: BeatRequest): BeatOutcome {
    return this.#transaction<BeatOutcome>(() => {
      const head = this.#head();
      const refusal = refuseBeat(request, { ...head, head: head.link });
      if (refusal !== undefined) return refusal;
      for (const { node, boot } of request.left)
        this.#run("delete from lessee where node = ? and boot = ?", [node, boot]);
      writeLessees(this.#leaseTables, request.lessees, { ...request, beat: head.beat + 1 });
      writeNodes(this.#run.bind(this), { departed: request.departed ?? [], admitted: request.admitted ?? [] });
      this.#run("update log_head set beat = beat + 1", []);
      return { type: "beaten", head: head.link };
    });
  }

  read(after: Link, limit: number): PackedRead {
    const horizon = this.#head().link;
    const base = this.base();
    const first = nextPosition(base.position);
    const judged = judgeReader(after, { horizon, first, at: this.linkAt(after.position) });
    if (judged?.type === "truncated" && after.position > base.position) throw placeIsMissing(this.#options.path, after);
    if (judged?.type === "page") return { ...judged.page, type: "page", entries: joinBytes([]) };
    if (judged !== undefined) return judged;
    const rows = this.#statement("select pos, epoch, hash, bytes from event where pos > ? order by pos limit ?");
    const { entries, last, damage } = takeIntact(after, storedIn(rows.iterate(after.position, pageLimit(limit))));
    if (entries.length === 0) throw new LogDamagedError(this.#options.path, after, damage ?? "missing");
    return { type: "page", previous: after, entries: joinBytes(entries), last, head: horizon };
  }

  linkAt(position: Position): Link | undefined {
    if (position === 0) return genesis;
    const row = this.#get(
      "select pos, epoch, hash from event where pos = ?1 union all select pos, epoch, hash from log_base where pos = ?1",
      [position],
    );
    return row && linkFromRow(row);
  }

  base(): Link {
    const row = this.#get("select pos, epoch, hash from log_base", []);
    return row === undefined ? genesis : linkFromRow(row);
  }

  retain(request: RetainRequest): RetainOutcome {
    return this.#transaction<RetainOutcome>(() => {
      const head = this.#head();
      const refusal = refuseRetain(request, { ...head, linkAt: (position) => this.linkAt(position) });
      if (refusal !== undefined) return refusal;
      const base = this.base();
      const wanted = Math.min(request.first - 1, head.link.position);
      const upTo = Math.min(wanted, base.position + droppedEventsMax) as Position;
      const link = upTo > base.position ? this.linkAt(upTo) : undefined;
      if (link === undefined) return { type: "retained", base, more: false };
      putBase(this.#run.bind(this), link);
      this.#run("delete from event where pos <= ?", [upTo]);
      return { type: "retained", base: link, more: upTo < wanted };
    });
  }

  /** @throws LogRefusedError, MalformedBatchError, LogUnavailableError when it was not committed */
  restore(packed: PackedRestore): Link {
    const head = this.#head();
    const restoring = head.incarnation === null && this.#get("select 1 as begun from log_base", []) !== undefined;
    const view = { empty: head.epoch === 0 && head.link.position === 0, restoring, head: head.link };
    checkRestoring(packed.type, view);
    const step = unpackRestore(packed, head.link);
    checkRestore(step, view);
    const insertEvent = (recorded: Recorded, bytes: Uint8Array): void => this.#insertEvent(recorded, bytes);
    const tables = { run: this.#run.bind(this), insertEvent, wallMs: this.#wallMs };
    const outcome = this.#transaction<Readonly<{ type: "appended" }> | AppendOutcome>(() => {
      takeRestoreStep(tables, head.link, step);
      return { type: "appended" };
    });
    if (outcome.type === "appended") return this.#head().link;
    const cause = "cause" in outcome ? outcome.cause : undefined;
    throw new LogUnavailableError(`${this.#options.path} did not accept a step of the restore`, { cause });
  }

  epochs(): readonly EpochStart[] {
    return this.#all("select epoch, incarnation, start_pos from log_epoch order by start_pos", []).map((row) => ({
      epoch: row["epoch"] as Epoch,
      incarnation: row["incarnation"] as Incarnation,
      start: row["start_pos"] as Position,
    }));
  }

  findCommand(commandId: CommandId): Readonly<{ first: Position; count: number }> | undefined {
    const row = this.#get("select first_pos, count from command where command_id = ?", [commandId]);
    return row && { first: row["first_pos"] as Position, count: row["count"] as number };
  }

  streamVersions(streams: readonly Stream[]): ReadonlyMap<Stream, number> {
    return new Map(streams.map((s) => [s, this.#versionOf(s)] as const).filter(([, version]) => version > 0));
  }

  lessees(): readonly Lessee[] {
    return readLessees(this.#all("select node, boot, region, role, window_ms from lessee", []));
  }

  admittedNodes(): readonly AdmittedNode[] {
    return this.#all("select node, role, region, boot, heard_at, applied_pos from admitted_node", []).map(
      admittedNodeFromRow,
    );
  }

  keys(users: readonly UserId[]): readonly WrappedKey[] {
    const text = "select user_id, key_id, wrapped from person_key where user_id = ? and wrapped is not null";
    return [...new Set(users)].flatMap((userId) => this.#all(text, [userId]).map(keyFromRow));
  }

  keysAfter(user: UserId | null, limit: number): readonly WrappedKey[] {
    return this.#all(
      "select user_id, key_id, wrapped from person_key where user_id > ? and wrapped is not null order by user_id limit ?",
      [user ?? "", Math.max(1, Math.min(keysPageMax, limit))],
    ).map(keyFromRow);
  }

  /** @param rows JSON: person, key id and wrapping of each, the last two as hexadecimal digits */
  rewrapKeys(rows: string): number {
    const text = `update person_key set wrapped = unhex(value ->> 2) from json_each(?)
      where user_id = value ->> 0 and key_id = unhex(value ->> 1) and wrapped is not null`;
    return this.#run(text, [rows]); // one statement: one commit
  }

  vault(sessionId: SessionId): VaultEntry | undefined {
    const row = this.#get("select version, sealed from vault where session_id = ?", [sessionId]);
    return row && { sessionId, version: row["version"] as number, sealed: row["sealed"] as Uint8Array };
  }

  configuration(configHash: ConfigHash): StoredConfiguration | undefined {
    const row = this.#get("select hash, recorded_at, body from configuration where hash = ?", [configHash]);
    return row && configurationFromRow(row);
  }

  configurations(): readonly ConfigurationEntry[] {
    const text = "select hash, recorded_at, length(body) as bytes from configuration order by recorded_at, hash";
    return this.#all(text, []).map(configurationPlaceFromRow);
  }

  sweepCommands(): number {
    const before = this.#wallMs() - commandsKeptMs;
    return this.#run(
      "delete from command where command_id in (select command_id from command where at < ? order by at limit ?)",
      [before, sweptCommandsMax],
    );
  }

  close(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.db.close();
  }

  /** Rolls back refused and failed work. Only a failing commit leaves the outcome unknown. */
  #transaction<Outcome extends { type: string }>(
    work: () => Outcome,
  ): Outcome | Extract<AppendOutcome, { type: "indeterminate" | "unavailable" }> {
    const { db } = this.#database();
    let outcome: Outcome;
    try {
      db.exec("begin immediate");
      outcome = work();
      if (!written.has(outcome.type)) {
        db.exec("rollback");
        return outcome;
      }
    } catch (cause) {
      if (db.isTransaction) db.exec("rollback");
      if (cause instanceof MalformedBatchError) throw cause;
      return { type: "unavailable", cause: explain(cause, this.#options.path) };
    }
    try {
      db.exec("commit");
      return outcome;
    } catch (cause) {
      try {
        this.close();
      } catch {
        this.#open = undefined; // the next opening reads the state of the disk
      }
      return { type: "indeterminate", cause: explain(cause, this.#options.path) };
    }
  }

  get #leaseTables(): LeaseTables {
    return { path: this.#options.path, run: this.#run.bind(this), get: this.#get.bind(this) };
  }

  #insertEvent(recorded: Recorded, bytes: Uint8Array): void {
    this.#run(insert.event, [
      recorded.position,
      recorded.epoch,
      recorded.eventId,
      recorded.stream,
      recorded.version,
      recorded.type,
      recorded.schemaVersion,
      recorded.effect,
      recorded.recordedAt,
      recorded.actor,
      recorded.cause,
      hashBytes(recorded.hash),
      bytes,
    ]);
  }

  #head(): Head {
    const row = this.#get("select epoch, incarnation, broker_id, broker_url, beat, pos, hash from log_head", []);
    if (row === undefined) throw new LogRefusedError(`${this.#options.path} has lost its head row`);
    return {
      epoch: row["epoch"] as Epoch,
      incarnation: row["incarnation"] as Incarnation | null,
      brokerId: row["broker_id"] as Observation["brokerId"],
      brokerUrl: row["broker_url"] as string | null,
      beat: row["beat"] as number,
      link: linkFromRow(row),
    };
  }

  #versionOf(stream: Stream): number {
    return (this.#get("select version from stream_head where stream = ?", [stream])?.["version"] ?? 0) as number;
  }

  #emptyWal(): void {
    try {
      this.#database().db.exec("pragma wal_checkpoint(truncate)");
    } catch {
      // The next checkpoint empties it; the batch itself is committed.
    }
  }

  #get(sql: string, values: readonly SQLInputValue[]): SqliteRow | undefined {
    return this.#statement(sql).get(...values);
  }
  #all(sql: string, values: readonly SQLInputValue[]): SqliteRow[] {
    return this.#statement(sql).all(...values);
  }
  #run(sql: string, values: readonly SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  #statement(sql: string): StatementSync {
    const { db, statements } = this.#database();
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = db.prepare(sql);
      statements.set(sql, statement);
    }
    return statement;
  }

  #database(): Readonly<{ db: DatabaseSync; statements: Map<string, StatementSync> }> {
    this.#open ??= { db: openSqliteFile(this.#options, this.#wallMs), statements: new Map() };
    return this.#open;
  }
}

function* storedIn(rows: Iterable<unknown>): Generator<StoredEvent> {
  for (const row of rows as Iterable<SqliteRow>) yield { link: linkFromRow(row), bytes: row["bytes"] as Uint8Array };
}
