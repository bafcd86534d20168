/**
 * Memory log: the log of a test or of a throw-away process. It ends with the process.
 *
 * A minimal implementation of the contract in log.ts: a list of events and a few maps, changed in one turn of the event
 * loop. A batch is therefore written whole or not at all. Every write is durable at once, for as long as the process
 * lives.
 */
import {
  type CommandId,
  type ConfigHash,
  type ConfigurationEntry,
  clusterStream,
  configBodiesMax,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  nextPosition,
  noEpoch,
  type Position,
  type SessionId,
  type StoredConfiguration,
  type Stream,
  type UserId,
  type WrappedKey,
} from "../../events/index.ts";
import type { Clock } from "../runtime/clock.ts";
import { systemClock } from "../runtime/system-clock.ts";
import { lostHistory, lostWindowMs, whyEpochsMayBeLost } from "./continuity.ts";
import {
  type AdmittedNode,
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type BeatRequest,
  type Durability,
  type EpochStart,
  type EventLog,
  type Lessee,
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
import {
  checkBatch,
  checkRestore,
  commandsKeptMs,
  epochToOpen,
  judgeReader,
  keysPageMax,
  type LogView,
  makeFirstEvent,
  pageBytesMax,
  pageLimit,
  refuseAppend,
  refuseBeat,
  refuseRetain,
  sweptCommandsMax,
} from "./log-rules.ts";

export type MemoryLogOptions = Readonly<{ clock?: Clock }>;

export function createMemoryLog(options: MemoryLogOptions = {}): EventLog {
  return new MemoryLog(options.clock ?? systemClock);
}

type Command = Readonly<{ first: Position; count: number; at: number }>;

class MemoryLog implements EventLog {
  readonly kind = "memory";
  readonly exclusive = true;
  readonly #clock: Clock;
  #epoch = noEpoch;
  #incarnation: Incarnation | null = null;
  #opened: Pick<OpenEpochRequest, "brokerId" | "brokerUrl"> | null = null;
  #beat = 0;
  #closed = false;
  /** The log begins after this link. The event at position n is at index n − 1 − base. */
  #base: Link = genesis;
  #events: Readonly<{ link: Link; bytes: Uint8Array }>[] = [];
  #epochs: EpochStart[] = [];
  #restoring = false;
  readonly #versions = new Map<Stream, number>();
  readonly #commands = new Map<CommandId, Command>();
  readonly #lessees = new Map<string, Lessee>();
  readonly #admitted = new Map<string, AdmittedNode>();
  /** The longest window that any epoch of this log named, ms. */
  #windowMaxMs = 0;
  /** Null: the person is erased, permanently. */
  readonly #keys = new Map<UserId, WrappedKey | null>();
  readonly #vault = new Map<SessionId, VaultEntry>();
  readonly #configurations = new Map<ConfigHash, StoredConfiguration>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async observe(): Promise<Observation> {
    this.#refuseWhenClosed();
    return {
      epoch: this.#epoch,
      incarnation: this.#incarnation,
      brokerId: this.#opened?.brokerId ?? null,
      brokerUrl: this.#opened?.brokerUrl ?? null,
      beat: this.#beat,
      head: this.#head(),
    };
  }

  async openEpoch(request: OpenEpochRequest): Promise<OpenEpochOutcome> {
    if (this.#closed) return { type: "unavailable", cause: closedError() };
    if (request.expected !== this.#epoch) return { type: "overtaken", epoch: this.#epoch };
    const epoch = epochToOpen(request);
    const streamVersion = this.#version(clusterStream) + 1;
    const entry = makeFirstEvent(request, { epoch, previous: this.#head(), streamVersion });
    this.#epoch = epoch;
    this.#incarnation = request.incarnation;
    this.#opened = request;
    const restored = this.#restoring;
    this.#restoring = false;
    this.#beat += 1;
    this.#versions.set(clusterStream, streamVersion);
    this.#epochs.push({ epoch, incarnation: request.incarnation, start: entry.recorded.position });
    const head = linkOf(entry.recorded);
    this.#events.push({ link: head, bytes: Buffer.from(entry.bytes) });
    const beatsLost = this.#beatsLost(request, restored);
    const windowMs = lostWindowMs({
      requestedMs: request.windowMaxMs,
      recordedMs: this.#windowMaxMs,
      lessees: [...this.#lessees.values()],
      previous: restored || request.expected === 0 ? "unrecorded" : "recorded",
    });
    this.#windowMaxMs = Math.max(this.#windowMaxMs, request.windowMaxMs);
    if (beatsLost !== null && windowMs > 0) this.#putLessee(lostHistory(epoch, windowMs));
    return {
      type: "opened",
      epoch,
      head,
      entry,
      lessees: [...this.#lessees.values()],
      admitted: [...this.#admitted.values()],
      beatsLost,
    };
  }

  async append(batch: AppendBatch): Promise<AppendOutcome> {
    checkBatch(batch);
    if (this.#closed) return { type: "unavailable", cause: closedError() };
    const refusal = refuseAppend(batch, this.#view());
    if (refusal !== undefined) return refusal;
    const at = this.#clock.wall();
    for (const { recorded, bytes } of batch.entries)
      this.#events.push({ link: linkOf(recorded), bytes: Buffer.from(bytes) });
    for (const { stream, next } of batch.streams) this.#versions.set(stream, next);
    for (const { commandId, first, count } of batch.commands) this.#commands.set(commandId, { first, count, at });
    for (const key of batch.newKeys) if (!this.#keys.has(key.userId)) this.#keys.set(key.userId, key);
    for (const userId of batch.erasedKeys) this.#keys.set(userId, null);
    for (const entry of batch.vault) {
      const kept = this.#vault.get(entry.sessionId);
      if (kept === undefined || kept.version < entry.version) this.#vault.set(entry.sessionId, entry);
    }
    for (const sessionId of batch.vaultRemoved) this.#vault.delete(sessionId);
    this.#keep(batch.configurations);
    this.#noteNodes({ departed: batch.retired ?? [], admitted: [] });
    this.#beat += 1;
    return { type: "appended", last: batch.last };
  }

  async beat(request: BeatRequest): Promise<BeatOutcome> {
    if (this.#closed) return { type: "unavailable", cause: closedError() };
    const refusal = refuseBeat(request, this.#view());
    if (refusal !== undefined) return refusal;
    for (const { node, boot } of request.left) this.#lessees.delete(JSON.stringify([node, boot]));
    for (const lessee of request.lessees) this.#putLessee(lessee);
    this.#noteNodes({ departed: request.departed ?? [], admitted: request.admitted ?? [] });
    this.#beat += 1;
    return { type: "beaten", head: this.#head() };
  }

  #noteNodes({ departed, admitted }: Required<Pick<BeatRequest, "departed" | "admitted">>): void {
    for (const name of departed) this.#admitted.delete(keyOfNode(name));
    for (const node of admitted) this.#admitted.set(keyOfNode(node), node);
  }

  #putLessee(lessee: Lessee): void {
    const key = JSON.stringify([lessee.node, lessee.boot]);
    const windowMs = Math.max(lessee.windowMs, this.#lessees.get(key)?.windowMs ?? 0);
    this.#lessees.set(key, { ...lessee, windowMs });
  }

  /** This log lives as long as its process and loses nothing, but it may be filled with the history of another log. */
  #beatsLost(request: OpenEpochRequest, restored: boolean): string | null {
    return restored ? "the log was restored" : whyEpochsMayBeLost(request);
  }

  async read(after: Link, limit: number): Promise<ReadOutcome> {
    this.#refuseWhenClosed();
    const horizon = this.#head();
    const first = nextPosition(this.#base.position);
    const judged = judgeReader(after, { horizon, first, at: this.#linkAt(after.position) });
    if (judged !== undefined) return judged;
    const entries: Uint8Array[] = [];
    let bytes = 0;
    let last = after;
    const start = after.position - this.#base.position;
    for (const event of this.#events.slice(start, start + pageLimit(limit))) {
      bytes += event.bytes.length;
      if (bytes > pageBytesMax && entries.length > 0) break;
      entries.push(event.bytes);
      last = event.link;
    }
    return { type: "page", page: { previous: after, entries, last, head: horizon } };
  }

  async linkAt(position: Position): Promise<Link | undefined> {
    this.#refuseWhenClosed();
    return this.#linkAt(position);
  }

  async base(): Promise<Link> {
    this.#refuseWhenClosed();
    return this.#base;
  }

  async retain(request: RetainRequest): Promise<RetainOutcome> {
    if (this.#closed) return { type: "unavailable", cause: closedError() };
    const linkAt = (position: Position): Link | undefined => this.#linkAt(position);
    const refusal = refuseRetain(request, { epoch: this.#epoch, incarnation: this.#incarnation, linkAt });
    if (refusal !== undefined) return refusal;
    const drop = Math.min(request.first - 1, this.#head().position) - this.#base.position;
    if (drop > 0) {
      this.#base = this.#linkAt((this.#base.position + drop) as Position) ?? this.#base;
      this.#events = this.#events.slice(drop);
    }
    return { type: "retained", base: this.#base, more: false };
  }

  async restore(step: RestoreStep): Promise<Link> {
    this.#refuseWhenClosed();
    checkRestore(step, {
      empty: this.#epoch === 0 && this.#head().position === 0,
      restoring: this.#restoring,
      head: this.#head(),
    });
    if (step.type === "begin") {
      this.#restoring = true;
      this.#base = step.base;
      this.#epoch = step.base.epoch;
      this.#epochs = [...step.epochs];
    } else if (step.type === "configurations") {
      this.#keep(step.configurations);
    } else if (step.type === "keys") {
      for (const key of step.keys) if (!this.#keys.has(key.userId)) this.#keys.set(key.userId, key);
    } else {
      for (const { recorded, bytes } of step.entries) {
        this.#events.push({ link: linkOf(recorded), bytes: Buffer.from(bytes) });
        this.#versions.set(recorded.stream, recorded.version);
        this.#epoch = recorded.epoch;
        const { event, epoch, position: start } = recorded;
        if (event.type === "EpochOpened") this.#epochs.push({ epoch, incarnation: event.incarnation, start });
        if (event.type === "UserErased") this.#keys.set(event.userId, null);
      }
    }
    return this.#head();
  }

  async epochs(): Promise<readonly EpochStart[]> {
    this.#refuseWhenClosed();
    return [...this.#epochs];
  }

  async durabilityOf(): Promise<Durability> {
    return "volatile";
  }

  async findCommand(commandId: CommandId): Promise<Readonly<{ first: Position; count: number }> | undefined> {
    this.#refuseWhenClosed();
    const command = this.#commands.get(commandId);
    return command && { first: command.first, count: command.count };
  }

  async streamVersions(streams: readonly Stream[]): Promise<ReadonlyMap<Stream, number>> {
    this.#refuseWhenClosed();
    return new Map(streams.map((s) => [s, this.#version(s)] as const).filter(([, version]) => version > 0));
  }

  async lessees(): Promise<readonly Lessee[]> {
    this.#refuseWhenClosed();
    return [...this.#lessees.values()];
  }

  async admittedNodes(): Promise<readonly AdmittedNode[]> {
    this.#refuseWhenClosed();
    return [...this.#admitted.values()];
  }

  async keys(users: readonly UserId[]): Promise<readonly WrappedKey[]> {
    this.#refuseWhenClosed();
    return [...new Set(users)]
      .map((userId) => this.#keys.get(userId))
      .filter((key) => key !== undefined && key !== null);
  }

  async keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]> {
    this.#refuseWhenClosed();
    return [...this.#keys.values()]
      .filter((key) => key !== null && (user === null || compareText(key.userId, user) > 0))
      .filter((key) => key !== null)
      .sort((a, b) => compareText(a.userId, b.userId))
      .slice(0, Math.max(1, Math.min(keysPageMax, limit)));
  }

  async rewrapKeys(keys: readonly WrappedKey[]): Promise<number> {
    this.#refuseWhenClosed();
    const same = keys.filter(({ userId, keyId }) => {
      const known = this.#keys.get(userId);
      return known !== undefined && known !== null && Buffer.compare(known.keyId, keyId) === 0;
    });
    for (const key of same) this.#keys.set(key.userId, key);
    return same.length;
  }

  async vault(sessionId: SessionId): Promise<VaultEntry | undefined> {
    this.#refuseWhenClosed();
    return this.#vault.get(sessionId);
  }

  async configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined> {
    this.#refuseWhenClosed();
    return this.#configurations.get(configHash);
  }

  async configurations(): Promise<readonly ConfigurationEntry[]> {
    this.#refuseWhenClosed();
    return [...this.#configurations.values()]
      .map(({ configHash, recordedAt, body }) => ({ configHash, recordedAt, bytes: body.length }))
      .sort((a, b) => a.recordedAt - b.recordedAt || compareText(a.configHash, b.configHash));
  }

  #keep(configurations: readonly StoredConfiguration[]): void {
    for (const each of configurations) {
      const has = this.#configurations.has(each.configHash);
      if (!has && this.#configurations.size < configBodiesMax) this.#configurations.set(each.configHash, each);
    }
  }

  async sweepCommands(): Promise<number> {
    this.#refuseWhenClosed();
    const before = this.#clock.wall() - commandsKeptMs;
    const old = [...this.#commands].filter(([, { at }]) => at < before).slice(0, sweptCommandsMax);
    for (const [commandId] of old) this.#commands.delete(commandId);
    return old.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #head(): Link {
    return this.#events.at(-1)?.link ?? this.#base;
  }

  #linkAt(position: Position): Link | undefined {
    if (position === 0) return genesis;
    return position === this.#base.position ? this.#base : this.#events[position - 1 - this.#base.position]?.link;
  }

  #version(stream: Stream): number {
    return this.#versions.get(stream) ?? 0;
  }

  #view(): LogView {
    return {
      epoch: this.#epoch,
      incarnation: this.#incarnation,
      head: this.#head(),
      findCommand: (commandId) => this.#commands.get(commandId),
      versionOf: (stream) => this.#version(stream),
    };
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw closedError();
  }
}

function keyOfNode({ node, role }: NodeName): string {
  return JSON.stringify([node, role]);
}

function closedError(): LogUnavailableError {
  return new LogUnavailableError("the log is closed");
}

/** Compares ids by their bytes, the order of every store. Ids are ASCII. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
