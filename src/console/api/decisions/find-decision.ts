/**
 * Finds decisions by a record id or request id: among the newest ones in memory, else in the stored records, from the
 * newest hour backwards, within a bound.
 */
import {
  type DecisionEntry,
  hasRecordId,
  isAfter,
  type RecordCursor,
  type RecordHistory,
  readRecords,
} from "../../../audit/index.ts";
import { type DecisionSources, disorderMs } from "./decision-page.ts";

export type FoundDecisions = Readonly<{
  /** Newest first. */
  found: readonly DecisionEntry[];
  /** The time from which on the stored records were searched. Null: only those in memory. */
  searchedFrom: number | null;
}>;

const hourMs = 3_600_000;
/** Ages between which the stored records are searched, one stretch after the other. */
const agesMs = [0.2, 1, 6, 24, 72, 168, 336, 720].map((hours) => hours * hourMs);
const recordsMax = 200_000;
const searchMs = 12_000;
const pageRecords = 1_000;
const pageBytes = 4 * 1024 * 1024;

/** One search of the stored records runs at a time; `busy`: another one does. @throws RecordsUnreadableError */
export function createDecisionFinder(
  sources: DecisionSources,
): (id: string, signal: AbortSignal) => Promise<FoundDecisions | "busy"> {
  let isSearching = false;
  return async (id, signal) => {
    const found = sources.feed.findById(id);
    const { history } = sources;
    if (found.length > 0 || history === null) return { found, searchedFrom: null };
    if (isSearching) return "busy";
    isSearching = true;
    try {
      return await searchStored(id, { ...sources, history }, signal);
    } finally {
      isSearching = false;
    }
  };
}

async function searchStored(
  id: string,
  sources: DecisionSources & Readonly<{ history: RecordHistory }>,
  signal: AbortSignal,
): Promise<FoundDecisions> {
  const { history } = sources;
  const began = sources.now();
  let [read, searchedFrom] = [0, began as number];
  let end: RecordCursor | null = null;
  for (const ageMs of agesMs) {
    const from = began - ageMs;
    const start = await history.cursorAt(from - disorderMs);
    const found: DecisionEntry[] = [];
    for (let after = start; ; ) {
      const page = await readRecords(sources, after, { records: pageRecords, bytes: pageBytes, signal });
      for (const { record } of page.entries) if (hasRecordId(record, id)) found.push(record);
      read += page.entries.length;
      const isOver = page.isAtEnd || (end !== null && !isAfter(end, page.after));
      if (isOver || signal.aborted) break;
      if (read >= recordsMax || sources.now() - began >= searchMs) return { found: newestFirst(found), searchedFrom };
      after = page.after;
      await sources.sleep(0, signal).catch(() => undefined);
    }
    searchedFrom = from;
    if (found.length > 0 || signal.aborted) return { found: newestFirst(found), searchedFrom };
    end = start;
  }
  return { found: [], searchedFrom };
}

const newestFirst = (found: readonly DecisionEntry[]): readonly DecisionEntry[] =>
  found.toSorted((a, b) => b.at - a.at);
