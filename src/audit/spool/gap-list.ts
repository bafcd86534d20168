/**
 * Gap list: what is known of segments that retention dropped, in a file of the same place in the order. Pure.
 *
 * - Neighbouring dropped segments share one file, also those of different boots. So a node that is killed again and
 *   again while a sink is down leaves one small file, not one for each boot.
 * - A list has at most 256 gaps. Beyond that the older half becomes one gap, which says of how many boots it is.
 */
import { type BootId, type NodeId, parseBootId } from "../../events/index.ts";
import { frameHeadOf, frameSeed, type SpoolFrame } from "./frame.ts";
import { type Gap, type GapReason, type GapRecord, gapReasons, gapRecordOf } from "./gap-record.ts";

/** The gap of one or more neighbouring segments of a boot. */
export type DroppedGap = Readonly<{
  /** Indexes of the first and last of these segments. */
  from: number;
  index: number;
  boot: BootId;
  first: number;
  last: number;
  /** How many of the numbers surely belonged to a decision. */
  used: number;
  reason: GapReason;
  fromMs: number;
  toMs: number;
  /** Gaps of earlier boots that are no longer known each. */
  earlier?: GapRecord["earlier"];
}>;

export const gapListMax = 256;

/** Gaps of one boot become one. A gap may be given twice, after a crash between the steps that replaced its segment. */
export function mergeGaps(gaps: readonly DroppedGap[]): readonly DroppedGap[] {
  const merged: DroppedGap[] = [];
  for (const gap of gaps.toSorted((a, b) => a.index - b.index || b.from - a.from)) {
    while ((merged.at(-1)?.from ?? 0) >= gap.from) merged.pop(); // this one covers it
    const before = merged.at(-1);
    if (before?.boot === gap.boot) merged.splice(-1, 1, unionOf(before, gap));
    else merged.push(gap);
  }
  return merged;
}

function unionOf(a: DroppedGap, b: DroppedGap): DroppedGap {
  const [first, last] = [Math.min(a.first, b.first), Math.max(a.last, b.last)];
  const used = Math.min(last - first + 1, a.used + b.used);
  const reason = a.reason === "spool_full" ? a.reason : b.reason;
  const [fromMs, toMs] = [Math.min(a.fromMs, b.fromMs), Math.max(a.toMs, b.toMs)];
  const union = { from: a.from, index: b.index, boot: b.boot, first, last, used, reason, fromMs, toMs };
  const earlier = a.earlier ?? b.earlier; // neighbours of one boot: at most one has them
  return earlier === undefined ? union : { ...union, earlier };
}

/** @returns at most so many gaps: the older half of a longer list is one */
export function condenseGaps(gaps: readonly DroppedGap[], max: number): readonly DroppedGap[] {
  if (gaps.length <= max) return gaps;
  const kept = Math.max(1, Math.floor(max / 2));
  const older = gaps.slice(0, gaps.length - kept + 1);
  const newest = older.at(-1) as DroppedGap;
  let [boots, atLeast, fromMs, toMs] = [0, 0, newest.fromMs, newest.toMs];
  for (const gap of older) {
    boots += (gap === newest ? 0 : 1) + (gap.earlier?.boots ?? 0);
    atLeast += (gap === newest ? 0 : gap.used) + (gap.earlier?.atLeast ?? 0);
    fromMs = Math.min(fromMs, gap.fromMs);
    toMs = Math.max(toMs, gap.toMs);
  }
  const { from } = older[0] ?? newest;
  return [{ ...newest, from, fromMs, toMs, earlier: { boots, atLeast } }, ...gaps.slice(older.length)];
}

/**
 * The record that declares the gap to a sink. @param next the number that follows the sink's newest record of the boot;
 * null: it has none of the boot
 */
export function recordOfDropped(gap: DroppedGap, node: NodeId, next: number | null): GapRecord {
  const { boot, last, reason, fromMs, toMs, earlier } = gap;
  const first = next ?? 1;
  const used = Math.min(last - first + 1, Math.max(0, gap.used + gap.first - first));
  const common: Gap = { node, boot, first, last, reason, fromMs, toMs };
  const record = gapRecordOf(used === last - first + 1 ? common : { ...common, atLeast: used });
  return earlier === undefined || next !== null ? record : { ...record, earlier };
}

/** @returns the content of the list's file of this name */
export function encodeGapList(name: string, gaps: readonly DroppedGap[]): Buffer {
  const seed = frameSeed(name);
  return Buffer.concat(
    gaps.flatMap((gap) => {
      const { first, last, toMs: atMs } = gap;
      const payload = Buffer.from(`${JSON.stringify(gap)}\n`);
      const head = { kind: "gap", first, last, reserved: last, atMs, strict: false, final: true } as const;
      return [frameHeadOf(head, payload, seed), payload];
    }),
  );
}

/** @param index of the file's name @returns undefined if the frame is no gap of a list */
export function droppedGapIn({ kind, payload }: SpoolFrame, index: number): DroppedGap | undefined {
  if (kind !== "gap") return undefined;
  try {
    const given = JSON.parse(payload.toString("utf8")) as Partial<DroppedGap> & Partial<GapRecord>;
    const { first = 0, last = 0, fromMs = 0, toMs = 0, earlier } = given;
    // A file of an older build has one gap, as its record.
    const used = given.used ?? given.atLeast ?? last - first + 1;
    const place = { from: given.from ?? index, index: given.index ?? index };
    const numbers = [first, last, used, fromMs, toMs, place.from, place.index];
    if (!numbers.every(Number.isFinite)) return undefined;
    const reason = gapReasons.find((each) => each === given.reason) ?? "damaged";
    const gap = { ...place, boot: parseBootId(given.boot), first, last, used, reason, fromMs, toMs };
    return earlier === undefined ? gap : { ...gap, earlier };
  } catch {
    return undefined; // reported as damage
  }
}
