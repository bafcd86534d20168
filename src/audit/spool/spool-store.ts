/**
 * Spool store: the segments of one node's spool. One writer appends; readers read what is durable. Pure, apart from the
 * disk and clock that it is given.
 *
 * - `append` writes, `sync` makes it durable. Only then do readers see it, and `Segment` counts it.
 * - A failed write or sync ends its segment at the last durable frame, because what a failed sync leaves on the disk is
 *   unknown. The caller appends the same records again, to a new segment.
 * - Opening cuts torn ends (segment-scan.ts). It writes nothing else: numbers that an ended boot reserved and left
 *   unused are declared by readers (spool-cursor.ts).
 * - Segments that every sink has passed are removed. At the bound, which counts the blocks that files take and the
 *   files themselves, the oldest without strict records are replaced by gaps.
 */
import type { BootId, NodeId } from "../../events/index.ts";
import { type FrameHead, frameHeadBytes, frameHeadOf, frameSeed, spoolFormat } from "./frame.ts";
import { condenseGaps, type DroppedGap, encodeGapList, gapListMax } from "./gap-list.ts";
import { type RecentFrame, RecentFrames } from "./recent-frames.ts";
import {
  deliveredSegments,
  formatSegmentName,
  joinPosition,
  listWithout,
  parseSegmentName,
  replacedSegments,
  roomOf,
  type Segment,
  type SpoolPosition,
  segmentToDrop,
} from "./segment.ts";
import { SegmentReader } from "./segment-reader.ts";
import { type Damage, scanSegment, segmentOf, summaryOf } from "./segment-scan.ts";
import type { SpoolDisk, SpoolFile } from "./spool-disk.ts";

/** A frame to append. `last`: the newest number after it. */
export type NewFrame = Pick<FrameHead, "kind" | "first" | "last" | "strict"> &
  Readonly<{ payload: Buffer; runs?: Uint16Array }>;

export type SpoolOptions = Readonly<{
  disk: SpoolDisk;
  node: NodeId;
  boot: BootId;
  /** Bounds of all segments: the blocks that they take on the disk, and their number. */
  bytesMax: number;
  segmentsMax?: number;
  /** Bound of the pages of recent frames in memory (recent-frames.ts). */
  recentPagesMax?: number;
  nowMs: () => number;
  /** Called for each damaged place. `torn`: the end of a segment, which is cut off; no durable record was there. */
  onDamage: (damage: Damage) => void;
}>;

/** What each reader of the spool has stored as read. */
export type SpoolPositions = Readonly<{ sinks: readonly SpoolPosition[]; sealer: SpoolPosition | null }>;

const segmentBytesUsual = 8 * 1_024 * 1_024;
const segmentBytesMost = 128 * 1_024 * 1_024;
const segmentsLeast = 16;
/** A large spool has larger segments rather than more of them. */
const segmentsUsualMax = 1_024;
/** Segments of full length are at most a quarter of them. The others are of boots that ended early. */
const segmentsMaxDefault = 4_096;
const noPayload = Buffer.alloc(0);

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
  readonly #recent: RecentFrames;
  #nextIndex = 1;
  #last = 0;
  /** A file without durable content that could not be removed. No further one is created before it is. */
  #leftover: string | null = null;
  #changed = Promise.withResolvers<void>();
  /** No number of this boot above this one is used before a later reservation is durable. */
  reserved = 0;
  /** The bound is reached, and every segment must be kept. */
  full = false;

  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#recent = new RecentFrames(options.recentPagesMax);
    const { bytesMax } = options;
    const usual = Math.min(segmentBytesMost, Math.max(segmentBytesUsual, Math.floor(bytesMax / segmentsUsualMax)));
    this.#segmentBytes = Math.min(usual, Math.floor(bytesMax / segmentsLeast));
  }

  get segments(): readonly Segment[] {
    return this.#segments;
  }

  /** The blocks that the segments take on the disk. */
  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + roomOf(segment), 0);
  }

  /** Where a sink begins that has nothing yet. */
  get joinPosition(): SpoolPosition {
    return joinPosition(this.#segments, this.#nextIndex);
  }

  /** The frame of a segment at this offset, if it is durable and still in memory. */
  recentAt(segment: Segment, offset: number): RecentFrame | undefined {
    const found = this.#recent.at(segment.index, offset);
    return found !== undefined && offset + found.frame.bytes <= segment.bytes ? found : undefined;
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
    const { onDamage } = this.#options;
    const reader = new SegmentReader(disk);
    try {
      for (const file of found) {
        this.#nextIndex = Math.max(this.#nextIndex, file.index + 1);
        if (file.size === 0) {
          await disk.remove(file.name); // the process ended before anything was durable
          continue;
        }
        const before = this.#segments.at(-1);
        const segment = await scanSegment(file, { disk, reader, onDamage });
        if (before?.boot === segment.boot) segment.reserved = Math.max(segment.reserved, before.reserved);
        this.#segments.push(segment);
      }
    } finally {
      await reader.close();
    }
    for (const segment of replacedSegments(this.#segments)) {
      await disk.remove(segment.name); // the process or the power ended before it was gone
      this.#segments.splice(this.#segments.indexOf(segment), 1);
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
      for (const { kind, first, last, strict, payload, runs } of frames) {
        const head = { kind, first, last, strict, reserved, atMs, final: false };
        chunks.push(...this.#bytesOf(active, { at, head, payload, ...(runs === undefined ? {} : { runs }) }));
        at += frameHeadBytes + payload.length;
        active.last = Math.max(active.last, last);
        active.strict ||= strict;
      }
      active.reserved = Math.max(active.reserved, reserved);
      active.toMs = atMs;
      active.segment.size = at;
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
    Object.assign(segment, { bytes: at, last, reserved, strict });
    segment.fromMs = Math.min(segment.fromMs || toMs, toMs); // the clock may be set back
    segment.toMs = Math.max(segment.toMs, toMs);
    this.#last = last;
    this.reserved = Math.max(this.reserved, reserved);
    this.notify();
  }

  /** Ends the segment in use. @param final the boot uses no more numbers */
  async end({ final }: Readonly<{ final: boolean }>): Promise<void> {
    const active = this.#active;
    if (active === null) return;
    try {
      const { last, strict, segment } = active;
      const reserved = final ? last : active.reserved;
      const atMs = this.#options.nowMs();
      const head = { kind: "end", first: last + 1, last, reserved, atMs, strict, final } as const;
      const bytes = this.#bytesOf(active, { at: active.at, head, payload: noPayload });
      segment.size = active.at + frameHeadBytes;
      await active.file.write(bytes, active.at);
      active.at += frameHeadBytes;
      await this.sync();
      segment.ended = true;
      segment.final = final;
      if (final) this.reserved = last;
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
    if (this.#leftover !== null) await disk.remove(this.#leftover);
    this.#leftover = null;
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
    segment.size = frameHeadBytes + payload.length;
    await file.write(this.#bytesOf(active, { at: 0, head, payload }), 0);
    active.at = segment.size;
    return active;
  }

  /** A frame as it is written. Readers may have it from memory, too. */
  #bytesOf(
    { segment, seed }: Pick<Active, "segment" | "seed">,
    of: Readonly<{ at: number; head: FrameHead; payload: Buffer; runs?: Uint16Array }>,
  ): readonly Uint8Array[] {
    const { at: offset, head, payload, ...more } = of;
    const { index } = segment;
    this.#recent.add({ index, offset, frame: { ...head, payload, bytes: frameHeadBytes + payload.length }, ...more });
    return [frameHeadOf(head, payload, seed), payload];
  }

  async #abandon(): Promise<void> {
    const active = this.#active;
    if (active === null) return;
    this.#active = null;
    const { segment, file } = active;
    segment.ended = true;
    const { name, bytes } = segment;
    // If it cannot be cut, readers stop there anyway.
    await file.truncate(bytes).then(
      () => (segment.size = bytes),
      () => undefined,
    );
    await file.close().catch(() => undefined); // the failure that ended the segment is reported
    if (bytes === 0) {
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      await this.#options.disk.remove(name).catch(() => (this.#leftover = name)); // opening removes it, too
    }
    this.notify();
  }

  /**
   * Removes what every reader has, and makes room at the bound. Called by the writer, between its writes.
   * @param positions.sealer null: nothing is sealed
   * @throws if a file cannot be removed or replaced; it stays, and counts
   */
  async maintain({ sinks, sealer }: SpoolPositions): Promise<void> {
    const { disk } = this.#options;
    try {
      const positions = sealer === null ? sinks : [...sinks, sealer];
      for (const segment of positions.length === 0 ? [] : deliveredSegments(this.#segments, positions)) {
        await disk.remove(segment.name);
        this.#segments.splice(this.#segments.indexOf(segment), 1);
      }
      while (this.#isBeyondBound()) {
        const dropped = segmentToDrop(this.#segments, sinks);
        const longest = this.#longestList();
        if (dropped !== null) await this.#drop(dropped);
        else if (longest !== null) await this.#condense(longest);
        else break;
      }
    } finally {
      this.full = this.#isBeyondBound();
    }
  }

  #isBeyondBound(): boolean {
    const { bytesMax, segmentsMax = segmentsMaxDefault } = this.#options;
    return this.#segments.length > segmentsMax || this.bytes > bytesMax;
  }

  /** The list of gaps that takes most room, if it could take less. */
  #longestList(): Segment | null {
    const lists = this.#segments.filter((segment) => segment.gaps.length > 1 && roomOf(segment) > roomOf({ size: 1 }));
    return lists.toSorted((a, b) => b.size - a.size)[0] ?? null;
  }

  /** Replaces a segment by its gaps, in one list with those of its neighbours. */
  async #drop(segment: Segment): Promise<void> {
    const { disk, boot: present } = this.#options;
    const segments = this.#segments;
    const at = segments.indexOf(segment);
    const { gaps, before, after } = listWithout(segments, at, present);
    const [newest] = gaps.slice(-1);
    if (newest !== undefined) {
      const { index } = after ?? segment;
      const name = after?.name ?? formatSegmentName({ index, first: newest.first, boot: newest.boot, kind: "gap" });
      const list = await this.#writeList({ name, index }, condenseGaps(gaps, gapListMax));
      segments.splice(at + 1, after === null ? 0 : 1, list);
    }
    // The list first, with its name: after a crash, what it covers counts as removed.
    for (const old of [segment, ...(newest === undefined || before === null ? [] : [before])]) {
      await disk.remove(old.name); // if it fails, the file still takes its room
      segments.splice(segments.indexOf(old), 1);
    }
    this.notify();
  }

  async #condense(list: Segment): Promise<void> {
    const shorter = await this.#writeList(list, condenseGaps(list.gaps, Math.floor(list.gaps.length / 2)));
    this.#segments.splice(this.#segments.indexOf(list), 1, shorter);
    this.notify();
  }

  async #writeList({ name, index }: Pick<Segment, "name" | "index">, gaps: readonly DroppedGap[]): Promise<Segment> {
    const bytes = encodeGapList(name, gaps);
    await this.#options.disk.replace(name, bytes);
    const { first = 1, boot = this.#options.boot } = gaps.at(-1) ?? {};
    const list = segmentOf({ index, first, boot, kind: "gap", name, size: bytes.length });
    return { ...list, ...summaryOf(gaps), bytes: bytes.length, final: true, gaps };
  }
}
