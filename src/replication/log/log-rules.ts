/**
 * Log rules: the checks that every log makes before it writes or reads, shared by the logs that can run them.
 *
 * - Pure. Memory and SQLite call these functions. Postgres implements the same rules in its own functions
 *   (migrations/postgres-migrations.ts), and test/contract verifies that they agree.
 * - Refusals have a fixed order: fenced, head-moved, duplicate-command, version-conflict.
 * - A malformed batch is a bug of the writer, so it throws instead of returning an outcome. An event in the log stays
 *   there for ever.
 */
import {
  CodedError,
  type CommandId,
  chainHash,
  clusterStream,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  nextEpoch,
  type Position,
  type Stream,
  sameLink,
  WrittenEvent,
} from "../../events/index.ts";
import {
  type AppendBatch,
  type AppendOutcome,
  type BeatOutcome,
  type LogEntry,
  LogRefusedError,
  type OpenEpochRequest,
  type ReadOutcome,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
} from "./log.ts";

/** A page holds at most this many bytes of events, or a single larger event. */
export const pageBytesMax = 1_000_000;
export const pageEventsMax = 10_000;
export const commandsKeptMs = 24 * 60 * 60 * 1_000;
/** One sweep deletes at most this many command ids, so that it does not delay an append for long. */
export const sweptCommandsMax = 10_000;

export class MalformedBatchError extends CodedError<"ERR_REPLICATION_MALFORMED_BATCH"> {
  override readonly code = "ERR_REPLICATION_MALFORMED_BATCH";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed batch: ${problem}`, options);
  }
}

/**
 * @throws MalformedBatchError unless the batch is dense, of one epoch and chained, and its metadata matches its entries
 */
export function checkBatch(batch: AppendBatch): void {
  if (batch.entries.length === 0) throw new MalformedBatchError("no entries");
  if (batch.previous.epoch !== batch.epoch) throw new MalformedBatchError("`previous` belongs to another epoch");
  const named = new Map<Stream, { readonly next: number; version: number }>();
  for (const { stream, expected, next } of batch.streams) named.set(stream, { next, version: expected });
  if (named.size !== batch.streams.length) throw new MalformedBatchError("a stream is named twice");
  let at = batch.previous;
  for (const entry of batch.entries) {
    checkEntry(entry, at, batch.epoch);
    at = entry.recorded; // it has the fields of its own link
    const { stream, version } = entry.recorded;
    const before = named.get(stream);
    if (before === undefined) throw new MalformedBatchError(`stream ${stream} is not named`);
    if (version !== before.version + 1)
      throw new MalformedBatchError(`version ${version} of ${stream} does not follow ${before.version}`);
    before.version = version;
  }
  if (!sameLink(at, batch.last)) throw new MalformedBatchError("`last` is not the last entry");
  for (const [stream, { next, version }] of named) {
    if (version !== next) throw new MalformedBatchError(`\`next\` of ${stream} is not its last version`);
  }
  checkCommands(batch);
}

function checkCommands(batch: AppendBatch): void {
  if (new Set(batch.commands.map((c) => c.commandId)).size !== batch.commands.length) {
    throw new MalformedBatchError("a command id is named twice");
  }
  for (const { first, count } of batch.commands) {
    const inside = first > batch.previous.position && first + count - 1 <= batch.last.position;
    if (!inside || count < 0) throw new MalformedBatchError("a command's events lie outside the batch");
  }
}

/** @throws MalformedBatchError unless the entry directly follows `previous` */
export function checkEntry(entry: LogEntry, previous: Link, epoch: Epoch): void {
  const { recorded, bytes } = entry;
  if (recorded.position !== previous.position + 1) {
    throw new MalformedBatchError(`position ${recorded.position} does not follow ${previous.position}`);
  }
  if (recorded.epoch !== epoch) throw new MalformedBatchError(`position ${recorded.position} belongs to another epoch`);
  // The writer of an entry hashed it right after this hash, or it is hashed here.
  if (!WrittenEvent.isWrittenAfter(entry, previous.hash) && recorded.hash !== chainHash(previous.hash, bytes)) {
    throw new MalformedBatchError(`the hash at ${recorded.position} does not match its bytes`);
  }
}

/** Makes the first event of an epoch and checks it. @throws MalformedBatchError */
export function makeFirstEvent(
  request: OpenEpochRequest,
  at: Readonly<{ epoch: Epoch; previous: Link; streamVersion: number }>,
): LogEntry {
  const entry = request.firstEvent(at);
  checkEntry(entry, at.previous, at.epoch);
  const { event, stream, version } = entry.recorded;
  const opens = event.type === "EpochOpened" && event.epoch === at.epoch && event.incarnation === request.incarnation;
  if (!opens) throw new MalformedBatchError("the first event of an epoch must be its own EpochOpened");
  if (stream !== clusterStream || version !== at.streamVersion) {
    throw new MalformedBatchError("EpochOpened is not at the stream version that it was given");
  }
  return entry;
}

export function epochToOpen(request: Pick<OpenEpochRequest, "expected" | "atLeast">): Epoch {
  return nextEpoch(Math.max(request.expected, request.atLeast - 1));
}

/** The state of a log that the rules need, read inside its transaction. */
export type LogView = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation | null;
  head: Link;
  findCommand(commandId: CommandId): Readonly<{ first: Position; count: number }> | undefined;
  /** 0 for a stream that does not exist. */
  versionOf(stream: Stream): number;
}>;

type Refusal<Outcome extends { type: string }> = Exclude<
  Outcome,
  { type: "appended" | "beaten" | "indeterminate" | "unavailable" }
>;

/** @returns undefined when the batch may be written */
export function refuseAppend(batch: AppendBatch, log: LogView): Refusal<AppendOutcome> | undefined {
  const stepDown = refuseBeat({ epoch: batch.epoch, incarnation: batch.incarnation, head: batch.previous }, log);
  if (stepDown !== undefined) return stepDown;
  for (const { commandId } of batch.commands) {
    const made = log.findCommand(commandId);
    if (made !== undefined) return { type: "duplicate-command", commandId, first: made.first, count: made.count };
  }
  const conflicts = batch.streams
    .map(({ stream, expected }) => ({ stream, expected, actual: log.versionOf(stream) }))
    .filter(({ expected, actual }) => expected !== actual)
    .map(({ stream, actual }) => ({ stream, actual }));
  return conflicts.length === 0 ? undefined : { type: "version-conflict", streams: conflicts };
}

/** @returns undefined when the writer still owns the epoch and its head equals the head of the log */
export function refuseBeat(
  writer: Readonly<{ epoch: Epoch; incarnation: Incarnation; head: Link }>,
  log: Pick<LogView, "epoch" | "incarnation" | "head">,
): Refusal<BeatOutcome> | undefined {
  if (log.epoch !== writer.epoch || log.incarnation !== writer.incarnation) return { type: "fenced", epoch: log.epoch };
  return sameLink(log.head, writer.head) ? undefined : { type: "head-moved", head: log.head };
}

/**
 * Checks the link of a reader before any event is read.
 *
 * A reader ahead of the horizon is forked only when a later epoch is known to be durable at or before its position (the
 * epoch-end check, docs/protocol.md §4.2). Otherwise nothing may be concluded: the server may be an old primary, or may
 * not have the newest horizon yet.
 * @param log `first` is the oldest event kept. `at` is the link at the reader's position, if there is one (this
 * includes the base)
 * @returns undefined when the reader may continue from its link
 */
export function judgeReader(
  after: Link,
  log: Readonly<{ horizon: Link; first: Position; at: Link | undefined }>,
): ReadOutcome | undefined {
  const { horizon, first, at } = log;
  if (after.position > horizon.position)
    return after.epoch < horizon.epoch ? { type: "forked", head: horizon } : nothing();
  if (after.position === 0) {
    if (!sameLink(after, genesis)) return { type: "forked", head: horizon };
    if (horizon.position === 0) return nothing();
    return first > 1 ? { type: "truncated", first } : undefined;
  }
  if (at === undefined) return { type: "truncated", first };
  if (!sameLink(after, at)) return { type: "forked", head: horizon };
  return after.position === horizon.position ? nothing() : undefined;

  function nothing(): ReadOutcome {
    return { type: "page", page: { previous: after, entries: [], last: after, head: horizon } };
  }
}

/**
 * Where a store drops rows one by one, one step of retention drops at most this many, so that it delays no append.
 */
export const droppedEventsMax = 10_000;
export const keysPageMax = 10_000;

/** @returns undefined when the writer may drop events */
export function refuseRetain(
  { epoch, incarnation, holding }: RetainRequest,
  log: Pick<LogView, "epoch" | "incarnation"> & Readonly<{ linkAt: (position: Position) => Link | undefined }>,
): Extract<RetainOutcome, { type: "fenced" | "not-held" }> | undefined {
  if (log.epoch !== epoch || log.incarnation !== incarnation) return { type: "fenced", epoch: log.epoch };
  if (holding === undefined) return undefined;
  const at = log.linkAt(holding.position);
  return at !== undefined && sameLink(at, holding) ? undefined : { type: "not-held" };
}

/**
 * The state of a log that a restore needs. `restoring`: the restore has begun, and no epoch has been opened over it
 * yet.
 */
export type RestoreView = Readonly<{ empty: boolean; restoring: boolean; head: Link }>;

/** @throws LogRefusedError unless the state of the log allows the step */
export function checkRestoring(step: RestoreStep["type"], log: RestoreView): void {
  if (step === "begin" && !log.empty)
    throw new LogRefusedError("a restore needs an empty log, and this one holds events");
  if (step !== "begin" && !log.restoring) throw new LogRefusedError("this log is not being restored");
}

/** @throws LogRefusedError, MalformedBatchError unless the step is allowed */
export function checkRestore(step: RestoreStep, log: RestoreView): void {
  checkRestoring(step.type, log);
  if (step.type === "keys" || step.type === "configurations") return;
  if (step.type === "begin") {
    const last = step.epochs.at(-1);
    if (last !== undefined && (last.epoch !== step.base.epoch || last.start > step.base.position))
      throw new MalformedBatchError("the epochs do not lead to the position where the log begins");
    return;
  }
  let at = log.head;
  for (const entry of step.entries) {
    const { event, epoch, position } = entry.recorded;
    const follows = event.type === "EpochOpened" ? epoch > at.epoch : epoch === at.epoch;
    if (!follows)
      throw new MalformedBatchError(`the event at ${position} belongs to another epoch than the one before it`);
    checkEntry(entry, at, epoch);
    at = linkOf(entry.recorded);
  }
}

export function pageLimit(limit: number): number {
  return Math.max(1, Math.min(pageEventsMax, Math.floor(limit)));
}
