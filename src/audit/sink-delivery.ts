/**
 * Sink delivery: moves records from the spool to one sink, in order, at the sink's own pace. Pure, apart from the disk,
 * clock and timer that it is given.
 *
 * - At least once: the sink's position is stored after the records that it covers. After a crash the sink gets the last
 *   ones again.
 * - A sink with a `sync` is synced before its position is stored. If that fails, everything since the last sync is read
 *   and written again.
 * - A failing sink is tried again after a pause that grows to five seconds, or after the time that it asks for. Its
 *   records wait in the spool.
 * - A sink may ask for larger batches. Their records wait in the spool too, and the end of a batch is stored before it
 *   is written.
 * - A record that the sink rejects for what it is goes to the sink's dead-letter file. While that file is full, the
 *   sink waits instead: nothing is lost silently.
 */
import { hash } from "node:crypto";
import { parseBootId } from "../events/index.ts";
import { AuditPartlyRejectedError, AuditRejectedError, type AuditSink, AuditSinkBusyError } from "./audit-sink.ts";
import { DeadLetters } from "./dead-letters.ts";
import {
  type AuditBatch,
  type BatchEnd,
  backlogOf,
  type CursorBatch,
  type ReadOrder,
  type Sleep,
  SpoolCursor,
  type SpoolDisk,
  type SpoolPosition,
  type SpoolStore,
  spoolStart,
} from "./spool/index.ts";

export type SinkStats = Readonly<{
  name: string;
  written: number;
  /** When the sink last took records, by the clock of the process; null: not since the start. */
  writtenAtMs: number | null;
  /** Decisions that the sink surely never gets. Gap records name them. */
  lost: number;
  /** Records that wait in the spool, their bytes, and the age of the oldest. */
  queued: number;
  queuedBytes: number;
  lagMs: number;
  /** Records in the dead-letter file since the start. */
  deadLetters: number;
  failing: boolean;
}>;

export type DeliveryOptions = Readonly<{
  store: SpoolStore;
  disk: SpoolDisk;
  cursor: Omit<ConstructorParameters<typeof SpoolCursor>[1], "position" | "disk">;
  /** Between two batches, unless the sink is far behind. */
  gatherMs: number;
  nowMs: () => number;
  monotonicMs: () => number;
  sleep: Sleep;
  onFailure: (sink: string, error: unknown) => void;
  /** Called after the stored position changed. */
  onStored: () => void;
}>;

const retryMsFirst = 100;
const retryMsMax = 5_000;
/** A sink that asks for a longer pause is tried again after this one. */
const retryAfterMsMax = 300_000;
/** The position is stored at most this often, also when nothing more waits, but at once when the process ends. */
const storeEveryMs = 500;
/** Of a sink with a `sync`. */
const storeSyncedEveryMs = 1_000;
/** Such a sink is also synced when it has written so much: a longer sync would take the processor from requests. */
const syncEveryBytes = 4 * 1_024 * 1_024;
/** A batch of this size is followed by the next without a pause. */
const fullBatchBytes = 256 * 1_024;
/** A sink with a `sync` that falls behind gets longer and longer batches, up to this length. */
const batchBytesMax = 2 * 1_024 * 1_024;
/** With its line end, the file of a position fills one sector: a later one needs no further room, and tears nowhere. */
const stateBytesLeast = 511;

/** `changed`: resolves when the spool has more than the read began with. */
type Reading = Readonly<{ changed: Promise<void>; batch: Promise<CursorBatch | undefined> }>;

type Counts = Readonly<{ written: number; lost: number; deadLetters: number }>;
/** How far a sink is. `deliveredMs`: time of the newest delivered frame. */
type Progress = Readonly<{ position: SpoolPosition; counts: Counts; deliveredMs: number }>;

export class SinkDelivery {
  readonly #sink: AuditSink;
  readonly #options: DeliveryOptions;
  #cursor: SpoolCursor;
  readonly #stateName: string;
  readonly #deadLetters: DeadLetters;
  #stored: SpoolPosition;
  /** The end of the batch that follows the position, if an attempt to write it may have begun. */
  #begun: BatchEnd | null;
  /** `#begun` as it is stored. */
  #storedBegun: BatchEnd | null;
  #storedAt = Number.NEGATIVE_INFINITY;
  #delivered: SpoolPosition;
  /** At the last sync of a sink that has one. */
  #synced: Progress;
  #unsyncedBytes = 0;
  /** A sync failed: what was written since the last one is written again, after this pause. 0: none failed. */
  #rewindMs = 0;
  #mustRewind = false;
  /** Of the batch that is being written: the sink or the dead-letter file has the records up to this number. */
  #settled = 0;
  #counts: Counts = { written: 0, lost: 0, deadLetters: 0 };
  #failing = false;
  #writtenAtMs: number | null = null;
  /** Whether its position could be stored the last time. */
  #storing = true;
  #deliveredMs = 0;
  readonly #flushing = new AbortController();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** Continues where the sink was when the process last ended. */
  static async open(sink: AuditSink, options: DeliveryOptions): Promise<SinkDelivery> {
    const stored = parseStoredState(await options.disk.readSmall(cursorNameOf(sink)));
    return new SinkDelivery(sink, options, stored ?? null);
  }

  private constructor(sink: AuditSink, options: DeliveryOptions, stored: StoredState | null) {
    this.#sink = sink;
    this.#options = options;
    this.#stateName = cursorNameOf(sink);
    const file = `dead-letters-${idOf(sink)}.jsonl`;
    this.#deadLetters = new DeadLetters({ disk: options.disk, sink: sink.name, file });
    options.store.passIndex((stored?.position.index ?? 0) - 1);
    // A new sink gets what the spool has. From now on, whatever the spool loses is declared to it.
    const position = stored?.position ?? options.store.joinPosition;
    this.#begun = stored?.begun ?? null;
    this.#storedBegun = this.#begun;
    this.#stored = stored?.position ?? spoolStart;
    this.#delivered = position;
    this.#synced = this.#progress();
    this.#cursor = this.#openCursor();
    this.#running = this.#run();
  }

  /** What the sink has, by the file on disk. */
  get position(): SpoolPosition {
    return this.#stored;
  }

  /** Whether the sink has everything that is stored. */
  get isIdle(): boolean {
    if (this.#sink.sync !== undefined && this.#synced.position !== this.#delivered) return false;
    const { segments } = this.#options.store;
    const newest = segments.at(-1)?.index ?? 0;
    return this.#delivered.index >= newest && backlogOf(segments, this.#delivered).records === 0;
  }

  get failing(): boolean {
    return this.#failing;
  }

  stats(): SinkStats {
    const { store, nowMs } = this.#options;
    const { records, bytes, fromMs } = backlogOf(store.segments, this.#delivered);
    const lagMs = fromMs === null ? 0 : Math.max(0, nowMs() - Math.max(fromMs, this.#deliveredMs));
    const { name } = this.#sink;
    const counts = { ...this.#counts, writtenAtMs: this.#writtenAtMs };
    return { name, ...counts, queued: records, queuedBytes: bytes, lagMs, failing: this.#failing };
  }

  async #run(): Promise<void> {
    const { sleep, gatherMs } = this.#options;
    await this.#store({ now: true });
    let ahead: Reading | null = null;
    while (!this.#stop.signal.aborted) {
      await this.#gather();
      if (this.#mustRewind) {
        await ahead?.batch;
        ahead = null;
        await this.#rewind();
        continue;
      }
      const reading: Reading = ahead ?? this.#beginRead();
      ahead = null;
      const { changed } = reading;
      const batch = await reading.batch;
      if (batch === undefined) {
        if (!this.#stop.signal.aborted) {
          this.#delivered = this.#cursor.position; // past frames without records
          this.#begun = null;
        }
        await this.#storeOrWait(changed);
        continue;
      }
      if (this.#sink.batching !== undefined) {
        this.#begun = { boot: batch.boot, last: batch.last };
        await this.#store({ now: true });
      }
      if (this.#sink.batching === undefined && this.#begun === null && batch.bytes.length >= fullBatchBytes)
        ahead = this.#beginRead({ ahead: true }); // while the sink works
      await this.#deliver(batch);
      const mustSync = this.#failing || this.#unsyncedBytes >= syncEveryBytes; // failing: until it surely works
      if (mustSync && !this.#mustRewind) await this.#sync();
      await this.#store({ now: false });
      if (batch.bytes.length < fullBatchBytes) await sleep(gatherMs, this.#stop.signal).catch(() => undefined);
    }
    await ahead?.batch;
    await this.#store({ now: true });
  }

  /** Nothing more is there to deliver. Waits until there is, or until the position is due to be stored. */
  async #storeOrWait(changed: Promise<void>): Promise<void> {
    const [stop, flushing] = [this.#stop.signal, this.#flushing.signal];
    const leftMs = flushing.aborted ? 0 : this.#storedAt + this.#storeEveryMs - this.#options.monotonicMs();
    if (leftMs > 0 && !this.#isStored) {
      await this.#until(changed, { signals: [stop, flushing], ms: leftMs });
      return;
    }
    await this.#store({ now: true });
    if (!this.#mustRewind) await this.#until(changed, { signals: [stop] });
  }

  get #storeEveryMs(): number {
    return this.#sink.sync === undefined ? storeEveryMs : storeSyncedEveryMs;
  }

  get #isStored(): boolean {
    return this.#delivered === this.#stored && this.#begun === this.#storedBegun;
  }

  #beginRead(how: ReadOrder = {}): Reading {
    return { changed: this.#options.store.changed, batch: this.#read(how) };
  }

  #openCursor(): SpoolCursor {
    const { store, disk, cursor } = this.#options;
    const { batching, sync } = this.#sink;
    const limits = batching === undefined ? {} : { limits: batching };
    const growth = sync === undefined ? {} : { growsTo: batchBytesMax };
    return new SpoolCursor(store, { ...cursor, disk, position: this.#delivered, ...limits, ...growth });
  }

  #progress(): Progress {
    return { position: this.#delivered, counts: this.#counts, deliveredMs: this.#deliveredMs };
  }

  /** @returns whether the sink has everything that was written; if not, it is written again */
  async #sync(): Promise<boolean> {
    if (this.#sink.sync === undefined) return true;
    try {
      await this.#sink.sync();
    } catch (error) {
      this.#report(error);
      this.#mustRewind = true;
      return false;
    }
    this.#synced = this.#progress();
    this.#unsyncedBytes = 0;
    this.#rewindMs = 0;
    this.#failing = false;
    return true;
  }

  /** Continues where the sink was at its last sync. */
  async #rewind(): Promise<void> {
    this.#rewindMs = Math.min(retryMsMax, Math.max(retryMsFirst, this.#rewindMs * 2));
    await this.#options.sleep(this.#rewindMs, this.#stop.signal).catch(() => undefined);
    await this.#cursor.close().catch(() => undefined); // it is only read
    const { position, counts, deliveredMs } = this.#synced;
    this.#delivered = position;
    this.#counts = { ...counts, deadLetters: this.#counts.deadLetters };
    this.#deliveredMs = deliveredMs;
    this.#unsyncedBytes = 0;
    this.#mustRewind = false;
    this.#cursor = this.#openCursor();
  }

  /** Waits until the spool has a large or old enough batch for the sink. A batch that was begun is not changed. */
  async #gather(): Promise<void> {
    const { batching } = this.#sink;
    if (batching === undefined || this.#begun !== null) return;
    const { store, monotonicMs } = this.#options;
    const untilMs = monotonicMs() + batching.lingerMs;
    for (;;) {
      const { changed } = store;
      const { records, bytes } = backlogOf(store.segments, this.#delivered);
      const isFull = bytes >= batching.bytesMax || records >= batching.recordsMax;
      const leftMs = untilMs - monotonicMs();
      if (records === 0 || isFull || leftMs <= 0 || this.#flushing.signal.aborted || this.#stop.signal.aborted) return;
      await this.#store({ now: true });
      await this.#until(changed, { signals: [this.#stop.signal, this.#flushing.signal], ms: leftMs });
    }
  }

  /** Delivers what waits for a larger batch, and gathers no more. */
  flush(): void {
    this.#flushing.abort();
  }

  async #until(
    changed: Promise<void>,
    { signals, ms }: Readonly<{ signals: readonly AbortSignal[]; ms?: number }>,
  ): Promise<void> {
    if (signals.some(({ aborted }) => aborted)) return;
    const over = new AbortController();
    const stopped = Promise.withResolvers<void>();
    for (const signal of signals) signal.addEventListener("abort", () => stopped.resolve(), { signal: over.signal });
    const waits = [changed, stopped.promise];
    if (ms !== undefined) waits.push(this.#options.sleep(ms, over.signal).catch(() => undefined));
    await Promise.race(waits);
    over.abort();
  }

  async #read(how: ReadOrder): Promise<CursorBatch | undefined> {
    for (let retryMs = retryMsFirst; !this.#stop.signal.aborted; retryMs = Math.min(retryMsMax, retryMs * 2)) {
      try {
        return await this.#cursor.next(this.#begun ?? undefined, how);
      } catch (error) {
        await this.#cursor.close().catch(() => undefined); // it is opened again
        this.#report(error);
        if (isMissing(error) && retryMs > retryMsFirst) this.#cursor.skip();
        await this.#options.sleep(retryMs, this.#stop.signal).catch(() => undefined);
      }
    }
    return undefined;
  }

  /** Returns when the sink has the batch, or delivery stops, or earlier batches must be written again. */
  async #deliver(batch: CursorBatch): Promise<void> {
    this.#settled = 0;
    for (let retryMs = retryMsFirst; ; retryMs = Math.min(retryMsMax, retryMs * 2)) {
      try {
        await this.#write(batch);
        if (this.#sink.sync === undefined) this.#failing = false; // otherwise once it is synced
        const { written, lost, deadLetters } = this.#counts;
        this.#counts = { written: written + batch.records, lost: lost + batch.lost, deadLetters };
        this.#writtenAtMs = this.#options.nowMs();
        this.#unsyncedBytes += batch.bytes.length;
        this.#delivered = batch.after;
        this.#begun = null;
        this.#deliveredMs = batch.atMs;
        return;
      } catch (error) {
        this.#report(error);
        if (this.#stop.signal.aborted || !(await this.#keepWritten())) return;
        const askedMs = error instanceof AuditSinkBusyError ? Math.min(error.retryAfterMs, retryAfterMsMax) : 0;
        await this.#options.sleep(Math.max(retryMs, askedMs), this.#stop.signal).catch(() => undefined);
        if (this.#stop.signal.aborted) return;
      }
    }
  }

  /** After a failed write: what was written before it is synced, so that only its own batch is written again. */
  async #keepWritten(): Promise<boolean> {
    const wasFailing = this.#failing;
    const isKept = await this.#sync();
    this.#failing = wasFailing; // it still is
    return isKept;
  }

  /**
   * Halves a batch that the sink rejects, until the record that it rejects is alone. Another attempt, after a failure
   * in a later half, leaves out the halves that are settled: a rejected record is buried once.
   */
  async #write(batch: AuditBatch): Promise<void> {
    if (batch.last <= this.#settled) return;
    try {
      await this.#sink.write(batch);
    } catch (error) {
      // Which records of a part were rejected is not known, so the dead-letter file gets them all.
      if (error instanceof AuditPartlyRejectedError) await this.#bury(batch, error, error.rejected);
      else if (!(error instanceof AuditRejectedError)) throw error;
      else if (batch.first === batch.last) await this.#bury(batch, error, 1);
      else for (const half of halvesOf(batch)) await this.#write(half);
    }
    this.#settled = batch.last;
  }

  async #bury({ bytes }: AuditBatch, error: unknown, rejected: number): Promise<void> {
    await this.#deadLetters.append(bytes);
    this.#counts = { ...this.#counts, deadLetters: this.#counts.deadLetters + rejected };
    this.#options.onFailure(this.#sink.name, error);
  }

  #report(error: unknown): void {
    if (!this.#failing) this.#options.onFailure(this.#sink.name, error);
    this.#failing = true;
  }

  async #store({ now }: Readonly<{ now: boolean }>): Promise<void> {
    const { disk, monotonicMs, onStored, onFailure } = this.#options;
    const isDue = monotonicMs() - this.#storedAt >= this.#storeEveryMs;
    if (this.#isStored || this.#mustRewind || !(now || isDue)) return;
    this.#storedAt = monotonicMs();
    if (this.#synced.position !== this.#delivered && !(await this.#sync())) return;
    const position = this.#delivered;
    const begun = this.#begun;
    const state = JSON.stringify({ version: 1, sink: this.#sink.name, ...position, begun });
    const bytes = Buffer.from(`${state.padEnd(stateBytesLeast)}\n`);
    try {
      await disk
        .replace(this.#stateName, bytes)
        .catch((error: unknown) => (isDiskFull(error) ? this.#overwrite(bytes) : Promise.reject(error)));
      this.#stored = position;
      this.#storedBegun = begun;
      this.#storing = true;
      onStored();
    } catch (error) {
      // The sink itself works. It gets the records again if the process ends now.
      if (this.#storing) onFailure(this.#sink.name, error);
      this.#storing = false;
    }
  }

  /**
   * On a full disk, replacing the file would fail, and then what the sink has could never be removed. If the process
   * dies meanwhile and the file cannot be read, the sink gets its records again.
   */
  async #overwrite(bytes: Buffer): Promise<void> {
    const file = await this.#options.disk.open(this.#stateName);
    try {
      await file.write([bytes], 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Stops before the next batch. A batch in flight is waited for until the time is over. */
  async close(timeoutMs: number): Promise<void> {
    const { sleep, onFailure } = this.#options;
    this.#stop.abort();
    const timeUp = new AbortController();
    const closing = this.#running.then(async () => {
      await this.#cursor.close();
      await this.#deadLetters.close();
      await this.#sink.close();
    });
    const reported = closing.catch((error: unknown) => onFailure(this.#sink.name, error));
    await Promise.race([reported, sleep(timeoutMs, timeUp.signal).catch(() => undefined)]);
    timeUp.abort();
  }
}

function idOf({ name }: Pick<AuditSink, "name">): string {
  return hash("sha256", name, "hex").slice(0, 16);
}

/** The file of the sink's position. */
export function cursorNameOf(sink: Pick<AuditSink, "name">): string {
  return `cursor-${idOf(sink)}.json`;
}

export const cursorName = /^cursor-[0-9a-f]{16}\.json$/;

/** What the file of a sink's position says. */
export type StoredState = Readonly<{ position: SpoolPosition; begun: BatchEnd | null }>;

/** @returns undefined if there is none: the sink then gets everything that the spool has */
export function parseStoredState(bytes: Buffer | null): StoredState | undefined {
  if (bytes === null) return undefined;
  try {
    const { index, offset, boot, next, begun } = JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
    const numbers = [index, offset, next].map(Number);
    if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0)) return undefined;
    const [at = 0, from = 0, following = 0] = numbers;
    const position = { index: at, offset: from, next: following, boot: boot === null ? null : parseBootId(boot) };
    return { position, begun: endIn(begun) };
  } catch {
    return undefined;
  }
}

function endIn(value: unknown): BatchEnd | null {
  if (typeof value !== "object" || value === null || !("boot" in value) || !("last" in value)) return null;
  const { boot, last } = value;
  return Number.isSafeInteger(last) ? { boot: parseBootId(boot), last: Number(last) } : null;
}

function halvesOf({ boot, first, last, bytes }: AuditBatch): readonly [AuditBatch, AuditBatch] {
  const middle = Math.floor((first + last) / 2);
  let at = 0;
  for (let number = first; number <= middle; number++) at = bytes.indexOf(0x0a, at) + 1;
  return [
    { boot, first, last: middle, bytes: bytes.subarray(0, at) },
    { boot, first: middle + 1, last, bytes: bytes.subarray(at) },
  ];
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
