/**
 * Segment: one file of the spool, with records of one boot. Its name says which numbers it begins with. Pure.
 *
 * `<index>-<first>-<boot>.records`; segments that retention dropped are replaced by a `.gap`, a list of gaps, which has
 * the index of the last of them.
 */
import { type BootId, parseBootId } from "../../events/index.ts";
import { type DroppedGap, mergeGaps } from "./gap-list.ts";

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
  /** Times of its oldest and newest frame; milliseconds since 1970. */
  fromMs: number;
  toMs: number;
  /** Length of the file. */
  size: number;
  /** Nothing in it can be read, or its end cannot: `reserved` is then an upper bound by its length. */
  damaged: boolean;
  /** In order; of a `.gap` only. */
  gaps: readonly DroppedGap[];
};

/** Files take whole blocks of a disk. */
const blockBytes = 4_096;

/** The room of a segment on the disk. */
export function roomOf({ size }: Pick<Segment, "size">): number {
  return Math.max(1, Math.ceil(size / blockBytes)) * blockBytes;
}

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

/**
 * Where a sink begins that has nothing yet.
 * @param nextIndex of the next segment
 */
export function joinPosition([oldest]: readonly Segment[], nextIndex: number): SpoolPosition {
  if (oldest === undefined) return { index: nextIndex, offset: 0, boot: null, next: 1 };
  const { index, boot, first } = oldest.gaps[0] ?? oldest;
  return { index, offset: 0, boot, next: first };
}

/** Whether the numbers of the segment's boot go on in the segment behind it. */
export function goesOn(segments: readonly Segment[], at: number): boolean {
  const next = segments[at + 1];
  return next !== undefined && (next.gaps[0] ?? next).boot === segments[at]?.boot;
}

/** Numbers that a boot reserved and that no frame accounts for, after its last segment. */
export function tailOf(segments: readonly Segment[], at: number, boot: BootId): number {
  const segment = segments[at];
  if (segment === undefined || segment.kind === "gap" || segment.final) return 0;
  if (segment.boot === boot || goesOn(segments, at)) return 0; // the present boot goes on
  return Math.max(0, segment.reserved - segment.last);
}

/** What is declared once the segment is dropped. */
export function gapsOf(segments: readonly Segment[], at: number, present: BootId): readonly DroppedGap[] {
  const segment = segments[at];
  if (segment === undefined || segment.kind === "gap") return segment?.gaps ?? [];
  const { index, boot, first, fromMs, toMs, damaged } = segment;
  const next = segments[at + 1];
  const isFollowed = goesOn(segments, at);
  const before = isFollowed ? (next?.gaps[0]?.first ?? next?.first ?? first) - 1 : 0;
  const last = Math.max(segment.last + tailOf(segments, at, present), before);
  if (last < first) return [];
  const used = (isFollowed ? last : segment.last) - first + 1;
  const reason = damaged ? "damaged" : used > 0 ? "spool_full" : "killed";
  return [{ from: index, index, boot, first, last, used, reason, fromMs, toMs }];
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
    if (segment.index < position.index) continue;
    const left = segment.kind === "gap" ? undeclared(segment, position) : undelivered(segment, position);
    if (left <= 0) continue;
    records += left;
    bytes += Math.max(0, segment.bytes - (segment.index === position.index ? position.offset : 0));
    fromMs ??= segment.fromMs;
  }
  return { records, bytes, fromMs };
}

function undelivered({ boot, first, last }: Segment, position: SpoolPosition): number {
  const next = boot === position.boot ? Math.max(position.next, first) : first;
  return last - next + 1;
}

function undeclared({ gaps }: Segment, position: SpoolPosition): number {
  const waiting = gaps.filter(({ index }) => index >= position.index);
  return waiting.reduce((sum, { used, earlier }) => sum + used + (earlier?.atLeast ?? 0), 0);
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
 * The segment to give up when the spool is at its bound: one without records, else the oldest that every sink has or
 * that has no strict record, else a list of gaps that has another one behind it. Never the newest durable one or a
 * later one. Null: there is none, so the spool is full.
 *
 * What every sink has may still be without a seal. It goes first all the same, because no record is lost by it, and the
 * next seal says which numbers it does not cover (seal/boot-tree.ts).
 * @param positions of the sinks
 */
export function segmentToDrop(segments: readonly Segment[], positions: readonly SpoolPosition[]): Segment | null {
  const newest = segments.findLast(({ bytes }) => bytes > 0)?.index ?? 0;
  const reached = positions.length === 0 ? 0 : Math.min(...positions.map(({ index }) => index));
  const mayGo = ({ index, ended, strict }: Segment): boolean => ended && (!strict || index < reached) && index < newest;
  const isRecords = (segment: Segment): boolean => segment.kind === "records" && mayGo(segment);
  return (
    segments.find((segment) => isRecords(segment) && segment.last < segment.first) ??
    segments.find(isRecords) ??
    segments.find((segment, i) => segment.kind === "gap" && segments[i + 1]?.kind === "gap") ??
    null
  );
}

/** The segments that a list of gaps has replaced, and that are still there. */
export function replacedSegments(segments: readonly Segment[]): readonly Segment[] {
  const lists = segments.filter(({ kind }) => kind === "gap");
  return segments.filter(({ index, name }) =>
    lists.some((list) => list.name !== name && list.gaps.some((gap) => gap.from <= index && index <= gap.index)),
  );
}

/** The gaps of a segment that is dropped, in one list with those of its neighbours. */
export function listWithout(
  segments: readonly Segment[],
  at: number,
  present: BootId,
): Readonly<{ gaps: readonly DroppedGap[]; before: Segment | null; after: Segment | null }> {
  const [before = null, after = null] = [segments[at - 1], segments[at + 1]].map((each) =>
    each?.kind === "gap" ? each : null,
  );
  const own = gapsOf(segments, at, present);
  return { gaps: mergeGaps([...(before?.gaps ?? []), ...own, ...(after?.gaps ?? [])]), before, after };
}
