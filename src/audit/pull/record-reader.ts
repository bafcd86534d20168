/**
 * Record reader: reads the records after a cursor, from the stored ones or from memory, whichever has them.
 *
 * - Every record after the cursor is read, or its loss is stated in `missed`.
 * - The cursor advances past records that are not shown, so that a reader that resumes does not read them again.
 */
import type { Feed } from "./feed.ts";
import { isAfter, type RecordCursor } from "./record-cursor.ts";
import type { PageBounds, RecordHistory, RecordPage } from "./record-history.ts";

export type ReaderSources = Readonly<{
  feed: Feed;
  /** Null: nothing is stored, so a reader gets what is in memory. */
  history: RecordHistory | null;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}>;

/** How long the store may lag behind the memory of this process before a reader leaves out what neither has. */
const graceMs = 2_000;
const graceStepMs = 100;

/** @throws RecordsUnreadableError */
export async function readRecords(
  { feed, history, sleep }: ReaderSources,
  after: RecordCursor,
  bounds: PageBounds,
): Promise<RecordPage> {
  for (let waitedMs = 0; ; waitedMs += graceStepMs) {
    if (feed.covers(after)) return readFeed(feed, after, bounds);
    if (history === null) return skipTo(feed, after, "removed");
    const page = await history.read(after, bounds);
    const isLagging = page.isAtEnd && page.entries.length === 0 && page.missed === null && isBehind(feed, page.after);
    if (!isLagging) return page;
    if (waitedMs >= graceMs || bounds.signal.aborted) return skipTo(feed, page.after, "not_stored");
    await sleep(graceStepMs, bounds.signal).catch(() => undefined);
  }
}

/** Settles when a later read may return more. Call it before the read, so that nothing arrives unnoticed between. */
export function recordsChanged({ feed, history }: Pick<ReaderSources, "feed" | "history">): Promise<void> {
  const stored = history?.changed?.();
  return stored === undefined ? feed.changed() : Promise.race([feed.changed(), stored]);
}

/** Where a reader of what is new begins. @throws RecordsUnreadableError */
export async function newestCursor({
  feed,
  history,
}: Pick<ReaderSources, "feed" | "history">): Promise<RecordCursor | null> {
  return feed.end() ?? (await history?.end()) ?? null;
}

function readFeed(feed: Feed, after: RecordCursor, bounds: PageBounds): RecordPage {
  const entries = feed.read(after, bounds);
  return { entries, begin: after, after: entries.at(-1)?.cursor ?? after, missed: null, isAtEnd: entries.length === 0 };
}

/** Whether records of this sequence have left the memory that the store does not have. */
function isBehind(feed: Feed, after: RecordCursor): boolean {
  const start = feed.start();
  return start !== null && start.sequence === after.sequence && isAfter(start, after);
}

function skipTo(feed: Feed, after: RecordCursor, reason: "removed" | "not_stored"): RecordPage {
  const start = feed.start();
  if (start === null) return { entries: [], begin: after, after, missed: null, isAtEnd: true };
  const isSame = start.sequence === after.sequence;
  const count = isSame ? Math.max(1, start.number - after.number) : null;
  const where = { begin: start, after: start };
  return { entries: [], ...where, missed: { reason: isSame ? reason : "cursor_unknown", count }, isAtEnd: false };
}
