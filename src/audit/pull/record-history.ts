/**
 * Record history: stored records that readers pull by cursor, also those from before this process started. Types and
 * errors. nats-history.ts has the records of a cluster, pull-store.ts those of one process.
 */
import { CodedError } from "../../events/index.ts";
import type { AuditRecord } from "../audit-record.ts";
import type { RecordCursor } from "./record-cursor.ts";

export type FeedEntry = Readonly<{ cursor: RecordCursor; record: AuditRecord; bytes: number }>;

/** Records between a reader's cursor and the next entry that it cannot get. */
export type Missed = Readonly<{
  /**
   * `removed`: the oldest were removed to stay within the bound. `cursor_unknown`: the cursor is of another server, of
   * a stream that was created again, or so old that nothing of its time is left. `not_stored`: the disk was too slow.
   */
  reason: "removed" | "cursor_unknown" | "not_stored";
  /** How many messages or records at least; null: unknown. */
  count: number | null;
}>;

export type RecordPage = Readonly<{
  entries: readonly FeedEntry[];
  /** Where reading began: the cursor of the call, or after what is missed. */
  begin: RecordCursor;
  /** Everything up to here was read, also where it was not shown. */
  after: RecordCursor;
  /** What is missing before the first entry. */
  missed: Missed | null;
  /** Whether nothing more was stored at that time. */
  isAtEnd: boolean;
}>;

export type PageBounds = Readonly<{ records: number; bytes: number; signal: AbortSignal }>;

export type RecordHistory = Readonly<{
  /** @throws RecordsUnreadableError */
  read(after: RecordCursor, bounds: PageBounds): Promise<RecordPage>;
  /** The cursor after which every record of this time or later comes. @throws RecordsUnreadableError */
  cursorAt(atMs: number): Promise<RecordCursor>;
  /** The cursor of the newest stored record. @throws RecordsUnreadableError */
  end(): Promise<RecordCursor>;
  /** Settles when more may be stored. Absent: the feed is notified instead. */
  changed?(): Promise<void>;
}>;

/** The store of records does not answer. */
export class RecordsUnreadableError extends CodedError<"ERR_AUDIT_RECORDS_UNREADABLE"> {
  override readonly code = "ERR_AUDIT_RECORDS_UNREADABLE";
  constructor(options: ErrorOptions) {
    super("the stored decisions cannot be read now", options);
  }
}

export class TooManyWatchersError extends CodedError<"ERR_AUDIT_TOO_MANY_WATCHERS"> {
  override readonly code = "ERR_AUDIT_TOO_MANY_WATCHERS";
  constructor(max: number) {
    super(`at most ${max} watchers may follow decisions at once`);
  }
}
