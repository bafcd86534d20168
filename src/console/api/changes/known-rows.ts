/**
 * Known rows: the newest rows of the timeline without filters, so that a reader reads only the events since. Pure.
 *
 * - Rows are kept under the link of their newest event. A link stands for all events below it: the rows are right for
 *   as long as the log has that link, and begins where it began.
 * - Bound: one page of at most `rowsMax` rows with `eventsMax` events of about 500 bytes.
 */
import type { Link, Position } from "../../../events/index.ts";
import { dayOf, type TimelineRow } from "./timeline.ts";

export type RowScan = Readonly<{
  rows: readonly TimelineRow[];
  next: number | null;
  searchedTo: number;
  base: Position;
  missing: string | null;
}>;

/** `cause`: the command of the newest event; null: it has none. */
export type Known = Readonly<{ top: Link; cause: string | null; limit: number; scan: RowScan }>;

const rowsMax = 200;
const eventsMax = 2_000;

export class KnownRows {
  #known: Known | null = null;

  find(limit: number, top: Link): Known | null {
    const known = this.#known;
    return known?.limit === limit && known.top.position <= top.position ? known : null;
  }

  keep(known: Known): void {
    const events = known.scan.rows.reduce((sum, row) => sum + (row.type === "change" ? row.same.length + 1 : 1), 0);
    const isKept = known.scan.missing === null && known.scan.rows.length <= rowsMax && events <= eventsMax;
    this.#known = isKept ? known : null; // what is missing in the archive may be there later
  }
}

/** Rows above others, about `limit` of them. Counts of one day on both sides become one row. */
export function joinRows(newer: readonly TimelineRow[], older: RowScan, limit: number): RowScan {
  const [last, first] = [newer.at(-1), older.rows[0]];
  const isOneDay = last?.type === "folded" && first?.type === "folded" && dayOf(last.newest) === dayOf(first.newest);
  const rows = isOneDay
    ? [
        ...newer.slice(0, -1),
        { ...last, counts: addCounts(last.counts, first.counts), first: first.first },
        ...older.rows.slice(1),
      ]
    : [...newer, ...older.rows];
  if (rows.length <= limit + 1) return { ...older, rows };
  const shown = rows.slice(0, limit);
  const next = shown.at(-1)?.first ?? 1;
  return { ...older, rows: shown, next: next <= 1 ? null : next, searchedTo: next - 1, missing: null };
}

type Counts = Extract<TimelineRow, { type: "folded" }>["counts"];

function addCounts(a: Counts, b: Counts): Counts {
  const sum: Record<string, number> = { ...a };
  for (const [kind, count] of Object.entries(b)) sum[kind] = (sum[kind] ?? 0) + count;
  return sum;
}
