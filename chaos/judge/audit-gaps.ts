/** Audit gaps: which missing records the declared gaps account for. Pure. */
import type { AuditLine, RecordedGap } from "./audit-line.ts";
import type { Ns } from "./history.ts";

export type Gap = RecordedGap & Readonly<{ node: string; boot: string }>;

/** Something that must have a record and has none. It happened between two times, by the wall clock. */
export type Missing = Readonly<{
  what: string;
  at: Ns;
  node: string;
  fromMs: number;
  toMs: number;
  about: Readonly<Record<string, string>>;
}>;

/** Each once: repetitions and overlapping declarations of one boot count their numbers once. By node and time. */
export function gapsOf(lines: readonly AuditLine[]): readonly Gap[] {
  const all = lines.flatMap(({ node, boot, gap }) => (gap === null ? [] : [{ ...gap, node, boot }]));
  const inOrder = all.sort((a, b) => compare(a.node, b.node) || compare(a.boot, b.boot) || a.first - b.first);
  const gaps: Gap[] = [];
  for (const gap of inOrder) {
    const before = gaps.at(-1);
    if (before === undefined || before.node !== gap.node || before.boot !== gap.boot || gap.first > before.last) {
      gaps.push(gap);
      continue;
    }
    const last = Math.max(before.last, gap.last);
    const [fromMs, toMs] = [Math.min(before.fromMs, gap.fromMs), Math.max(before.toMs, gap.toMs)];
    gaps[gaps.length - 1] = { ...before, last, fromMs, toMs };
  }
  return gaps;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Gives each missing record a number of a gap of its node whose time fits. Gaps are taken in the order of their ends,
 * and each takes the records whose time ends first, so that as many as possible have one.
 * @returns those without one
 */
export function leftWithoutAGap(missing: readonly Missing[], gaps: readonly Gap[]): readonly Missing[] {
  const left = new Set(missing);
  const byNode = Map.groupBy(missing, ({ node }) => node);
  for (const gap of gaps.toSorted((a, b) => a.toMs - b.toMs)) {
    const fitting = (byNode.get(gap.node) ?? [])
      .filter((each) => left.has(each) && each.fromMs <= gap.toMs && each.toMs >= gap.fromMs)
      .sort((a, b) => a.toMs - b.toMs)
      .slice(0, gap.last - gap.first + 1);
    for (const each of fitting) left.delete(each);
  }
  return [...left];
}
