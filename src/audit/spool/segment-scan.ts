/**
 * Segment scan: what a file of an earlier boot holds. It writes nothing but the cut of a torn end. Pure, apart from the
 * disk that it is given.
 *
 * - Only a segment without an `end` frame is read as a whole.
 * - What cannot be read may have held records, or nothing: its length says how many at most.
 */
import { CodedError } from "../../events/index.ts";
import { formatOfFrame, frameAt, frameHeadBytes, frameSeed, type SpoolFrame, spoolFormat } from "./frame.ts";
import { type DroppedGap, droppedGapIn } from "./gap-list.ts";
import type { Segment, SegmentName } from "./segment.ts";
import type { SegmentReader } from "./segment-reader.ts";
import type { SpoolDisk, SpoolFile } from "./spool-disk.ts";

export type Damage = Readonly<{ name: string; offset: number; bytes: number; torn: boolean }>;

export type FoundFile = SegmentName & Readonly<{ name: string; size: number }>;

export type ScanOptions = Readonly<{
  disk: SpoolDisk;
  reader: SegmentReader;
  onDamage: (damage: Damage) => void;
}>;

/** A record is longer than this. */
const recordBytesLeast = 256;

export class SpoolFormatError extends CodedError<"ERR_AUDIT_SPOOL_FORMAT"> {
  override readonly code = "ERR_AUDIT_SPOOL_FORMAT";
  constructor(name: string, format: number) {
    super(`the audit segment ${name} has the format ${format} of a later version; this one reads ${spoolFormat}`);
  }
}

/** A segment without content. */
export function segmentOf({ index, first, boot, kind, name, size }: FoundFile): Segment {
  const last = first - 1;
  const content = { bytes: 0, last, reserved: last, strict: false, fromMs: 0, toMs: 0, size, damaged: false, gaps: [] };
  return { name, index, first, boot, kind, ...content, ended: true, final: false };
}

/** @throws SpoolFormatError, or if the disk cannot be read */
export async function scanSegment(file: FoundFile, options: ScanOptions): Promise<Segment> {
  if (file.kind === "gap") return scanGaps(file, options);
  return (await segmentWithEnd(file, options)) ?? scanRecords(file, options);
}

/** A segment whose last frame is an `end`: it needs no scan. */
async function segmentWithEnd(file: FoundFile, { disk }: ScanOptions): Promise<Segment | undefined> {
  const { name, size } = file;
  if (size < frameHeadBytes * 2) return undefined;
  let frame: SpoolFrame | undefined;
  const head = Buffer.alloc(frameHeadBytes * 16);
  await withFile(disk, name, async (handle) => {
    const bytes = Buffer.alloc(frameHeadBytes);
    await handle.read(bytes, size - frameHeadBytes);
    frame = frameAt(bytes, 0, frameSeed(name));
    if (frame?.kind === "end") await handle.read(head, 0);
  });
  if (frame?.kind !== "end") return undefined;
  const { last, reserved, strict, atMs, final } = frame;
  const fromMs = Math.min(atMs, frameAt(head, 0, frameSeed(name))?.atMs ?? 0);
  return { ...segmentOf(file), bytes: size, last, reserved, strict, final, fromMs, toMs: atMs };
}

async function scanRecords(file: FoundFile, { disk, reader, onDamage }: ScanOptions): Promise<Segment> {
  const { name, size } = file;
  const segment = segmentOf(file);
  await checkFormat(file, disk);
  for (let offset = 0; ; ) {
    const read = await reader.read(name, offset, size);
    if (read.type === "end") break;
    if (read.type === "damaged") {
      onDamage({ name, offset, bytes: read.end - offset, torn: false });
      offset = read.end;
      continue;
    }
    const { last, reserved, strict, atMs, final } = read.frame;
    segment.last = Math.max(segment.last, last);
    segment.reserved = Math.max(segment.reserved, reserved);
    segment.strict ||= strict;
    segment.final ||= final;
    segment.fromMs = Math.min(segment.fromMs || atMs, atMs);
    segment.toMs = Math.max(segment.toMs, atMs);
    offset = read.end;
    segment.bytes = offset;
  }
  if (segment.bytes < size) await cut(segment, { disk, reader, onDamage });
  return segment;
}

/** Cuts off the end, or leaves a file in which nothing can be read. Readers declare what may have been there. */
async function cut(segment: Segment, { disk, onDamage }: ScanOptions): Promise<void> {
  const { name, bytes, size } = segment;
  onDamage({ name, offset: bytes, bytes: size - bytes, torn: true });
  if (!segment.final) {
    segment.reserved = Math.max(segment.reserved, segment.last + Math.floor((size - bytes) / recordBytesLeast));
    segment.damaged = bytes === 0;
  }
  if (bytes === 0) segment.bytes = size;
  // If the file cannot be cut, readers stop there anyway.
  else await withFile(disk, name, (file) => file.truncate(bytes)).then(() => (segment.size = bytes), ignore);
}

const ignore = (): undefined => undefined;

/** @throws SpoolFormatError rather than treating what a later version wrote as damaged */
async function checkFormat({ name }: FoundFile, disk: SpoolDisk): Promise<void> {
  const bytes = Buffer.alloc(frameHeadBytes);
  await withFile(disk, name, async (file) => {
    await file.read(bytes, 0);
  });
  const format = formatOfFrame(bytes);
  if (format !== undefined && format > spoolFormat) throw new SpoolFormatError(name, format);
}

async function scanGaps(file: FoundFile, { disk, reader, onDamage }: ScanOptions): Promise<Segment> {
  const { name, size, index, boot, first } = file;
  await checkFormat(file, disk);
  const gaps: DroppedGap[] = [];
  for (let offset = 0; ; ) {
    const read = await reader.read(name, offset, size);
    const gap = read.type === "frame" ? droppedGapIn(read.frame, index) : undefined;
    if (gap !== undefined) gaps.push(gap);
    else if (read.type !== "end") onDamage({ name, offset, bytes: read.end - offset, torn: false });
    if (read.type === "end") break;
    offset = read.end;
  }
  if (gaps.at(-1)?.index !== index) {
    onDamage({ name, offset: 0, bytes: size, torn: false });
    gaps.push({ from: index, index, boot, first, last: first, used: 0, reason: "damaged", fromMs: 0, toMs: 0 });
  }
  return { ...segmentOf(file), ...summaryOf(gaps), bytes: size, final: true, gaps };
}

/** What a segment says of its gaps as a whole. */
export function summaryOf(gaps: readonly DroppedGap[]): Pick<Segment, "last" | "reserved" | "fromMs" | "toMs"> {
  const { last = 0 } = gaps.at(-1) ?? {};
  const fromMs = gaps.reduce((least, gap) => Math.min(least, gap.fromMs), Number.POSITIVE_INFINITY);
  const toMs = gaps.reduce((most, gap) => Math.max(most, gap.toMs), 0);
  return { last, reserved: last, fromMs, toMs };
}

async function withFile(disk: SpoolDisk, name: string, use: (file: SpoolFile) => Promise<void>): Promise<void> {
  const file = await disk.open(name);
  try {
    await use(file);
  } finally {
    await file.close();
  }
}
