/**
 * Recorder: takes decision records off the request path and hands them to the sinks in batches.
 *
 * `record` numbers, writes a line into the journal (record-buffer.ts) and returns: no waiting, no throwing. Each sink has a queue of its own
 * (sink-queue.ts): its own bounded queue and its own pace. Best effort: what is queued when the process is killed is lost. Numbers are
 * reserved on disk (record-numbers.ts), so the next boot declares what may be missing with a gap record.
 */
import type { DecisionRecord, RecordDecision } from "../auth/index.ts";
import type { BootId, NodeId, UnixMs } from "../events/index.ts";
import { gapOfEndedBoot, toLine } from "./audit-record.ts";
import { createLineFormatter } from "./decision-line.ts";
import { type AuditBatch, RecordBuffer } from "./record-buffer.ts";
import type { RecordNumbers } from "./record-numbers.ts";
import { createSinkQueue, type SinkQueue, type SinkStats } from "./sink-queue.ts";

export type AuditSink = Readonly<{
  name: string;
  /**
   * Resolves when the records are the sink's own responsibility; rejects to have the very same batch offered again. Called
   * once at a time. The bytes of a batch are the sink's until it has settled, and no longer.
   */
  write(batch: AuditBatch): Promise<void>;
  close(): Promise<void>;
}>;

const queueBytesDefault = 64 * 1024 * 1024;

export type RecorderStats = Readonly<{ recorded: number; sinks: readonly SinkStats[] }>;

export type Recorder = Readonly<{
  record: RecordDecision;
  stats(): RecorderStats;
  /** The newest number that every sink has taken. */
  written(): number;
  /** Writes what is queued, for at most this long. What is recorded from now on is lost, and counted as that. */
  close(timeoutMs: number): Promise<void>;
}>;

/** Settles after this long; early, either way, when the signal aborts. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

export function createRecorder(options: {
  node: NodeId;
  boot: BootId;
  sinks: readonly AuditSink[];
  /** Records that wait for one sink; what would be more is lost, the oldest first. */
  queueMax: number;
  /** The same bound in bytes; by default 64 MiB. */
  queueBytesMax?: number;
  /** How long records gather before they are written. */
  gatherMs: number;
  now: () => UnixMs;
  sleep: Sleep;
  onFailure: (sink: string, error: unknown) => void;
  /** Reserves the numbers on disk. Null or absent: a lost tail does not show after a restart. */
  numbers?: RecordNumbers | null;
}): Recorder {
  const { numbers = null } = options;
  let seq = 0;
  let closing = false;
  const buffer = new RecordBuffer();
  const formatLine = createLineFormatter();
  const queues: readonly SinkQueue[] = options.sinks.map((sink) =>
    createSinkQueue(sink, buffer, {
      ...options,
      queueBytesMax: options.queueBytesMax ?? queueBytesDefault,
      onReleased: () => buffer.forget(Math.min(...queues.map((queue) => queue.oldestNeeded()))),
    }),
  );
  if (numbers !== null && numbers.ended !== null && queues.length > 0) {
    const { node, boot, now } = options;
    seq++;
    buffer.append({ text: toLine(gapOfEndedBoot(numbers.ended, { node, boot, at: now() })), isAscii: false });
    for (const queue of queues) queue.notifyAppended();
  }
  return {
    record(decision: DecisionRecord) {
      seq++;
      numbers?.use(seq);
      if (queues.length > 0 && !closing) buffer.append(formatLine(seq, decision));
      for (const queue of queues) queue.notifyAppended();
    },
    written: () => Math.min(seq, ...queues.map((queue) => queue.newestWritten())),
    stats: () => ({ recorded: seq, sinks: queues.map((queue) => queue.stats()) }),
    async close(timeoutMs) {
      closing = true;
      await Promise.all(queues.map((queue) => queue.close(timeoutMs)));
      await numbers?.close();
    },
  };
}
