/**
 * Recorder: takes decision records off the request path and hands them to the sinks in batches.
 *
 * `record` numbers, writes a line into the journal (journal.ts) and returns: no waiting, no throwing. Each sink has a lane of its own
 * (lane.ts): its own bounded queue and its own pace. Best effort: what is queued when the process is killed is lost and shows as
 * missing numbers.
 */
import type { DecisionRecord, RecordDecision } from "../auth/index.ts";
import type { BootId, NodeId, UnixMs } from "../events/index.ts";
import { createLineMaker } from "./decision-line.ts";
import { type AuditBatch, Journal } from "./journal.ts";
import { createLane, type Lane, type LaneStats } from "./lane.ts";

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

export type RecorderStats = Readonly<{ recorded: number; sinks: readonly LaneStats[] }>;

export type Recorder = Readonly<{
  record: RecordDecision;
  stats(): RecorderStats;
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
}): Recorder {
  let seq = 0;
  let closing = false;
  const journal = new Journal();
  const lineOf = createLineMaker();
  const lanes: readonly Lane[] = options.sinks.map((sink) =>
    createLane(sink, journal, {
      ...options,
      queueBytesMax: options.queueBytesMax ?? queueBytesDefault,
      onTaken: () => journal.forget(Math.min(...lanes.map((lane) => lane.needs()))),
    }),
  );
  return {
    record(decision: DecisionRecord) {
      seq++;
      if (lanes.length > 0 && !closing) journal.append(lineOf(seq, decision));
      for (const lane of lanes) lane.offered();
    },
    stats: () => ({ recorded: seq, sinks: lanes.map((lane) => lane.stats()) }),
    async close(timeoutMs) {
      closing = true;
      await Promise.all(lanes.map((lane) => lane.close(timeoutMs)));
    },
  };
}
