/**
 * Recorder: writes decision records to the sinks in batches, off the request path.
 *
 * - `record` numbers the decision, appends a line to the buffer (record-buffer.ts) and returns. It never waits or
 *   throws.
 * - Each sink has its own bounded queue (sink-queue.ts) and its own pace.
 * - Best effort: a killed process loses what is queued. Numbers are reserved on disk (record-numbers.ts), so the next
 *   boot declares possible losses with a gap record.
 */

import type { DecisionRecord, RecordDecision } from "../auth/index.ts";
import type { BootId, NodeId, UnixMs } from "../events/index.ts";
import { gapOfEndedBoot, toLine } from "./audit-record.ts";
import type { AuditSink, Sleep } from "./audit-sink.ts";
import { createLineFormatter } from "./decision-line.ts";
import { RecordBuffer } from "./record-buffer.ts";
import type { RecordNumbers } from "./record-numbers.ts";
import { createSinkQueue, type SinkQueue, type SinkStats } from "./sink-queue.ts";

const queueBytesDefault = 64 * 1024 * 1024;

export type RecorderStats = Readonly<{ recorded: number; sinks: readonly SinkStats[] }>;

export type Recorder = Readonly<{
  record: RecordDecision;
  stats(): RecorderStats;
  /** The newest number that every sink has written. */
  written(): number;
  /** Writes the queued records, for at most this long. Later records are lost and counted. */
  close(timeoutMs: number): Promise<void>;
}>;

export function createRecorder(options: {
  node: NodeId;
  boot: BootId;
  sinks: readonly AuditSink[];
  /** Most records that wait for one sink. Beyond this, the oldest are lost. */
  queueMax: number;
  /** The same bound in bytes; 64 MiB by default. */
  queueBytesMax?: number;
  /** How long records are gathered before they are written. */
  gatherMs: number;
  now: () => UnixMs;
  sleep: Sleep;
  onFailure: (sink: string, error: unknown) => void;
  /** Reserves the numbers on disk. Null or absent: losses at the end of a boot stay undetected. */
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
