/**
 * Lane: the way of records to one sink, in order.
 *
 *   offered ──→ waiting (bounded) ──→ one batch in flight ──→ the sink
 *
 * A batch in flight is never changed: when the sink fails, the very same batch is offered again, so that a sink can tell that
 * it has seen it. When too many wait, the oldest of those that wait are lost, and one gap record stands in their place that
 * says exactly which; what is in flight is never among them. Pure but for the time it is given.
 */
import type { BootId, NodeId, UnixMs } from "../events/index.ts";
import type { AuditRecord } from "./audit-record.ts";
import type { AuditSink, Sleep } from "./recorder.ts";

export type LaneStats = Readonly<{
  name: string;
  written: number;
  /** Decisions that the sink will never see; gap records say which, while the lane is open. */
  lost: number;
  queued: number;
  failing: boolean;
}>;

export type Lane = Readonly<{
  offer(record: AuditRecord): void;
  stats(): LaneStats;
  close(timeoutMs: number): Promise<void>;
}>;

const batchMax = 1_000;
const retryMsFirst = 100;
const retryMsMax = 5_000;
/** Of the queue, this part goes at once when it is full: one gap record for many rather than many for one each. */
const dropPart = 10;

export class AuditLostError extends Error {
  readonly code = "ERR_AUDIT_LOST";
  readonly count: number;
  constructor(count: number) {
    super(`${count} decision records were not written before the end`);
    this.name = "AuditLostError";
    this.count = count;
  }
}

export function createLane(
  sink: AuditSink,
  options: Readonly<{
    node: NodeId;
    boot: BootId;
    queueMax: number;
    gatherMs: number;
    now: () => UnixMs;
    sleep: Sleep;
    onFailure: (sink: string, error: unknown) => void;
  }>,
): Lane {
  let waiting: AuditRecord[] = [];
  let inFlight: readonly AuditRecord[] = [];
  let written = 0;
  let lost = 0;
  let failing = false;
  let running: Promise<void> | undefined;
  let state: "open" | "flushing" | "closed" = "open";
  const flushing = new AbortController();

  /** Ends early when the lane is to be flushed. */
  const pause = (ms: number): Promise<void> => options.sleep(ms, flushing.signal).catch(() => {});

  function makeRoom(): void {
    const part = Math.max(1, Math.ceil(options.queueMax / dropPart));
    const dropped = waiting.splice(0, waiting[0]?.kind === "gap" ? part + 1 : part);
    const [first, last] = [dropped[0], dropped.at(-1)];
    if (first === undefined || last === undefined) return;
    const known = first.kind === "gap" ? first : undefined; // of the last time there was no room
    const from = known?.first ?? first.seq;
    lost += last.seq - from + 1 - (known === undefined ? 0 : known.last - known.first + 1);
    const why = `the sink ${sink.name} fell behind`;
    waiting.unshift({
      kind: "gap",
      seq: last.seq,
      node: options.node,
      boot: options.boot,
      at: options.now(),
      first: from,
      last: last.seq,
      why,
    });
  }

  async function drain(): Promise<void> {
    if (state === "open") await pause(options.gatherMs);
    let retryMs = retryMsFirst;
    while (state !== "closed") {
      if (inFlight.length === 0) inFlight = waiting.splice(0, batchMax);
      if (inFlight.length === 0) return;
      try {
        await sink.write(inFlight);
        written += inFlight.length;
        inFlight = [];
        failing = false;
        retryMs = retryMsFirst;
        if (state === "open" && waiting.length > 0 && waiting.length < batchMax) await pause(options.gatherMs);
      } catch (error) {
        if (!failing) options.onFailure(sink.name, error);
        failing = true;
        // The last moments are for trying, though not without a breath between.
        if (state === "open") await pause(retryMs);
        else await options.sleep(retryMsFirst);
        retryMs = Math.min(retryMsMax, retryMs * 2);
      }
    }
  }

  function run(): void {
    running ??= drain().finally(() => {
      running = undefined;
      if (waiting.length > 0 && state !== "closed") run(); // offered between the last look and here
    });
  }

  return {
    offer(record) {
      if (state !== "open") {
        lost++;
        return;
      }
      if (waiting.length >= options.queueMax) makeRoom();
      waiting.push(record);
      run();
    },
    stats: () => ({ name: sink.name, written, lost, queued: waiting.length + inFlight.length, failing }),
    async close(timeoutMs) {
      if (state !== "open") return;
      state = "flushing";
      flushing.abort();
      const done = new AbortController();
      const timeUp = options.sleep(timeoutMs, done.signal).catch(() => {});
      await Promise.race([running, timeUp]);
      state = "closed";
      const left = [...inFlight, ...waiting];
      waiting = [];
      if (left.length > 0) {
        const decisions = left.filter((record) => record.kind === "decision").length;
        lost += decisions;
        options.onFailure(sink.name, new AuditLostError(decisions));
      }
      const closing = sink.close().catch((error: unknown) => options.onFailure(sink.name, error));
      await Promise.race([closing, timeUp]);
      done.abort();
    },
  };
}
