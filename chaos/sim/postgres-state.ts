/**
 * Postgres state: the content of one server of the Postgres model, folded from its write-ahead log. No server, no time.
 *
 * - A record of that log is one committed transaction. Servers share the records; each folds its visible ones.
 * - The log's own rules (src/replication/log/log-rules.ts) decide on a view of this state which writes are valid.
 */
import {
  type CommandId,
  type ConfigHash,
  clusterStream,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  type UnixMs,
  type UserId,
  type WrappedKey,
} from "../../src/events/index.ts";
import type { EpochRecord, StoreRun } from "../../src/replication/log/continuity.ts";
import type {
  AdmittedNode,
  AppendBatch,
  BeatRequest,
  EpochStart,
  Lessee,
  LogEntry,
  NodeName,
  Observation,
  OpenEpochRequest,
  VaultEntry,
} from "../../src/replication/log/log.ts";
import type { LogView } from "../../src/replication/log/log-rules.ts";
import type { Txn } from "./postgres-facts.ts";

export type Writing =
  | Readonly<{ op: "append"; batch: AppendBatch; durable: Link }>
  | Readonly<{ op: "beat"; request: BeatRequest; durable: Link }>
  /** `run`: the server run that opens it; `held`: represents lessees that may be missing, null if none is. */
  | Readonly<{ op: "open-epoch"; request: OpenEpochRequest; entry: LogEntry; run: StoreRun; held: Lessee | null }>
  /** Drops the partitions below it. */
  | Readonly<{ op: "retain"; base: Link }>
  | Readonly<{ op: "sweep"; commands: readonly CommandId[] }>;

export type WalRecord = Readonly<{
  txn: Txn;
  /** The server's wall clock. */
  at: UnixMs;
  writer: string;
  writing: Writing;
  /** The head of the log before and after. */
  previous: Link;
  head: Link;
}>;

type Made = Readonly<{ first: Position; count: number; through: Position; at: UnixMs }>;

export class PostgresState {
  epoch = 0 as Epoch;
  incarnation: Incarnation | null = null;
  brokerId: Observation["brokerId"] = null;
  brokerUrl: string | null = null;
  beat = 0;
  head: Link = genesis;
  durable: Link = genesis;
  base: Link = genesis;
  /** The event at position n is at index n − 1 − base. */
  events: LogEntry[] = [];
  readonly epochs: EpochStart[] = [];
  readonly versions = new Map<Stream, number>();
  readonly commands = new Map<CommandId, Made>();
  readonly lessees = new Map<string, Lessee>();
  readonly admitted = new Map<string, AdmittedNode>();
  /** The record of the newest epoch: where it was opened. */
  record: EpochRecord | null = null;
  /** The longest window (ms) named by any epoch. */
  windowMaxMs = 0;
  /** Null: the person is erased, permanently. */
  readonly keys = new Map<UserId, WrappedKey | null>();
  readonly vault = new Map<SessionId, VaultEntry>();
  readonly configurations = new Map<ConfigHash, StoredConfiguration>();
  /** The view for log-rules.ts; it always reflects the current state. */
  readonly view: LogView;

  constructor() {
    const state = this;
    this.view = {
      get epoch() {
        return state.epoch;
      },
      get incarnation() {
        return state.incarnation;
      },
      get head() {
        return state.head;
      },
      findCommand: (commandId) => state.commands.get(commandId),
      versionOf: (stream) => state.versions.get(stream) ?? 0,
    };
  }

  linkAt(position: Position): Link | undefined {
    if (position === 0) return genesis;
    if (position === this.base.position) return this.base;
    const entry = this.events[position - 1 - this.base.position];
    return entry && linkOf(entry.recorded);
  }

  fold(record: WalRecord): void {
    const { writing } = record;
    switch (writing.op) {
      case "append":
        this.#append(writing.batch, record.at);
        this.#prove(writing.durable);
        break;
      case "beat":
        this.#lease(writing.request);
        this.#prove(writing.durable);
        break;
      case "open-epoch":
        this.#open(writing);
        break;
      case "retain":
        this.events = this.events.slice(writing.base.position - this.base.position);
        this.base = writing.base;
        return;
      case "sweep":
        for (const commandId of writing.commands) this.commands.delete(commandId);
        return;
    }
    this.beat += 1;
    this.head = record.head;
  }

  #append(batch: AppendBatch, at: UnixMs): void {
    for (const entry of batch.entries) this.events.push(entry);
    for (const { stream, next } of batch.streams) this.versions.set(stream, next);
    const through = batch.last.position;
    for (const { commandId, first, count } of batch.commands)
      this.commands.set(commandId, { first, count, through, at });
    for (const key of batch.newKeys) if (!this.keys.has(key.userId)) this.keys.set(key.userId, key);
    for (const userId of batch.erasedKeys) this.keys.set(userId, null);
    for (const entry of batch.vault) {
      const kept = this.vault.get(entry.sessionId);
      if (kept === undefined || kept.version < entry.version) this.vault.set(entry.sessionId, entry);
    }
    for (const sessionId of batch.vaultRemoved) this.vault.delete(sessionId);
    for (const each of batch.configurations)
      if (!this.configurations.has(each.configHash)) this.configurations.set(each.configHash, each);
    this.#noteNodes(batch.retired ?? [], []);
  }

  #noteNodes(departed: readonly NodeName[], admitted: readonly AdmittedNode[]): void {
    for (const { node, role } of departed) this.admitted.delete(`${node} ${role}`);
    for (const each of admitted) this.admitted.set(`${each.node} ${each.role}`, each);
  }

  #lease({ lessees, left, departed, admitted }: BeatRequest): void {
    this.#noteNodes(departed ?? [], admitted ?? []);
    for (const { node, boot } of left) this.lessees.delete(`${node} ${boot}`);
    for (const lessee of lessees) {
      const key = `${lessee.node} ${lessee.boot}`;
      const windowMs = Math.max(lessee.windowMs, this.lessees.get(key)?.windowMs ?? 0);
      this.lessees.set(key, { ...lessee, windowMs });
    }
  }

  #open({ request, entry, run, held }: Extract<Writing, { op: "open-epoch" }>): void {
    const { epoch, position: start, version } = entry.recorded;
    this.epoch = epoch;
    this.incarnation = request.incarnation;
    this.brokerId = request.brokerId;
    this.brokerUrl = request.brokerUrl;
    this.versions.set(clusterStream, version);
    this.record = { incarnation: request.incarnation, run, written: "here" };
    this.windowMaxMs = Math.max(this.windowMaxMs, request.windowMaxMs);
    if (held !== null) this.lessees.set(`${held.node} ${held.boot}`, held);
    this.epochs.push({ epoch, incarnation: request.incarnation, start });
    this.events.push(entry);
  }

  #prove(durable: Link): void {
    if (durable.position > this.durable.position) this.durable = durable;
  }
}
