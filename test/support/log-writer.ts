/**
 * Log writer: a minimal writer to an EventLog, for tests.
 *
 * As a broker's leader does, it opens an epoch, encodes events at their positions, chains the hashes, and keeps the
 * head and the stream versions. A test can make it get any of these wrong.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { formats } from "../../src/events/formats.ts";
import {
  type BrokerId,
  type CardeaEvent,
  type CommandId,
  chainHash,
  clusterStream,
  type Epoch,
  type EventId,
  effectOf,
  encodeEvent,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  type Recorded,
  type SessionCreated,
  type SessionId,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../src/events/index.ts";
import type {
  AppendBatch,
  AppendOutcome,
  BeatOutcome,
  BeatRequest,
  EventLog,
  Lessee,
  LogEntry,
  OpenEpochOutcome,
  OpenEpochRequest,
} from "../../src/replication/log/index.ts";

/** The events of one command. */
export type Draft = Readonly<{ commandId?: CommandId; events: readonly CardeaEvent[] }>;
/** Parts of a batch besides its events. A part that is given replaces the one that the writer would send. */
export type BatchParts = Partial<AppendBatch>;
export type OpenOptions = Partial<
  Pick<OpenEpochRequest, "brokerId" | "incarnation" | "brokerUrl" | "expected" | "atLeast" | "led" | "windowMaxMs">
>;

export const aCommandId = (): CommandId => randomUUID() as CommandId;
export const anIncarnation = (): Incarnation => randomBytes(8).toString("hex") as Incarnation;
export const aSessionId = (): SessionId => randomBytes(16).toString("base64url") as SessionId;
export const aUserId = (): UserId => randomBytes(16).toString("base64url") as UserId;

export function aSession(parts: Partial<SessionCreated> = {}): SessionCreated {
  const issuedAt = Date.now() as UnixMs;
  return {
    type: "SessionCreated",
    sessionId: aSessionId(),
    userId: aUserId(),
    idpId: "test",
    issuedAt,
    expiresAt: (issuedAt + 3_600_000) as UnixMs,
    profile: randomBytes(120),
    ...parts,
  };
}

/** Encodes one event at the position after `previous`. */
export function entryAt(
  previous: Link,
  epoch: Epoch,
  event: CardeaEvent,
  parts: Readonly<{ version: number; cause?: CommandId | null; actor?: string }>,
): LogEntry {
  const place = {
    epoch,
    position: (previous.position + 1) as Position,
    eventId: randomUUID() as EventId,
    stream: streamOf(event),
    version: parts.version,
    recordedAt: Date.now() as UnixMs,
    actor: parts.actor ?? "system",
    cause: parts.cause ?? null,
  };
  const bytes = encodeEvent({ ...place, event });
  const recorded: Recorded = {
    ...place,
    event,
    type: event.type,
    schemaVersion: formats[event.type]?.length ?? 1, // the newest, which `encodeEvent` writes
    effect: effectOf(event.type),
    hash: chainHash(previous.hash, bytes),
  };
  return { recorded, bytes };
}

export function openEpochRequest(expected: Epoch, options: OpenOptions = {}): OpenEpochRequest {
  const incarnation = options.incarnation ?? anIncarnation();
  const brokerId = options.brokerId ?? ("broker-1" as BrokerId);
  return {
    brokerId,
    incarnation,
    brokerUrl: options.brokerUrl ?? null,
    expected: options.expected ?? expected,
    atLeast: options.atLeast ?? (0 as Epoch),
    led: options.led ?? null,
    windowMaxMs: options.windowMaxMs ?? 0,
    firstEvent: ({ epoch, previous, streamVersion }) =>
      entryAt(
        previous,
        epoch,
        { type: "EpochOpened", epoch, incarnation, brokerId, publicKey: "" },
        { version: streamVersion },
      ),
  };
}

/** Opens the epoch after the one in the head row. */
export async function openEpoch(log: EventLog, options: OpenOptions = {}): Promise<OpenEpochOutcome> {
  const { epoch } = await log.observe();
  return log.openEpoch(openEpochRequest(epoch, options));
}

export class LogWriter {
  readonly log: EventLog;
  readonly epoch: Epoch;
  readonly incarnation: Incarnation;
  readonly opening: LogEntry;
  readonly lessees: readonly Lessee[];
  head: Link;
  readonly versions = new Map<Stream, number>();

  private constructor(log: EventLog, incarnation: Incarnation, opened: Extract<OpenEpochOutcome, { type: "opened" }>) {
    this.log = log;
    this.incarnation = incarnation;
    this.epoch = opened.epoch;
    this.head = opened.head;
    this.opening = opened.entry;
    this.lessees = opened.lessees;
    this.versions.set(clusterStream, opened.entry.recorded.version);
  }

  static of(log: EventLog, incarnation: Incarnation, opened: Extract<OpenEpochOutcome, { type: "opened" }>): LogWriter {
    return new LogWriter(log, incarnation, opened);
  }

  /** @throws Error unless the epoch opens */
  static async open(log: EventLog, options: OpenOptions = {}): Promise<LogWriter> {
    const incarnation = options.incarnation ?? anIncarnation();
    const outcome = await openEpoch(log, { ...options, incarnation });
    if (outcome.type === "opened") return LogWriter.of(log, incarnation, outcome);
    const cause = "cause" in outcome ? outcome.cause : undefined;
    throw new Error(`the epoch did not open: ${outcome.type}`, { cause });
  }

  /** A second writer in the same epoch, with its own head. The log must put the writes of both in one order. */
  fork(log: EventLog = this.log): LogWriter {
    const fork: LogWriter = Object.create(LogWriter.prototype, Object.getOwnPropertyDescriptors(this));
    return Object.assign(fork, { log, versions: new Map(this.versions) });
  }

  /** Builds a batch after the writer's head, without changing the writer. */
  batch(drafts: readonly Draft[], parts: BatchParts = {}): AppendBatch {
    const previous = parts.previous ?? this.head;
    const versions = new Map<Stream, Readonly<{ expected: number; next: number }>>();
    for (const { stream, expected } of parts.streams ?? []) versions.set(stream, { expected, next: expected });
    const entries: LogEntry[] = [];
    const commands: AppendBatch["commands"][number][] = [];
    let at = previous;
    for (const draft of drafts) {
      const commandId = draft.commandId ?? aCommandId();
      commands.push({ commandId, first: (at.position + 1) as Position, count: draft.events.length });
      for (const event of draft.events) {
        const stream = streamOf(event);
        const known = this.versions.get(stream) ?? 0;
        const { expected, next } = versions.get(stream) ?? { expected: known, next: known };
        versions.set(stream, { expected, next: next + 1 });
        const entry = entryAt(at, parts.epoch ?? this.epoch, event, { version: next + 1, cause: commandId });
        entries.push(entry);
        at = linkOf(entry.recorded);
      }
    }
    return {
      epoch: this.epoch,
      incarnation: this.incarnation,
      entries,
      last: at,
      commands,
      newKeys: [],
      erasedKeys: [],
      vault: [],
      vaultRemoved: [],
      configurations: [],
      ...parts,
      previous,
      streams: [...versions].map(([stream, version]) => ({ stream, ...version })),
    };
  }

  async append(drafts: readonly Draft[], parts: BatchParts = {}): Promise<AppendOutcome> {
    return this.send(this.batch(drafts, parts));
  }

  /** Appends one command per event. */
  async appendEach(...events: readonly CardeaEvent[]): Promise<AppendOutcome> {
    return this.append(events.map((event) => ({ events: [event] })));
  }

  /** Sends a batch, and advances the head if the log appended it. */
  async send(batch: AppendBatch): Promise<AppendOutcome> {
    const outcome = await this.log.append(batch);
    if (outcome.type === "appended") this.follow(batch);
    return outcome;
  }

  follow(batch: AppendBatch): void {
    this.head = batch.last;
    for (const { stream, next } of batch.streams) this.versions.set(stream, next);
  }

  async beat(parts: Partial<BeatRequest> = {}): Promise<BeatOutcome> {
    const { epoch, incarnation, head } = this;
    return this.log.beat({ epoch, incarnation, head, lessees: [], left: [], ...parts });
  }
}
