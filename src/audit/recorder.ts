/**
 * Recorder: numbers decision records and keeps them until every sink has them, off the request path.
 *
 *   decision → ring in memory → spool on disk → sinks, each at its own pace
 *
 * - `record` never waits or throws. Without room the record is lost, and a gap record declares its number.
 * - `recordDurably` resolves once the record would survive a power failure.
 * - Without a spool (no sink is configured) records only reach the tap.
 */
import type { DecisionRecord, RecordDecision } from "../auth/index.ts";
import { type BootId, CodedError, type NodeId, type UnixMs } from "../events/index.ts";
import { toLine } from "./audit-record.ts";
import type { AuditSink } from "./audit-sink.ts";
import type { ActRecord, CommandKind } from "./command-record.ts";
import { createLineFormatter } from "./decision-line.ts";
import { AuditSealer, type SealerStats, type SealPort } from "./seal/index.ts";
import { cursorName, cursorNameOf, SinkDelivery, type SinkStats } from "./sink-delivery.ts";
import {
  type AuditBatch,
  AuditNotDurableError,
  type Damage,
  gapRecordOf,
  type Line,
  type NotDurableReason,
  RecordRing,
  type Sleep,
  type SpoolDisk,
  SpoolStore,
  SpoolWriter,
} from "./spool/index.ts";

/** A decision after the spool was closed: nothing in the process should decide any more. */
export class AuditClosedError extends CodedError<"ERR_AUDIT_CLOSED"> {
  override readonly code = "ERR_AUDIT_CLOSED";
  constructor() {
    super("a decision was made after the audit spool was closed; it has no record, and no gap declares it");
  }
}

export class AuditLostError extends CodedError<"ERR_AUDIT_LOST"> {
  override readonly code = "ERR_AUDIT_LOST";
  readonly count: number;
  constructor(count: number) {
    super(`${count} decision records were not stored before the shutdown; the next boot declares them`);
    this.count = count;
  }
}

export type RecorderStats = Readonly<{
  recorded: number;
  /** Decisions whose record had no room. */
  dropped: number;
  /** Numbers that were used before they were reserved on disk: if the process is killed, their loss is not declared. */
  unreserved: number;
  /** Records and bytes in memory that are not durable yet. */
  pending: number;
  pendingBytes: number;
  spoolBytes: number;
  /** Why strict records are refused now; null: they are not, or there is no spool. */
  refusal: NotDurableReason | null;
  sinks: readonly SinkStats[];
  /** Null: nothing is sealed. */
  seal: SealerStats | null;
}>;

export type Recorder = Readonly<{
  record: RecordDecision;
  /** As `record`, but once it is in the spool, retention must not drop it. */
  recordKept: RecordDecision;
  /** An act of an operator, or a sign-in or sign-out. As `record`. */
  recordCommand(kind: CommandKind, act: Omit<ActRecord, "node" | "boot">): void;
  /** Strict. @throws AuditNotDurableError */
  recordDurably(decision: DecisionRecord): Promise<void>;
  stats(): RecorderStats;
  /** Whether every sink has everything that is stored, gaps included. */
  isDelivered(): boolean;
  /** Stores what is in memory, and waits for the sinks, for at most this long. What sinks do not have stays stored. */
  close(timeoutMs: number): Promise<void>;
}>;

export type RecorderOptions = Readonly<{
  node: NodeId;
  boot: BootId;
  /** Null: no record is stored. */
  spool: Readonly<{
    disk: SpoolDisk;
    bytesMax: number;
    /** Bound of the number of files with records. */
    segmentsMax?: number;
    /** Bound of the pages of records in memory that are on disk already, for sinks that keep up. */
    recentPagesMax?: number;
    sinks: readonly AuditSink[];
    /** Absent: the roots of the records are not sealed into the log. */
    seal?: Readonly<{ port: SealPort; everyMs: number; longRecords?: number; stepRecords?: number }>;
  }> | null;
  /** Gets every record soon after its decision, stored or not. */
  tap?: (batch: AuditBatch) => void;
  /** Bound of the records in memory. */
  ringBytesMax?: number;
  gatherMs?: number;
  syncMs?: number;
  strictMs?: number;
  nowMs: () => number;
  monotonicMs: () => number;
  sleep: Sleep;
  onFailure: (what: string, error: unknown) => void;
  onDamage: (damage: Damage) => void;
}>;

const ringBytesDefault = 32 * 1_024 * 1_024;
const gatherMsDefault = 10;
const syncMsDefault = 100;
const strictMsDefault = 1_000;
const tapMs = 50;
const sinkGatherMs = 50;
const closePollMs = 10;

export async function createRecorder(options: RecorderOptions): Promise<Recorder> {
  const { node, boot, spool, onFailure } = options;
  const ring = new RecordRing(options.ringBytesMax ?? ringBytesDefault);
  const formatLine = createLineFormatter();
  let durable = 0;
  const release = (): void => ring.release(spool === null ? tap.last() : Math.min(durable, tap.last()));
  const tap = createTap(ring, { ...options, onFlushed: release });
  const onDurable = (number: number): void => {
    durable = number;
    tap.flush();
  };
  const parts = spool === null ? null : await startSpool(spool, { ...options, ring, onDurable });
  let closing = false;
  /** Nothing is written any more. */
  let sealed = false;
  let late = false;

  function append(decision: DecisionRecord): boolean {
    return appendLine(formatLine(ring.last + 1, decision), decision.at);
  }

  function appendLine(line: Line, at: UnixMs): boolean {
    if (sealed && !late) onFailure("spool", new AuditClosedError());
    late = sealed;
    const isFull = sealed || parts?.store.full === true;
    if (isFull) ring.drop("spool_full", at);
    const appended = !isFull && ring.append(line, at);
    parts?.writer.notify(ring.last);
    tap.notify();
    return appended;
  }

  return {
    record(decision) {
      append(decision);
    },
    recordKept(decision) {
      if (append(decision)) parts?.writer.markStrict(ring.last);
    },
    recordCommand(kind, act) {
      appendLine({ text: toLine({ kind, seq: ring.last + 1, node, boot, ...act }), isAscii: false }, act.at);
    },
    recordDurably(decision) {
      const refusal = parts === null || closing ? "closed" : parts.writer.refusal();
      if (parts === null || refusal !== null) return Promise.reject(new AuditNotDurableError(refusal ?? "closed"));
      if (!append(decision)) return Promise.reject(new AuditNotDurableError("busy"));
      parts.writer.markStrict(ring.last);
      return parts.writer.waitFor(ring.last);
    },
    stats: () => ({
      recorded: ring.last,
      dropped: ring.dropped,
      pending: ring.last - durable,
      pendingBytes: ring.bytes,
      ...spoolStatsOf(parts),
    }),
    isDelivered: () => durable === ring.last && (parts?.deliveries.every(({ isIdle }) => isIdle) ?? true),
    async close(timeoutMs) {
      if (closing) return;
      closing = true;
      tap.flush();
      if (parts !== null) await closeSpool(parts, { ...options, timeoutMs });
      sealed = true;
      if (parts !== null && durable < ring.last) onFailure("spool", new AuditLostError(ring.last - durable));
    },
  };
}

type SpoolParts = Readonly<{
  store: SpoolStore;
  writer: SpoolWriter;
  deliveries: readonly SinkDelivery[];
  /** Undefined: nothing is sealed. */
  sealer: AuditSealer | undefined;
}>;

function spoolStatsOf(
  parts: SpoolParts | null,
): Pick<RecorderStats, "unreserved" | "spoolBytes" | "refusal" | "sinks" | "seal"> {
  if (parts === null) return { unreserved: 0, spoolBytes: 0, refusal: null, sinks: [], seal: null };
  const { store, writer, deliveries, sealer } = parts;
  return {
    unreserved: writer.unreserved,
    spoolBytes: store.bytes,
    refusal: writer.refusal(),
    sinks: deliveries.map((delivery) => delivery.stats()),
    seal: sealer?.stats() ?? null,
  };
}

/** Whether it is worth to wait for the sink. */
const isBusy = ({ isIdle, failing }: SinkDelivery): boolean => !isIdle && !failing;

async function startSpool(
  { sinks, seal, ...bounds }: NonNullable<RecorderOptions["spool"]>,
  options: RecorderOptions & Pick<ConstructorParameters<typeof SpoolWriter>[0], "ring" | "onDurable">,
): Promise<SpoolParts> {
  const { node, boot, nowMs, monotonicMs, sleep, onFailure, onDamage, ring, onDurable } = options;
  const { disk } = bounds;
  const store = new SpoolStore({ ...bounds, node, boot, nowMs, onDamage });
  await store.open();
  const deliveries: SinkDelivery[] = [];
  const cursor = { node, boot, nowMs, onDamage };
  const onStored = (): void => writer?.notifyDelivered();
  let writer: SpoolWriter | undefined;
  const common = { store, disk, cursor, gatherMs: sinkGatherMs, nowMs, monotonicMs, sleep, onFailure, onStored };
  for (const sink of sinks) deliveries.push(await SinkDelivery.open(sink, common));
  await forgetSinks(disk, sinks);
  const sealFailure = (error: unknown): void => onFailure("seal", error);
  const sealer = seal && (await AuditSealer.open({ ...common, ...seal, node, boot, onFailure: sealFailure }));
  writer = new SpoolWriter({
    ring,
    store,
    node,
    boot,
    nowMs,
    monotonicMs,
    sleep,
    onDurable,
    positions: () => ({ sinks: deliveries.map(({ position }) => position), sealer: sealer?.position ?? null }),
    gatherMs: options.gatherMs ?? gatherMsDefault,
    syncMs: options.syncMs ?? syncMsDefault,
    strictMs: options.strictMs ?? strictMsDefault,
    onFailure: (error) => onFailure("spool", error),
    onUnremoved: (error) => onFailure("spool files", error),
  });
  await writer.started;
  return { store, writer, deliveries, sealer };
}

/** Records that are made meanwhile are stored, too. */
async function closeSpool(
  { writer, deliveries, sealer }: SpoolParts,
  { timeoutMs, monotonicMs, sleep }: Pick<RecorderOptions, "monotonicMs" | "sleep"> & Readonly<{ timeoutMs: number }>,
): Promise<void> {
  const until = monotonicMs() + timeoutMs;
  const left = (): number => Math.max(0, until - monotonicMs());
  await writer.close(left());
  for (const delivery of deliveries) delivery.flush();
  while (left() > 0 && deliveries.some(isBusy)) await sleep(closePollMs);
  await Promise.all(deliveries.map((delivery) => delivery.close(left())));
  await writer.close(left());
  writer.seal();
  await sealer?.close(left());
}

/** A sink that is no longer configured would keep a position that the spool moves away from. */
async function forgetSinks(disk: SpoolDisk, sinks: readonly AuditSink[]): Promise<void> {
  const known = new Set(sinks.map(cursorNameOf));
  for (const { name } of await disk.list()) if (cursorName.test(name) && !known.has(name)) await disk.remove(name);
}

/** Copies records from the ring to the tap, whatever the disk does. */
function createTap(
  ring: RecordRing,
  options: Pick<RecorderOptions, "tap" | "node" | "boot" | "sleep"> & Readonly<{ onFlushed: () => void }>,
) {
  const { tap, node, boot, sleep } = options;
  let last = 0;
  let scheduled = false;

  function flush(): void {
    for (;;) {
      const chunk = tap === undefined ? undefined : ring.read(last, { flush: true });
      if (chunk === undefined) break;
      last = chunk.last;
      if (chunk.kind === "records") tap?.({ boot, ...chunk });
      else {
        const bytes = Buffer.from(`${JSON.stringify(gapRecordOf({ node, boot, ...chunk }))}\n`);
        tap?.({ boot, first: last, last, bytes });
      }
    }
    options.onFlushed();
  }

  return {
    last: () => (tap === undefined ? Number.POSITIVE_INFINITY : last),
    flush,
    notify() {
      if (scheduled) return;
      scheduled = true;
      void sleep(tapMs)
        .catch(() => undefined)
        .then(() => {
          scheduled = false;
          flush();
        });
    },
  };
}
