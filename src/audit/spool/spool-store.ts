/**
 * Spool store: the segments of one node's spool. One writer appends; readers read what is durable. Pure, apart from the
 * disk and clock that it is given.
 *
 * - `append` writes, `sync` makes it durable. Only then do readers see it, and `Segment` counts it.
 * - A failed write or sync ends its segment at the last durable frame, because what a failed sync leaves on the disk is
 *   unknown. The caller appends the same records again, to a new segment.
 * - Opening scans only segments without an `end` frame. It cuts a torn tail and reports each damaged place. It writes
 *   nothing: numbers that an ended boot reserved and left unused are declared by readers (spool-cursor.ts).
 * - Segments that every sink has passed are removed. At the bound, the oldest without strict records are replaced by
 *   gap records.
 */
import { type BootId, CodedError, type NodeId } from "../../events/index.ts";
import {
  type FrameHead,
  formatOfFrame,
  frameAt,
  frameHeadBytes,
  frameHeadOf,
  frameSeed,
  spoolFormat,
} from "./frame.ts";
import { type GapReason, gapRecordOf } from "./gap-record.ts";
import {
  deliveredSegments,
  formatSegmentName,
  parseSegmentName,
  type Segment,
  type SegmentName,
  type SpoolPosition,
  segmentToDrop,
  tailOf,
} from "./segment.ts";
import { SegmentReader } from "./segment-reader.ts";
import type { SpoolDisk, SpoolFile } from "./spool-disk.ts";

/** A frame to append. `last`: the newest number after it. */
export type NewFrame = Pick<FrameHead, "kind" | "first" | "last" | "strict"> & Readonly<{ payload: Uint8Array }>;

export type SpoolOptions = Readonly<{
  disk: SpoolDisk;
  node: NodeId;
  boot: BootId;
  /** Bound of all segments. */
  bytesMax: number;
  nowMs: () => number;
  /** Called for each damaged place. `torn`: the end of a segment, which is cut off; no durable record was there. */
  onDamage: (damage: Damage) => void;
}>;

export type Damage = Readonly<{ name: string; offset: number; bytes: number; torn: boolean }>;

const segmentBytesUsual = 8 * 1_024 * 1_024;
const segmentBytesMost = 128 * 1_024 * 1_024;
const segmentsLeast = 16;
/** A large spool has larger segments rather than more of them. */
const segmentsUsualMax = 1_024;
const noPayload = new Uint8Array();

export class SpoolFormatError extends CodedError<"ERR_AUDIT_SPOOL_FORMAT"> {
  override readonly code = "ERR_AUDIT_SPOOL_FORMAT";
  constructor(name: string, format: number) {
    super(`the audit segment ${name} has the format ${format} of a later version; this one reads ${spoolFormat}`);
  }
}

type Active = {
  readonly segment: Segment;
  readonly file: SpoolFile;
  readonly seed: number;
  /** What is written and not yet durable. */
  at: number;
  last: number;
  reserved: number;
  strict: boolean;
  toMs: number;
};

export class SpoolStore {
  readonly #options: SpoolOptions;
  readonly #segments: Segment[] = [];
  readonly #segmentBytes: number;
  #active: Active | null = null;
  #nextIndex = 1;
  #last = 0;
  #changed = Promise.withResolvers<void>();
  /** No number of this boot above this one is used before a later reservation is durable. */
  reserved = 0;
  /** The bound is reached, and every segment must be kept. */
  full = false;

  constructor(options: SpoolOptions) {
    this.#options = options;
    const { bytesMax } = options;
    const usual = Math.min(segmentBytesMost, Math.max(segmentBytesUsual, Math.floor(bytesMax / segmentsUsualMax)));
    this.#segmentBytes = Math.min(usual, Math.floor(bytesMax / segmentsLeast));
  }

  get segments(): readonly Segment[] {
    return this.#segments;
  }

  get bytes(): number {
    const durable = this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
    return durable + (this.#active === null ? 0 : this.#active.at - this.#active.segment.bytes);
  }

  /** Settles when more can be read, or segments changed. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  notify(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** Later segments get a larger index than this: a sink is there already. */
  passIndex(index: number): void {
    this.#nextIndex = Math.max(this.#nextIndex, index + 1);
  }

  /** Reads what earlier boots left. @throws if the folder cannot be read */
  async open(): Promise<void> {
    const { disk } = this.#options;
    const found = (await disk.list()).flatMap(({ name, size }) => {
      const parsed = parseSegmentName(name);
      return parsed === undefined ? [] : [{ name, size, ...parsed }];
    });
    found.sort((a, b) => a.index - b.index || (a.kind === "records" ? -1 : 1));
    const reader = new SegmentReader(disk);
    try {
      for (const file of found) {
        this.#nextIndex = Math.max(this.#nextIndex, file.index + 1);
        const before = this.#segments.at(-1);
        if (before?.index === file.index) {
          await disk.remove(file.name); // the segment was about to be dropped, and still exists
          continue;
        }
        const segment = (await this.#segmentWithEnd(file)) ?? (await this.#scan(file, reader));
        if (before?.boot === segment.boot) segment.reserved = Math.max(segment.reserved, before.reserved);
        if (segment.bytes > 0) this.#segments.push(segment);
      }
    } finally {
      await reader.close();
    }
    for (const { name, size } of found) {
      if (size === 0) await disk.remove(name); // the process ended before anything was durable
    }
  }

  /** A segment whose last frame is an `end`: it needs no scan. */
  async #segmentWithEnd(file: SegmentName & Readonly<{ name: string; size: number }>): Promise<Segment | undefined> {
    if (file.size < frameHeadBytes * 2) return undefined;
    const handle = await this.#options.disk.open(file.name);
    try {
      const bytes = Buffer.alloc(frameHeadBytes);
      await handle.read(bytes, file.size - frameHeadBytes);
      const frame = frameAt(bytes, 0, frameSeed(file.name));
      if (frame?.kind !== "end") return undefined;
      const { last, reserved, strict, atMs, final } = frame;
      return { ...segmentOf(file), bytes: file.size, last, reserved, strict, final, fromMs: atMs, toMs: atMs };
    } finally {
      await handle.close();
    }
  }

  async #scan(file: SegmentName & Readonly<{ name: string; size: number }>, reader: SegmentReader): Promise<Segment> {
    const { name, size } = file;
    const segment = segmentOf(file);
    await this.#checkFormat(file);
    for (let offset = 0; ; ) {
      const read = await reader.read(name, offset, size);
      if (read.type === "end") break;
      if (read.type === "damaged") {
        this.#options.onDamage({ name, offset, bytes: read.end - offset, torn: false });
        offset = read.end;
        continue;
      }
      const { last, reserved, strict, atMs, final } = read.frame;
      segment.last = Math.max(segment.last, last);
      segment.reserved = Math.max(segment.reserved, reserved);
      segment.strict ||= strict;
      segment.final ||= final;
      segment.fromMs ||= atMs;
      segment.toMs = atMs;
      offset = read.end;
      segment.bytes = offset;
    }
    if (segment.bytes < size) await this.#cut(segment, size);
    return segment;
  }

  /** @throws SpoolFormatError rather than treating what a later version wrote as damaged */
  async #checkFormat({ name }: Readonly<{ name: string }>): Promise<void> {
    const bytes = Buffer.alloc(frameHeadBytes);
    await this.#withFile(name, async (file) => {
      await file.read(bytes, 0);
    });
    const format = formatOfFrame(bytes);
    if (format !== undefined && format > spoolFormat) throw new SpoolFormatError(name, format);
  }

  async #cut(segment: Segment, size: number): Promise<void> {
    const { name, bytes } = segment;
    this.#options.onDamage({ name, offset: bytes, bytes: size - bytes, torn: true });
    if (bytes === 0) return; // nothing in it is readable: left as it is
    await this.#withFile(name, (file) => file.truncate(bytes)).catch(() => undefined); // readers stop there anyway
  }

  async #withFile(name: string, use: (file: SpoolFile) => Promise<void>): Promise<void> {
    const file = await this.#options.disk.open(name);
    try {
      await use(file);
    } finally {
      await file.close();
    }
  }

  /** Writes frames. @param reserved as in a frame. @throws after the segment was ended at its last durable frame */
  async append(frames: readonly NewFrame[], reserved: number): Promise<void> {
    try {
      if (this.#active !== null && this.#active.at >= this.#segmentBytes) await this.#rotate();
      const active = this.#active ?? (await this.#create(reserved));
      const atMs = this.#options.nowMs();
      const chunks: Uint8Array[] = [];
      let at = active.at;
      for (const { payload, ...frame } of frames) {
        chunks.push(frameHeadOf({ ...frame, reserved, atMs, final: false }, payload, active.seed), payload);
        at += frameHeadBytes + payload.length;
        active.last = Math.max(active.last, frame.last);
        active.strict ||= frame.strict;
      }
      active.reserved = Math.max(active.reserved, reserved);
      active.toMs = atMs;
      await active.file.write(chunks, active.at);
      active.at = at;
    } catch (error) {
      await this.#abandon();
      throw error;
    }
  }

  /** @throws after the segment was ended at its last durable frame */
  async sync(): Promise<void> {
    const active = this.#active;
    if (active === null) return;
    try {
      await active.file.sync();
    } catch (error) {
      await this.#abandon();
      throw error;
    }
    const { segment, at, last, reserved, strict, toMs } = active;
    Object.assign(segment, { bytes: at, last, reserved, strict, toMs });
    segment.fromMs ||= toMs;
    this.#last = last;
    this.reserved = Math.max(this.reserved, reserved);
    this.notify();
  }

  /** Ends the segment in use. @param final the boot uses no more numbers */
  async end({ final }: Readonly<{ final: boolean }>): Promise<void> {
    const active = this.#active;
    if (active === null) return;
    try {
      const { last, strict, segment, seed } = active;
      const reserved = final ? last : active.reserved;
      const atMs = this.#options.nowMs();
      const head = frameHeadOf({ kind: "end", first: last + 1, last, reserved, atMs, strict, final }, noPayload, seed);
      await active.file.write([head], active.at);
      active.at += head.length;
      await this.sync();
      segment.ended = true;
      segment.final = final;
      this.#active = null;
      await active.file.close().catch(() => undefined); // its content is durable
      this.notify();
    } catch (error) {
      await this.#abandon();
      throw error;
    }
  }

  async #rotate(): Promise<void> {
    await this.end({ final: false });
  }

  async #create(reserved: number): Promise<Active> {
    const { disk, node, boot, nowMs } = this.#options;
    const first = this.#last + 1;
    const index = this.#nextIndex++;
    const name = formatSegmentName({ index, first, boot, kind: "records" });
    const file = await disk.create(name);
    const segment = { ...segmentOf({ index, first, boot, kind: "records", name, size: 0 }), ended: false };
    const last = this.#last;
    const active = { segment, file, seed: frameSeed(name), at: 0, last, reserved, strict: false, toMs: nowMs() };
    this.#segments.push(segment);
    this.#active = active;
    const payload = Buffer.from(`${JSON.stringify({ format: spoolFormat, node, boot, index, first })}\n`);
    const head = { kind: "header", first, last, reserved, atMs: active.toMs, strict: false, final: false } as const;
    await file.write([frameHeadOf(head, payload, active.seed), payload], 0);
    active.at = frameHeadBytes + payload.length;
    return active;
  }

  async #abandon(): Promise<void> {
    const active = this.#active;
    if (active === null) return;
    this.#active = null;
    const { segment, file } = active;
    segment.ended = true;
    await file.truncate(segment.bytes).catch(() => undefined); // readers stop there anyway
    await file.close().catch(() => undefined); // the failure that ended the segment is reported
    if (segment.bytes === 0) {
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      await this.#options.disk.remove(segment.name).catch(() => undefined); // an empty file; opening removes it
    }
    this.notify();
  }

  /**
   * Removes what every sink has, and makes room at the bound. Called by the writer, between its writes. @throws if a
   * file cannot be removed or replaced; it stays, and counts
   */
  async maintain(positions: readonly SpoolPosition[]): Promise<void> {
    const { disk, bytesMax } = this.#options;
    try {
      for (const segment of positions.length === 0 ? [] : deliveredSegments(this.#segments, positions)) {
        await disk.remove(segment.name);
        this.#segments.splice(this.#segments.indexOf(segment), 1);
      }
      while (this.bytes > bytesMax) {
        const dropped = segmentToDrop(this.#segments);
        if (dropped === null) break;
        await this.#drop(dropped);
      }
    } finally {
      this.full = this.bytes > bytesMax;
    }
  }

  async #drop(segment: Segment): Promise<void> {
    const { disk, node, boot: present } = this.#options;
    const at = this.#segments.indexOf(segment);
    const before = this.#segments[at - 1];
    const merged = before?.kind === "gap" && before.boot === segment.boot ? before : null;
    const { index, boot, toMs } = segment;
    const first = merged?.first ?? segment.first;
    const last = segment.last + tailOf(this.#segments, at, present);
    const name = formatSegmentName({ index, first, boot, kind: "gap" });
    const fromMs = merged?.fromMs ?? segment.fromMs;
    const reason: GapReason = "spool_full";
    const gap = { node, boot, first, last, reason, fromMs, toMs };
    const used = segment.last - first + 1;
    const line = gapRecordOf(last > segment.last ? { ...gap, atLeast: used } : gap);
    const payload = Buffer.from(`${JSON.stringify(line)}\n`);
    const head = { kind: "gap", first, last, reserved: last, atMs: toMs, strict: false, final: true } as const;
    const bytes = Buffer.concat([frameHeadOf(head, payload, frameSeed(name)), payload]);
    await disk.replace(name, bytes);
    const tombstone = segmentOf({ index, first, boot, kind: "gap", name, size: bytes.length });
    const { final } = segment;
    Object.assign(tombstone, { bytes: bytes.length, last, reserved: last, final, fromMs, toMs });
    this.#segments.splice(at, 1, tombstone);
    try {
      await disk.remove(segment.name);
    } catch (error) {
      this.#segments.splice(this.#segments.indexOf(tombstone), 1, segment); // it still takes its room
      throw error;
    }
    if (merged !== null) {
      this.#segments.splice(at - 1, 1);
      await disk.remove(merged.name);
    }
    this.notify();
  }
}

function segmentOf(file: SegmentName & Readonly<{ name: string; size: number }>): Segment {
  const { name, index, first, boot, kind } = file;
  const last = first - 1;
  const content = { bytes: 0, last, reserved: last, strict: false, fromMs: 0, toMs: 0 };
  return { name, index, first, boot, kind, ...content, ended: true, final: false };
}
