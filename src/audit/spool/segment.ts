/**
 * Segment: one file of the spool, with records of one boot. Its name says which numbers it begins with. Pure.
 *
 * `<index>-<first>-<boot>.records`; a segment that retention dropped is replaced by a `.gap` of the same index.
 */
import { type BootId, parseBootId } from "../../events/index.ts";

export type SegmentName = Readonly<{
  /** Grows from segment to segment, over all boots. */
  index: number;
  /** The first number that the segment may hold. */
  first: number;
  boot: BootId;
  kind: "records" | "gap";
}>;

/** What is known of a segment. */
export type Segment = SegmentName & {
  readonly name: string;
  /** Readers read up to here: what follows is not durable, or damaged. */
  bytes: number;
  /** The newest number of its frames; `first - 1`: none. */
  last: number;
  /** The newest number that its boot may have used, as far as this segment knows. */
  reserved: number;
  /** Retention must keep it until every sink has it. */
  strict: boolean;
  /** No frame is added any more. */
  ended: boolean;
  /** The last segment of a boot that shut down cleanly: no number above `last` was used. */
  final: boolean;
  /** Times of its first and last frame; milliseconds since 1970. */
  fromMs: number;
  toMs: number;
};

export function formatSegmentName({ index, first, boot, kind }: SegmentName): string {
  return `${String(index).padStart(12, "0")}-${first}-${boot}.${kind}`;
}

/** @returns undefined if the file is not a segment */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^(\d{12,15})-(\d{1,15})-(.+)\.(records|gap)$/.exec(name);
  if (match === null) return undefined;
  const [, index, first, bootText, kind] = match;
  try {
    const boot = parseBootId(bootText);
    return { index: Number(index), first: Number(first), boot, kind: kind === "gap" ? "gap" : "records" };
  } catch {
    return undefined;
  }
}

/** Where a sink is: it has everything before this. */
export type SpoolPosition = Readonly<{
  /** The segment to read from, and the offset of the next frame. */
  index: number;
  offset: number;
  /** The boot of the last record, and the number that follows it. Null: the sink has nothing yet. */
  boot: BootId | null;
  next: number;
}>;

export const spoolStart: SpoolPosition = { index: 0, offset: 0, boot: null, next: 1 };

/** Numbers that a boot reserved and that no frame accounts for, after its last segment. */
export function tailOf(segments: readonly Segment[], at: number, boot: BootId): number {
  const segment = segments[at];
  if (segment === undefined || segment.final || segment.boot === boot) return 0; // the present boot goes on
  if (segments[at + 1]?.boot === segment.boot) return 0;
  return Math.max(0, segment.reserved - segment.last);
}

/** What waits for a sink. */
export function backlogOf(
  segments: readonly Segment[],
  position: SpoolPosition,
): Readonly<{ records: number; bytes: number; fromMs: number | null }> {
  let records = 0;
  let bytes = 0;
  let fromMs: number | null = null;
  for (const segment of segments) {
    if (segment.index < position.index || segment.last < segment.first) continue;
    const isCurrent = segment.index === position.index;
    const next = segment.boot === position.boot ? Math.max(position.next, segment.first) : segment.first;
    const left = segment.last - next + 1;
    if (left <= 0) continue;
    records += left;
    bytes += Math.max(0, segment.bytes - (isCurrent ? position.offset : 0));
    fromMs ??= segment.fromMs;
  }
  return { records, bytes, fromMs };
}

/**
 * @returns the segments that every sink has passed, oldest first; never the newest durable one, because only it
 * says which numbers are reserved
 */
export function deliveredSegments(
  segments: readonly Segment[],
  positions: readonly SpoolPosition[],
): readonly Segment[] {
  const durable = segments.findLast(({ bytes }) => bytes > 0)?.index ?? 0;
  const reached = Math.min(durable, ...positions.map(({ index }) => index));
  return segments.filter((segment) => segment.ended && segment.index < reached);
}

/**
 * The segment to give up when the spool is at its bound: the oldest that is ended and has no strict record. Null: there
 * is none, so the spool is full.
 */
export function segmentToDrop(segments: readonly Segment[]): Segment | null {
  return (
    segments.find(({ ended, strict, kind, last, first }) => {
      return ended && !strict && kind === "records" && last >= first;
    }) ?? null
  );
}
