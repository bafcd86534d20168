/**
 * Sink delivery: moves records from the spool to one sink, in order, at the sink's own pace. Pure, apart from the disk,
 * clock and timer that it is given.
 *
 * - At least once: the sink's position is stored after the records that it covers. After a crash the sink gets the last
 *   ones again.
 * - A failing sink is tried again after a pause that grows to five seconds, or after the time that it asks for. Its
 *   records wait in the spool.
 * - A sink may ask for larger batches. Their records wait in the spool too, and the end of a batch is stored before it
 *   is written.
 * - A record that the sink rejects for what it is goes to the sink's dead-letter file. While that file is full, the
 *   sink waits instead: nothing is lost silently.
 */
import { hash } from "node:crypto";
import { CodedError, parseBootId } from "../events/index.ts";
import { AuditPartlyRejectedError, AuditRejectedError, type AuditSink, AuditSinkBusyError } from "./audit-sink.ts";
import {
  type AuditBatch,
  type BatchEnd,
  backlogOf,
  type CursorBatch,
  type Sleep,
  SpoolCursor,
  type SpoolDisk,
  type SpoolFile,
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

export class DeadLettersFullError extends CodedError<"ERR_AUDIT_DEAD_LETTERS_FULL"> {
  override readonly code = "ERR_AUDIT_DEAD_LETTERS_FULL";
  constructor(sink: string, file: string) {
    super(`the dead-letter file ${file} of the sink ${sink} is full; move it away`);
  }
}

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
/** A batch of this size is followed by the next without a pause. */
const fullBatchBytes = 256 * 1_024;
const deadLetterBytesMax = 64 * 1_024 * 1_024;
/** With its line end, the file of a position fills one sector: a later one needs no further room, and tears nowhere. */
const stateBytesLeast = 511;
const lineEnd = Buffer.from("\n");

/** `changed`: resolves when the spool has more than the read began with. */
type Reading = Readonly<{ changed: Promise<void>; batch: Promise<CursorBatch | undefined> }>;

export class SinkDelivery {
  readonly #sink: AuditSink;
  readonly #options: DeliveryOptions;
  readonly #cursor: SpoolCursor;
  readonly #stateName: string;
  readonly #deadName: string;
  #stored: SpoolPosition;
  /** The end of the batch that follows the position, if an attempt to write it may have begun. */
  #begun: BatchEnd | null;
  /** `#begun` as it is stored. */
  #storedBegun: BatchEnd | null;
  #storedAt = Number.NEGATIVE_INFINITY;
  #delivered: SpoolPosition;
  #dead: Readonly<{ file: SpoolFile; at: number; torn: boolean }> | null = null;
  /** Of the batch that is being written: the sink or the dead-letter file has the records up to this number. */
  #settled = 0;
  #counts = { written: 0, lost: 0, deadLetters: 0 };
  #failing = false;
  #writtenAtMs: number | null = null;
  /** Whether its position could be stored the last time. */
  #storing = true;
  /** Time of the newest delivered frame. */
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
    this.#deadName = `dead-letters-${idOf(sink)}.jsonl`;
    options.store.passIndex((stored?.position.index ?? 0) - 1);
    // A new sink gets what the spool has. From now on, whatever the spool loses is declared to it.
    const position = stored?.position ?? options.store.joinPosition;
    this.#begun = stored?.begun ?? null;
    this.#storedBegun = this.#begun;
    this.#stored = stored?.position ?? spoolStart;
    this.#delivered = position;
    const limits = sink.batching === undefined ? {} : { limits: sink.batching };
    this.#cursor = new SpoolCursor(options.store, { ...options.cursor, disk: options.disk, position, ...limits });
    this.#running = this.#run();
  }

  /** What the sink has, by the file on disk. */
  get position(): SpoolPosition {
    return this.#stored;
  }

  /** Whether the sink has everything that is stored. */
  get isIdle(): boolean {
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
        ahead = this.#beginRead(); // while the sink works
      await this.#deliver(batch);
      await this.#store({ now: false });
      if (batch.bytes.length < fullBatchBytes) await sleep(gatherMs, this.#stop.signal).catch(() => undefined);
    }
    await ahead?.batch;
    await this.#store({ now: true });
  }

  /** Nothing more is there to deliver. Waits until there is, or until the position is due to be stored. */
  async #storeOrWait(changed: Promise<void>): Promise<void> {
    const [stop, flushing] = [this.#stop.signal, this.#flushing.signal];
    const leftMs = flushing.aborted ? 0 : this.#storedAt + storeEveryMs - this.#options.monotonicMs();
    if (leftMs > 0 && !this.#isStored) {
      await this.#until(changed, { signals: [stop, flushing], ms: leftMs });
      return;
    }
    await this.#store({ now: true });
    await this.#until(changed, { signals: [stop] });
  }

  get #isStored(): boolean {
    return this.#delivered === this.#stored && this.#begun === this.#storedBegun;
  }

  #beginRead(): Reading {
    return { changed: this.#options.store.changed, batch: this.#read() };
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

  async #read(): Promise<CursorBatch | undefined> {
    for (let retryMs = retryMsFirst; !this.#stop.signal.aborted; retryMs = Math.min(retryMsMax, retryMs * 2)) {
      try {
        return await this.#cursor.next(this.#begun ?? undefined);
      } catch (error) {
        await this.#cursor.close().catch(() => undefined); // it is opened again
        this.#report(error);
        if (isMissing(error) && retryMs > retryMsFirst) this.#cursor.skip();
        await this.#options.sleep(retryMs, this.#stop.signal).catch(() => undefined);
      }
    }
    return undefined;
  }

  /** Returns when the sink has the batch, or delivery stops. */
  async #deliver(batch: CursorBatch): Promise<void> {
    this.#settled = 0;
    for (let retryMs = retryMsFirst; ; retryMs = Math.min(retryMsMax, retryMs * 2)) {
      try {
        await this.#write(batch);
        this.#failing = false;
        this.#counts.written += batch.records;
        this.#writtenAtMs = this.#options.nowMs();
        this.#counts.lost += batch.lost;
        this.#delivered = batch.after;
        this.#begun = null;
        this.#deliveredMs = batch.atMs;
        return;
      } catch (error) {
        this.#report(error);
        if (this.#stop.signal.aborted) return;
        const askedMs = error instanceof AuditSinkBusyError ? Math.min(error.retryAfterMs, retryAfterMsMax) : 0;
        await this.#options.sleep(Math.max(retryMs, askedMs), this.#stop.signal).catch(() => undefined);
        if (this.#stop.signal.aborted) return;
      }
    }
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
    const { disk, onFailure } = this.#options;
    const name = this.#deadName;
    if (this.#dead === null) {
      const known = (await disk.list()).find((file) => file.name === name);
      const file = await (known === undefined ? disk.create(name) : disk.open(name));
      const size = known?.size ?? 0;
      this.#dead = { file, at: size, torn: await endsWithinALine(file, size) };
    }
    const { file, at, torn } = this.#dead;
    const whole = torn ? Buffer.concat([lineEnd, bytes]) : bytes;
    if (at + whole.length > deadLetterBytesMax) {
      this.#dead = null; // it may have been moved away by the next attempt
      await file.close();
      throw new DeadLettersFullError(this.#sink.name, name);
    }
    await file.write([whole], at);
    await file.sync();
    this.#dead = { file, at: at + whole.length, torn: false };
    this.#counts.deadLetters += rejected;
    onFailure(this.#sink.name, error);
  }

  #report(error: unknown): void {
    if (!this.#failing) this.#options.onFailure(this.#sink.name, error);
    this.#failing = true;
  }

  async #store({ now }: Readonly<{ now: boolean }>): Promise<void> {
    const { disk, monotonicMs, onStored, onFailure } = this.#options;
    const position = this.#delivered;
    const begun = this.#begun;
    if (this.#isStored || (!now && monotonicMs() - this.#storedAt < storeEveryMs)) return;
    this.#storedAt = monotonicMs();
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
      await this.#dead?.file.close();
      await this.#sink.close();
    });
    const reported = closing.catch((error: unknown) => onFailure(this.#sink.name, error));
    await Promise.race([reported, sleep(timeoutMs, timeUp.signal).catch(() => undefined)]);
    timeUp.abort();
  }
}

/** The last write of an earlier process may have ended in the middle of a line. */
async function endsWithinALine(file: SpoolFile, size: number): Promise<boolean> {
  const byte = Buffer.alloc(1);
  return size > 0 && (await file.read(byte, size - 1)) === 1 && byte[0] !== 0x0a;
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
