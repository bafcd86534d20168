/**
 * Spool cursor: reads the spool for one sink, in order, as batches of lines. Pure, apart from the disk.
 *
 * - Every number that it passes without a record is declared by a gap record, whatever the cause. A gap is a batch of
 *   its own.
 * - Records that the sink already has are skipped, by number. So a segment that repeats records, after a failed sync,
 *   does no harm.
 */
import type { BootId, NodeId } from "../../events/index.ts";
import { framePayloadMax, type SpoolFrame } from "./frame.ts";
import { recordOfDropped } from "./gap-list.ts";
import { type Gap, type GapRecord, gapRecordOf, sizeOfGap } from "./gap-record.ts";
import { runsPerLine } from "./record-ring.ts";
import { goesOn, type Segment, type SpoolPosition, tailOf } from "./segment.ts";
import { type ReadFrame, SegmentReader } from "./segment-reader.ts";
import type { Damage } from "./segment-scan.ts";
import type { SpoolDisk } from "./spool-disk.ts";
import type { SpoolStore } from "./spool-store.ts";

/** Records on their way to a sink, as lines of JSON in UTF-8, each with its end. */
export type AuditBatch = Readonly<{
  boot: BootId;
  /** Numbers of the first and last record. For a gap, both are the last number that it declares lost. */
  first: number;
  last: number;
  bytes: Buffer;
  /** The batch is a gap record. Absent: it is not, or the batch does not come from the spool. */
  isGap?: true;
}>;

export type CursorBatch = AuditBatch &
  Readonly<{
    /** The sink's position once it has the batch. */
    after: SpoolPosition;
    /** Decisions whose record the sink gets, and that it surely never gets. */
    records: number;
    lost: number;
    /** The batch is the gap of records that were on the disk, so other readers of the spool may have them. */
    wasStored?: true;
    /** When the newest of its frames was written. */
    atMs: number;
    /** The runs of each line (record-ring.ts), valid until the next batch. Absent: not known, or not asked for. */
    runs?: Uint16Array;
  }>;

/** What one batch may hold. */
export type BatchLimits = Readonly<{
  /** A batch has at least one record, however large. */
  bytesMax: number;
  recordsMax: number;
}>;

/** The last record of a batch. */
export type BatchEnd = Readonly<{ boot: BootId; last: number }>;

/** `ahead`: the batch before must stay valid meanwhile. */
export type ReadOrder = Readonly<{ ahead?: boolean }>;

const limitsDefault: BatchLimits = { bytesMax: framePayloadMax, recordsMax: Number.MAX_SAFE_INTEGER };

export class SpoolCursor {
  readonly #store: SpoolStore;
  readonly #options: Readonly<{
    disk: SpoolDisk;
    node: NodeId;
    boot: BootId;
    nowMs: () => number;
    onDamage: (damage: Damage) => void;
    limits?: BatchLimits;
    growsTo?: number;
    hasRuns?: true;
  }>;
  readonly #reader: SegmentReader;
  readonly #limits: BatchLimits;
  /** The length of the next batch. */
  #bytesMax: number;
  #batch: Buffer;
  /** In use, or free, while the other one is read. */
  #batchBefore: Buffer | null = null;
  /** Of the newest batch that was returned. */
  #returned: Buffer | null = null;
  /** Of the lines in the batch. */
  #runs = new Uint16Array();
  #position: SpoolPosition;
  /** Index of a segment whose file is gone. */
  #gone: number | null = null;
  /** Time of the newest frame read; milliseconds since 1970. */
  #atMs = 0;

  constructor(store: SpoolStore, options: SpoolCursorOptions) {
    this.#store = store;
    this.#options = options;
    this.#position = options.position;
    this.#limits = options.limits ?? limitsDefault;
    this.#bytesMax = this.#limits.bytesMax;
    this.#batch = Buffer.allocUnsafeSlow(Math.max(this.#bytesMax, framePayloadMax));
    this.#reader = new SegmentReader(options.disk);
  }

  get position(): SpoolPosition {
    return this.#position;
  }

  /**
   * Moves past what it returns. The bytes are valid until the next call, or until the one after it if that one reads
   * ahead.
   * @returns undefined if the sink has everything that is durable
   * @param end the batch ends with this record if it reaches it
   */
  async next(end?: BatchEnd, { ahead = false }: ReadOrder = {}): Promise<CursorBatch | undefined> {
    const open = { filled: 0, first: 0, last: 0 };
    const buffer = this.#bufferFor({ ahead });
    const boot = (): BootId => this.#position.boot as BootId;
    const finish = (): CursorBatch => {
      const { first, last } = open;
      this.#returned = buffer;
      const bytes = buffer.subarray(0, open.filled);
      const counts = { records: last - first + 1, lost: 0, atMs: this.#atMs };
      const runs = this.#options.hasRuns ? { runs: this.#runs.subarray(0, counts.records * runsPerLine) } : {};
      return { boot: boot(), first, last, bytes, after: this.#position, ...counts, ...runs };
    };
    for (;;) {
      const segment = this.#segment();
      if (segment === undefined) return open.filled > 0 ? finish() : undefined;
      if (segment.kind === "gap") {
        if (open.filled > 0) return finish();
        const declared = this.#nextDropped(segment);
        if (declared !== undefined) return declared;
        if (!this.#leave(segment)) return undefined;
        continue;
      }
      if (segment.boot !== this.#position.boot || segment.index !== this.#position.index) {
        if (open.filled > 0 && segment.boot !== this.#position.boot) return finish();
        this.#enter(segment);
      }
      let read: ReadFrame;
      try {
        const isGone = segment.index === this.#gone || segment.damaged;
        read = isGone
          ? gone
          : (this.#readRecent(segment) ??
            (await this.#reader.read(segment.name, this.#position.offset, segment.bytes)));
      } catch (error) {
        if (open.filled > 0) return finish(); // the next call fails
        throw error;
      }
      if (read.type === "damaged") {
        this.#report(segment, read.end);
        this.#moveTo(segment, read.end);
        continue;
      }
      if (read.type === "end") {
        if (!this.#store.segments.includes(segment)) continue; // retention replaced it meanwhile
        if (read.damagedBytes > 0) this.#report(segment, segment.bytes);
        if (!segment.ended) return open.filled > 0 ? finish() : undefined;
        const tail = this.#tailGap(segment);
        if (tail !== undefined && open.filled > 0) return finish();
        if (tail !== undefined) {
          const batch = this.#gapBatch(tail, { offset: segment.bytes });
          return segment.last < tail.first ? batch : { ...batch, wasStored: true };
        }
        if (!this.#leave(segment)) return open.filled > 0 ? finish() : undefined;
        continue;
      }
      const { frame } = read;
      const isNew = (frame.kind === "records" || frame.kind === "gap") && frame.last >= this.#position.next;
      if (!isNew) {
        this.#moveTo(segment, read.end);
        continue;
      }
      const isGap = frame.kind === "gap" || frame.first > this.#position.next;
      if (open.filled > 0 && isGap) return finish();
      const { next, offset } = this.#position;
      if (frame.first > next) {
        this.#atMs = frame.atMs;
        const hole = this.#holeBefore(frame.first, segment, frame.atMs);
        return { ...this.#gapBatch(hole, { offset }), wasStored: true };
      }
      if (frame.kind === "gap") {
        this.#atMs = frame.atMs;
        return this.#gapBatch(declaredGap(frame, next), { offset: read.end });
      }
      const { bytes, last } = this.#fitting(frame, { ...open, end });
      if (bytes.length === 0) {
        this.#grow();
        return finish();
      }
      this.#atMs = frame.atMs;
      bytes.copy(buffer, open.filled);
      if (open.filled === 0) open.first = next;
      if (this.#options.hasRuns) this.#copyRuns(read, { frame, next, last, at: next - open.first });
      open.filled += bytes.length;
      open.last = last;
      this.#moveTo(segment, last === frame.last ? read.end : this.#position.offset, last + 1);
      if (last < frame.last) this.#grow();
      if (last < frame.last || (last === end?.last && segment.boot === end.boot)) return finish();
    }
  }

  #bufferFor({ ahead }: ReadOrder): Buffer {
    const present = this.#batch;
    const isInUse = ahead && this.#returned === present; // else a read ahead that failed is tried again
    const room = isInUse ? this.#batchBefore : present;
    if (isInUse) this.#batchBefore = present;
    const isLarge = room !== null && room.length >= this.#bytesMax;
    this.#batch = isLarge ? room : Buffer.allocUnsafeSlow(Math.max(this.#bytesMax, framePayloadMax));
    return this.#batch;
  }

  /** After a batch without room for what follows. */
  #grow(): void {
    const { growsTo = 0 } = this.#options;
    this.#bytesMax = Math.max(this.#bytesMax, Math.min(growsTo, 2 * this.#bytesMax));
  }

  /** What follows, if it is in memory. */
  #readRecent(segment: Segment): ReadFrame | undefined {
    const { offset } = this.#position;
    if (offset >= segment.bytes) return { type: "end", damagedBytes: 0 };
    const recent = this.#store.recentAt(segment, offset);
    return recent === undefined ? undefined : { type: "frame", end: offset + recent.frame.bytes, ...recent };
  }

  /** @param of.at how many lines the batch has before these */
  #copyRuns(
    { runs }: Readonly<{ runs: Uint16Array | null }>,
    of: Readonly<{ frame: SpoolFrame; next: number; last: number; at: number }>,
  ): void {
    const from = (of.next - of.frame.first) * runsPerLine;
    const to = (of.last + 1 - of.frame.first) * runsPerLine;
    const at = of.at * runsPerLine;
    if (this.#runs.length < at + to - from) {
      const grown = new Uint16Array(2 * (at + to - from));
      grown.set(this.#runs);
      this.#runs = grown;
    }
    if (runs === null) this.#runs.fill(0, at, at + to - from);
    else this.#runs.set(runs.subarray(from, to), at);
  }

  /** The lines of a frame that the batch has room for: none, unless it is empty. */
  #fitting(
    frame: SpoolFrame,
    open: Readonly<{ filled: number; first: number; end: BatchEnd | undefined }>,
  ): Readonly<{ bytes: Buffer; last: number }> {
    const { next, boot } = this.#position;
    const lines = linesFrom(frame, next);
    const { recordsMax } = this.#limits;
    const first = open.filled === 0 ? next : open.first;
    const isAhead = open.end !== undefined && open.end.boot === boot && open.end.last >= next;
    const endLast = isAhead ? open.end.last : Number.MAX_SAFE_INTEGER;
    const lastMax = Math.min(first + recordsMax - 1, endLast, frame.last);
    const room = this.#bytesMax - open.filled;
    if (lastMax === frame.last && lines.length <= room) return { bytes: lines, last: lastMax };
    let to = 0;
    let last = next - 1;
    while (last < lastMax) {
      const lineEnd = lines.indexOf(0x0a, to) + 1;
      if (lineEnd > room && (to > 0 || open.filled > 0)) break;
      to = lineEnd;
      last++;
    }
    return { bytes: lines.subarray(0, to), last };
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  /** Continues behind a segment whose file is gone. Its numbers are declared like any others that are missing. */
  skip(): void {
    this.#gone = this.#segment()?.index ?? null;
  }

  #segment(): Segment | undefined {
    return this.#store.segments.find(({ index }) => index >= this.#position.index);
  }

  /** The sink has nothing of a boot that it was not in, and numbers begin with 1. */
  #enter({ index, boot }: Segment): void {
    const next = boot === this.#position.boot ? this.#position.next : 1;
    this.#position = { index, boot, next, offset: 0 };
  }

  /** The next gap of a list; undefined: the sink has the others. */
  #nextDropped({ gaps }: Segment): CursorBatch | undefined {
    const { index: from, boot, next } = this.#position;
    for (const gap of gaps) {
      if (gap.index < from) continue;
      const known = gap.boot === boot ? next : null;
      if (known !== null && gap.last < known) continue;
      const place = { index: gap.index + 1, offset: 0, boot: gap.boot };
      return { ...this.#gapBatch(recordOfDropped(gap, this.#options.node, known), place), wasStored: true };
    }
    return undefined;
  }

  #moveTo({ index, boot }: Segment, offset: number, next = this.#position.next): void {
    this.#position = { index, boot, next, offset };
  }

  /**
   * @returns false if there is no later durable segment yet. After a crash without one, the numbers that this segment
   * reserved must still be declared
   */
  #leave(segment: Segment): boolean {
    const { segments } = this.#store;
    const next = segments[segments.indexOf(segment) + 1];
    if (next === undefined || next.bytes === 0) return false;
    this.#position = { ...this.#position, index: segment.index + 1, offset: 0 };
    return true;
  }

  /** The numbers at the end of an ended boot that have no record; undefined: none. */
  #tailGap(segment: Segment): GapRecord | undefined {
    const { node, boot, nowMs } = this.#options;
    const at = this.#store.segments.indexOf(segment);
    const unused = tailOf(this.#store.segments, at, boot);
    const { next } = this.#position;
    const last = segment.last + unused;
    if (last < next || goesOn(this.#store.segments, at) || segment.boot === boot) return undefined;
    const atLeast = Math.max(0, segment.last - next + 1);
    const reason = unused > 0 && !segment.damaged ? "killed" : "damaged";
    const fromMs = segment.toMs;
    const toMs = Math.max(fromMs, nowMs()); // the clock may have been set back
    const gap = { node, boot: segment.boot, first: next, last, reason, fromMs, toMs } as const;
    return gapRecordOf(unused > 0 ? { ...gap, atLeast } : gap);
  }

  #holeBefore(first: number, segment: Segment, toMs: number): GapRecord {
    const { node } = this.#options;
    const { next } = this.#position;
    const fromMs = Math.min(toMs, this.#atMs || segment.fromMs);
    const gap: Gap = { node, boot: segment.boot, first: next, last: first - 1, reason: "damaged", fromMs, toMs };
    return gapRecordOf(gap);
  }

  #gapBatch(record: GapRecord, place: Partial<SpoolPosition>): CursorBatch {
    const { boot, seq } = record;
    this.#position = { ...this.#position, ...place, next: seq + 1 };
    const bytes = Buffer.from(`${JSON.stringify(record)}\n`);
    const counts = { records: 0, lost: sizeOfGap(record), atMs: this.#atMs };
    return { boot, first: seq, last: seq, bytes, isGap: true, after: this.#position, ...counts };
  }

  #report({ name }: Segment, end: number): void {
    const { offset } = this.#position;
    this.#options.onDamage({ name, offset, bytes: end - offset, torn: false });
  }
}

export type SpoolCursorOptions = Readonly<{
  disk: SpoolDisk;
  node: NodeId;
  boot: BootId;
  nowMs: () => number;
  onDamage: (damage: Damage) => void;
  position: SpoolPosition;
  /** Default: 512 KiB, any number of records. */
  limits?: BatchLimits;
  /** After a batch without room for what follows the next ones may be longer, up to this length. */
  growsTo?: number;
  /** Batches have the runs of their lines. */
  hasRuns?: true;
}>;

const gone: ReadFrame = { type: "end", damagedBytes: 0 };

/** The gap of a frame, without the numbers that the sink already has. */
function declaredGap(frame: SpoolFrame, next: number): GapRecord {
  const record = JSON.parse(frame.payload.toString("utf8")) as GapRecord;
  if (record.first >= next) return record;
  const { atLeast, ...rest } = record;
  const left = atLeast === undefined ? {} : { atLeast: Math.max(0, atLeast - (next - record.first)) };
  return { ...rest, ...left, first: next };
}

/** The lines of a frame from this number on. */
function linesFrom({ first, payload }: SpoolFrame, next: number): Buffer {
  let from = 0;
  for (let number = first; number < next; number++) from = payload.indexOf(0x0a, from) + 1;
  return payload.subarray(from);
}
