/**
 * Sink queue: delivers records to one sink, in order. Pure, apart from the clock and timer that it is given.
 *
 *   record buffer ──→ waiting (bounded) ──→ one batch in flight ──→ sink
 *
 * - A batch in flight never changes. After a failure the same batch is written again, so a sink can detect repetitions.
 * - If too many records wait, the oldest are dropped and one gap record names their numbers. A batch in flight is never
 *   dropped.
 */
import { type BootId, CodedError, type NodeId, type UnixMs } from "../events/index.ts";
import { toLine } from "./audit-record.ts";
import type { AuditSink, Sleep } from "./audit-sink.ts";
import type { AuditBatch, RecordBuffer } from "./record-buffer.ts";

export type SinkStats = Readonly<{
  name: string;
  written: number;
  /** Decisions that the sink never gets. While the queue is open, gap records name them. */
  lost: number;
  queued: number;
  queuedBytes: number;
  failing: boolean;
}>;

export type SinkQueue = Readonly<{
  /** Called after a record was appended to the buffer. */
  notifyAppended(): void;
  /** The number of the first record that is in flight or may still be read from the buffer. */
  oldestNeeded(): number;
  /** The newest number that the sink has written, itself or as part of a gap record. */
  newestWritten(): number;
  stats(): SinkStats;
  close(timeoutMs: number): Promise<void>;
}>;

/** With this many records waiting, the next batch is written without a pause. */
const fullBatchRecords = 1_000;
const retryMsFirst = 100;
const retryMsMax = 5_000;
/** A full queue drops one tenth at once, so that one gap record covers many records. */
const dropDivisor = 10;

export class AuditLostError extends CodedError<"ERR_AUDIT_LOST"> {
  override readonly code = "ERR_AUDIT_LOST";
  readonly count: number;
  constructor(count: number) {
    super(`${count} decision records were not written before the shutdown`);
    this.count = count;
  }
}

/** The records that were dropped. */
type Gap = Readonly<{ first: number; last: number; at: UnixMs }>;
type InFlight = Readonly<{ batch: AuditBatch; decisions: number }>;

export function createSinkQueue(
  sink: AuditSink,
  buffer: RecordBuffer,
  options: Readonly<{
    node: NodeId;
    boot: BootId;
    queueMax: number;
    queueBytesMax: number;
    gatherMs: number;
    now: () => UnixMs;
    sleep: Sleep;
    onFailure: (sink: string, error: unknown) => void;
    /** Called when the buffer may forget more records. */
    onReleased: () => void;
  }>,
): SinkQueue {
  /** The number of the first waiting record, and of the last appended one. */
  let next = buffer.last + 1;
  let lastAppended = buffer.last;
  /** Bytes of all records before the first waiting one. */
  let bytesBeforeNext = buffer.totalBytes;
  let gap: Gap | undefined;
  let inFlight: InFlight | undefined;
  let newestWritten = buffer.last;
  let written = 0;
  let lost = 0;
  let failing = false;
  let running: Promise<void> | undefined;
  let state: "open" | "flushing" | "closed" = "open";
  const flushing = new AbortController();

  const waitingCount = (): number => lastAppended - next + 1 + (gap === undefined ? 0 : 1);
  /** Ends early when the queue is flushed. */
  const pause = (ms: number): Promise<void> => options.sleep(ms, flushing.signal).catch(() => {});

  const isOverBytes = (): boolean =>
    lastAppended >= next && buffer.totalBytes - bytesBeforeNext > options.queueBytesMax;

  function dropOldest(): void {
    const target = Math.max(1, Math.ceil(Math.min(options.queueMax, lastAppended - next + 1) / dropDivisor));
    const dropped = Math.min(target, lastAppended - next + 1);
    if (dropped === 0) return;
    gap = { first: gap?.first ?? next, last: next + dropped - 1, at: options.now() };
    lost += dropped;
    next += dropped;
    bytesBeforeNext = buffer.bytesBefore(next);
    options.onReleased();
  }

  function takeBatch(): InFlight | undefined {
    if (gap !== undefined) {
      const taken = gapBatch(gap);
      gap = undefined;
      return taken;
    }
    const batch = next > lastAppended ? undefined : buffer.read(next);
    if (batch === undefined) return undefined;
    const decisions = batch.last - next + 1;
    next = batch.last + 1;
    bytesBeforeNext = buffer.bytesBefore(next);
    return { batch, decisions };
  }

  function gapBatch({ first, last: seq, at }: Gap): InFlight {
    const { node, boot } = options;
    const why = `the sink ${sink.name} fell behind`;
    const line = toLine({ kind: "gap", seq, node, boot, at, first, last: seq, why });
    return { batch: { first: seq, last: seq, bytes: Buffer.from(line) }, decisions: 0 };
  }

  async function drain(): Promise<void> {
    if (state === "open") await pause(options.gatherMs);
    let retryMs = retryMsFirst;
    while (state !== "closed") {
      inFlight ??= takeBatch();
      if (inFlight === undefined) return;
      try {
        await sink.write(inFlight.batch);
        written += inFlight.batch.last - inFlight.batch.first + 1;
        newestWritten = inFlight.batch.last;
        inFlight = undefined;
        options.onReleased();
        failing = false;
        retryMs = retryMsFirst;
        if (state === "open" && waitingCount() > 0 && waitingCount() < fullBatchRecords) await pause(options.gatherMs);
      } catch (error) {
        if (!failing) options.onFailure(sink.name, error);
        failing = true;
        // While flushing, retry often, but not without a pause.
        if (state === "open") await pause(retryMs);
        else await options.sleep(retryMsFirst);
        retryMs = Math.min(retryMsMax, retryMs * 2);
      }
    }
  }

  function run(): void {
    running ??= drain().finally(() => {
      running = undefined;
      if (waitingCount() > 0 && state !== "closed") run(); // appended after the last check
    });
  }

  return {
    notifyAppended() {
      if (state !== "open") {
        lost++;
        return;
      }
      if (waitingCount() >= options.queueMax) dropOldest();
      while (isOverBytes()) dropOldest();
      lastAppended = buffer.last;
      run();
    },
    oldestNeeded: () => (state === "closed" ? Infinity : (inFlight?.batch.first ?? next)),
    newestWritten: () => newestWritten,
    stats: () => ({
      name: sink.name,
      written,
      lost,
      queued: waitingCount() + (inFlight === undefined ? 0 : inFlight.batch.last - inFlight.batch.first + 1),
      queuedBytes: Math.max(0, buffer.totalBytes - bytesBeforeNext) + (inFlight?.batch.bytes.length ?? 0),
      failing,
    }),
    async close(timeoutMs) {
      if (state !== "open") return;
      state = "flushing";
      flushing.abort();
      const done = new AbortController();
      const timeUp = options.sleep(timeoutMs, done.signal).catch(() => {});
      await Promise.race([running, timeUp]);
      state = "closed";
      const left = waitingCount() > 0 || inFlight !== undefined;
      const decisions = lastAppended - next + 1 + (inFlight?.decisions ?? 0);
      next = lastAppended + 1;
      gap = undefined;
      options.onReleased();
      if (left) {
        lost += decisions;
        options.onFailure(sink.name, new AuditLostError(decisions));
      }
      const closing = sink.close().catch((error: unknown) => options.onFailure(sink.name, error));
      await Promise.race([closing, timeUp]);
      done.abort();
    },
  };
}
