/** Gap record: declares which numbers of a boot have no record, why, and between which times. Pure. */
import type { BootId, NodeId, UnixMs } from "../../events/index.ts";

/**
 * `ring_full`: records came faster than the disk took them. `spool_full`: the spool was at its bound. `killed`: the
 * process ended without writing its newest records. `damaged`: the disk returned something else than was written.
 * `dropped`: the record was too large.
 */
export const gapReasons = ["ring_full", "spool_full", "killed", "damaged", "dropped"] as const;
export type GapReason = (typeof gapReasons)[number];

export type GapRecord = Readonly<{
  kind: "gap";
  /** Equals `last`, so that `<boot>:<seq>` names the gap like a record. */
  seq: number;
  node: NodeId;
  boot: BootId;
  at: UnixMs;
  first: number;
  last: number;
  /** Absent in records of older builds. */
  reason?: GapReason;
  /** How many of the numbers surely belonged to a decision. Absent: all. Numbers are reserved ahead of their use. */
  atLeast?: number;
  /**
   * Gaps of so many earlier boots of the node that are no longer known each, and how many decisions they surely cover.
   * The node was killed so often while a sink was behind that the spool cannot keep them.
   */
  earlier?: Readonly<{ boots: number; atLeast: number }>;
  /** No decision of the gap was made before `fromMs` or after `toMs`. */
  fromMs?: number;
  toMs?: number;
  why: string;
  /** Of older builds: an earlier boot of the node that did not shut down cleanly. */
  ended?: Readonly<{ boot: BootId; written: number; used: number; reserved: number }>;
}>;

export type Gap = Readonly<{
  node: NodeId;
  boot: BootId;
  first: number;
  last: number;
  reason: GapReason;
  fromMs: number;
  toMs: number;
  atLeast?: number;
}>;

const whys: Readonly<Record<GapReason, string>> = {
  ring_full: "decisions were made faster than the disk stored their records",
  spool_full: "the spool was full, because a sink fell behind",
  killed: "the process ended before it had stored them; the numbers are an upper bound",
  damaged: "the disk returned something else than was written",
  dropped: "the record was larger than a record may be",
};

export function gapRecordOf(gap: Gap): GapRecord {
  const { node, boot, first, last, reason, fromMs, toMs, atLeast } = gap;
  const record = { kind: "gap", seq: last, node, boot, at: Math.trunc(toMs) as UnixMs, first, last, reason } as const;
  const bounds = { fromMs: Math.trunc(fromMs), toMs: Math.trunc(toMs), why: whys[reason] };
  return atLeast === undefined ? { ...record, ...bounds } : { ...record, atLeast, ...bounds };
}

/** How many records a gap declares missing: surely, and at most. */
export function gapSizes(
  gap: Pick<GapRecord, "first" | "last" | "atLeast">,
): Readonly<{ least: number; most: number }> {
  return { least: Math.max(0, sizeOfGap(gap)), most: Math.max(0, gap.last - gap.first + 1) };
}

/** How many decisions a gap surely covers. */
export function sizeOfGap(gap: Pick<GapRecord, "first" | "last" | "atLeast" | "earlier">): number {
  return (gap.atLeast ?? gap.last - gap.first + 1) + (gap.earlier?.atLeast ?? 0);
}
