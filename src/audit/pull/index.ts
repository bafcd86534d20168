/** Entry point of pulled records: the feed, what is stored behind it, and how a reader resumes in both. */
export { createFeed, type Feed } from "./feed.ts";
export { createNatsHistory } from "./nats-history.ts";
export { openPullStore } from "./pull-store.ts";
export { formatCursor, isAfter, parseCursor, type RecordCursor } from "./record-cursor.ts";
export { matchesFilter, type RecordFilter } from "./record-filter.ts";
export {
  type FeedEntry,
  type Missed,
  type RecordHistory,
  type RecordPage,
  RecordsUnreadableError,
  TooManyWatchersError,
} from "./record-history.ts";
export { newestCursor, type ReaderSources, readRecords, recordsChanged } from "./record-reader.ts";
