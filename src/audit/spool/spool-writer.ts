/**
 * Spool writer: moves records from the ring to the spool, in turns. Pure, apart from the clock and timer it is given.
 *
 *   ring ──gather──→ write ──(a waiter, or the interval)──→ sync ──→ release, answer waiters
 *
 * - One write or sync is in flight. Records gather meanwhile, so the next turn takes all of them with one sync.
 * - Best effort: records are written within `gatherMs` and synced within `syncMs`. Nothing waits for them.
 * - Strict: a waiter is answered after its record is synced; or it is refused if that fails, takes too long, or cannot
 *   be tried. Its record may still be written later.
 * - Numbers are reserved on disk ahead of their use: for two seconds at the present rate, and at least 256.
 */
import { CodedError } from "../../events/index.ts";
import { frameHeadBytes } from "./frame.ts";
import { gapRecordOf } from "./gap-record.ts";
import type { RecordRing, RingChunk } from "./record-ring.ts";
import type { NewFrame, SpoolOptions, SpoolPositions, SpoolStore } from "./spool-store.ts";

/** Resolves after this long. If the signal aborts, it settles early: it may resolve or reject. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

/**
 * `full`: the spool is at its bound and must keep everything. `failing`: the last write or sync failed. `slow`: the
 * disk did not answer in time. `busy`: more records wait in memory than may. `closed`: the process is ending.
 */
export type NotDurableReason = "full" | "failing" | "slow" | "busy" | "closed";

export class AuditNotDurableError extends CodedError<"ERR_AUDIT_NOT_DURABLE"> {
  override readonly code = "ERR_AUDIT_NOT_DURABLE";
  readonly reason: NotDurableReason;
  constructor(reason: NotDurableReason, options?: ErrorOptions) {
    super(`the decision record is not on disk: ${notDurableTexts[reason]}`, options);
    this.reason = reason;
  }
}

const notDurableTexts: Readonly<Record<NotDurableReason, string>> = {
  full: "the spool is full of records that no sink has accepted",
  failing: "the disk refuses writes",
  slow: "the disk did not answer in time",
  busy: "too many records wait for the disk",
  closed: "the process is ending",
};

export type SpoolWriterOptions = Readonly<{
  ring: RecordRing;
  store: SpoolStore;
  node: SpoolOptions["node"];
  boot: SpoolOptions["boot"];
  /** What every sink has, by the cursor on disk. */
  positions: () => SpoolPositions;
  gatherMs: number;
  syncMs: number;
  /** How long a strict record may wait for the disk. */
  strictMs: number;
  nowMs: () => number;
  monotonicMs: () => number;
  sleep: Sleep;
  /** Called with the first failure of several. */
  onFailure: (error: unknown) => void;
  /** Called with the first of several failures to remove files. */
  onUnremoved: (error: unknown) => void;
  /** The records up to this number are durable. */
  onDurable: (number: number) => void;
}>;

type Waiter = Readonly<{
  number: number;
  deadline: number;
  resolve: () => void;
  reject: (error: AuditNotDurableError) => void;
}>;

const turnBytesMax = 4 * 1_024 * 1_024;
/** With this many records waiting, the next turn begins without a pause; with so many bytes written, it syncs. */
const fullTurnRecords = 2_000;
const fullSyncBytes = 4 * 1_024 * 1_024;
const reserveLeast = 256;
const reserveMost = 131_072;
const reserveForMs = 2_000;
const retryMsFirst = 100;
const retryMsMax = 2_000;

export class SpoolWriter {
  readonly #options: SpoolWriterOptions;
  /** In order of their numbers. */
  readonly #waiters: Waiter[] = [];
  /** Numbers of strict records that are not durable, in order. */
  readonly #strict: number[] = [];
  #written = 0;
  #durable = 0;
  #syncedAt = Number.NEGATIVE_INFINITY;
  #unsyncedBytes = 0;
  #failure: unknown;
  /** Whether files could be removed the last time. */
  #maintained = true;
  #slow = false;
  #closing = false;
  #stopped = false;
  #expiring = false;
  /** Above this number, more numbers must be reserved soon. */
  #reserveAfter = 0;
  #ratePerMs = 0;
  #rateFrom: Readonly<{ number: number; at: number }>;
  #wake = Promise.withResolvers<void>();
  #hurry = new AbortController();
  readonly #closed = new AbortController();
  readonly #started: Promise<void>;
  /** Null: the spool is ended, and no number was used since. */
  #running: Promise<void> | null;
  /** Numbers that were used without a reservation on disk. */
  unreserved = 0;

  constructor(options: SpoolWriterOptions) {
    this.#options = options;
    this.#rateFrom = { number: 0, at: options.monotonicMs() };
    this.#started = this.#turn();
    this.#running = this.#run();
  }

  /** Settles after the first numbers were reserved, or could not be. */
  get started(): Promise<void> {
    return this.#started;
  }

  get failing(): boolean {
    return this.#failure !== undefined;
  }

  get durable(): number {
    return this.#durable;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** Called after the ring used a number. Returns at once. */
  notify(number: number): void {
    if (number > this.#options.store.reserved) this.unreserved++;
    if (!this.#stopped) this.#running ??= this.#run(); // a segment of its own, after the final one
    this.#wake.resolve();
    if (number > this.#reserveAfter || number - this.#written > fullTurnRecords) this.#hurryUp();
  }

  /** Called after sinks advanced: segments may be removed. */
  notifyDelivered(): void {
    this.#wake.resolve();
  }

  /** @returns why a strict record cannot be written now; null: it can */
  refusal(): NotDurableReason | null {
    if (this.#closing) return "closed";
    if (this.#options.store.full) return "full";
    if (this.failing) return "failing";
    if (this.#slow) return "slow";
    return this.#options.ring.isFull ? "busy" : null;
  }

  /** The record with this number, the newest in the ring, must survive until every sink has it. */
  markStrict(number: number): void {
    this.#strict.push(number);
  }

  /** @throws AuditNotDurableError */
  waitFor(number: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ number, deadline: this.#options.monotonicMs() + this.#options.strictMs, resolve, reject });
    if (!this.#expiring) void this.#expire();
    this.#hurryUp();
    return promise;
  }

  /** Refuses waiters whose time is over. */
  async #expire(): Promise<void> {
    const { sleep, monotonicMs } = this.#options;
    this.#expiring = true;
    for (;;) {
      const oldest = this.#waiters[0];
      if (oldest === undefined) break;
      const leftMs = oldest.deadline - monotonicMs();
      if (leftMs > 0) {
        await sleep(leftMs);
        continue;
      }
      this.#slow = true;
      this.#waiters.shift();
      oldest.reject(new AuditNotDurableError("slow"));
    }
    this.#expiring = false;
  }

  #hurryUp(): void {
    if (!this.#hurry.signal.aborted) this.#hurry.abort();
    this.#wake.resolve();
  }

  async #run(): Promise<void> {
    const { sleep, gatherMs } = this.#options;
    let retryMs = retryMsFirst;
    await this.#started;
    while (!this.#stopped) {
      if (this.#failure !== undefined) {
        const ms = this.#closing ? retryMsFirst : retryMs;
        await sleep(ms, this.#closed.signal.aborted ? undefined : this.#closed.signal).catch(() => undefined);
        retryMs = Math.min(retryMsMax, retryMs * 2);
      } else {
        if (this.#closing && this.#isDone()) {
          if (await this.#end()) return;
          continue;
        }
        retryMs = retryMsFirst;
        await this.#waitForWork();
        await this.#gather(gatherMs);
      }
      await this.#turn();
    }
  }

  /** Ends the spool. @returns false if numbers were used meanwhile */
  async #end(): Promise<boolean> {
    const { store, onFailure } = this.#options;
    await store.end({ final: true }).catch(onFailure); // if it fails, the next boot declares what was reserved
    if (!this.#isDone()) return false;
    this.#running = null;
    return true;
  }

  #isDone(): boolean {
    return this.#durable === this.#options.ring.last;
  }

  async #waitForWork(): Promise<void> {
    const { ring, syncMs, monotonicMs, sleep } = this.#options;
    if (this.#closing || this.#waiters.length > 0 || ring.last > this.#written) return;
    if (this.#written > this.#durable) {
      const done = new AbortController();
      const due = sleep(Math.max(0, this.#syncedAt + syncMs - monotonicMs()), done.signal).catch(() => undefined);
      await Promise.race([due, this.#wake.promise]);
      done.abort();
    } else await this.#wake.promise;
  }

  /** Ends early for a strict record, a low reservation, or closing. */
  async #gather(ms: number): Promise<void> {
    if (this.#hurry.signal.aborted) this.#hurry = new AbortController();
    if (this.#waiters.length > 0 || this.#closing) return;
    await this.#options.sleep(ms, this.#hurry.signal).catch(() => undefined);
  }

  async #turn(): Promise<void> {
    const { store, ring, syncMs, monotonicMs, onFailure } = this.#options;
    this.#wake = Promise.withResolvers();
    try {
      await this.#maintain();
      const { frames, last } = this.#takeFrames();
      const reserved = this.#reservationFor(ring.last);
      const mustReserve = ring.last > this.#reserveAfter || store.reserved === 0;
      if (frames.length === 0 && mustReserve) frames.push(reserveFrame(this.#written));
      if (frames.length > 0) await store.append(frames, reserved);
      this.#written = last;
      const isDirty = frames.length > 0 || last > this.#durable;
      for (const { payload } of frames) this.#unsyncedBytes += payload.length;
      const isLate = monotonicMs() - this.#syncedAt >= syncMs || this.#unsyncedBytes >= fullSyncBytes;
      const isDue = mustReserve || this.#closing || isLate;
      if (isDirty && (this.#waiters.length > 0 || isDue)) {
        await store.sync();
        this.#syncedAt = monotonicMs();
        this.#unsyncedBytes = 0;
        this.#acknowledge(last);
      }
      this.#failure = undefined;
    } catch (error) {
      this.#written = this.#durable; // the store ended its segment there
      if (this.#failure === undefined) onFailure(error);
      this.#failure = error;
      for (const { reject } of this.#waiters.splice(0)) reject(new AuditNotDurableError("failing", { cause: error }));
    }
  }

  /** A file that cannot be removed does not stop the records: only the bound does. */
  async #maintain(): Promise<void> {
    const { store, positions, onUnremoved } = this.#options;
    try {
      await store.maintain(positions());
      this.#maintained = true;
    } catch (error) {
      if (this.#maintained) onUnremoved(error);
      this.#maintained = false;
    }
  }

  #takeFrames(): { frames: NewFrame[]; last: number } {
    const { ring, store } = this.#options;
    const frames: NewFrame[] = [];
    let last = this.#written;
    const flush = this.#closing || !(ring.isFull || store.full);
    for (let bytes = 0; bytes < turnBytesMax; ) {
      const chunk = ring.read(last, { flush });
      if (chunk === undefined) break;
      const frame = this.#frameOf(chunk);
      frames.push(frame);
      last = chunk.last;
      bytes += frame.payload.length + frameHeadBytes;
    }
    return { frames, last };
  }

  #frameOf(chunk: RingChunk): NewFrame {
    const { node, boot } = this.#options;
    const { first, last } = chunk;
    const strict = this.#strict.some((number) => number >= first && number <= last);
    if (chunk.kind === "records") {
      const { bytes: payload, runs } = chunk;
      return { kind: "records", first, last, strict, payload, runs };
    }
    const line = `${JSON.stringify(gapRecordOf({ node, boot, ...chunk }))}\n`;
    return { kind: "gap", first, last, strict, payload: Buffer.from(line) };
  }

  #acknowledge(durable: number): void {
    const { store, onDurable } = this.#options;
    this.#durable = durable;
    this.#slow = false;
    this.#reserveAfter = durable + Math.floor((store.reserved - durable) / 2);
    const left = this.#waiters.findIndex(({ number }) => number > durable);
    for (const { resolve } of this.#waiters.splice(0, left < 0 ? this.#waiters.length : left)) resolve();
    const kept = this.#strict.findIndex((number) => number > durable);
    this.#strict.splice(0, kept < 0 ? this.#strict.length : kept);
    onDurable(durable);
  }

  #reservationFor(last: number): number {
    const at = this.#options.monotonicMs();
    const ms = at - this.#rateFrom.at;
    const rate = (last - this.#rateFrom.number) / Math.max(ms, 1_000);
    this.#ratePerMs = Math.max(this.#ratePerMs, rate);
    if (ms >= 1_000) {
      this.#ratePerMs = rate;
      this.#rateFrom = { number: last, at };
    }
    return last + Math.min(reserveMost, Math.max(reserveLeast, Math.ceil(this.#ratePerMs * reserveForMs)));
  }

  /**
   * Writes what is in the ring, for at most this long, and ends the spool. Records that are made later are still
   * written, until `seal`. @returns whether every record is durable
   */
  async close(timeoutMs: number): Promise<boolean> {
    const { sleep } = this.#options;
    this.#closing = true;
    this.#closed.abort();
    this.#hurryUp();
    const timeUp = new AbortController();
    await Promise.race([this.#running, sleep(timeoutMs, timeUp.signal).catch(() => undefined)]);
    timeUp.abort();
    for (const { reject } of this.#waiters.splice(0)) reject(new AuditNotDurableError("closed"));
    return this.#isDone();
  }

  /** Writes nothing more, but what it is writing. */
  seal(): void {
    this.#stopped = true;
  }
}

function reserveFrame(last: number): NewFrame {
  return { kind: "reserve", first: last + 1, last, strict: false, payload: Buffer.alloc(0) };
}
