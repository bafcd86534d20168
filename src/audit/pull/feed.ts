/**
 * Feed: the most recent audit records in memory, in the order of their cursors. Pure.
 *
 * - In a cluster the records of all nodes arrive from JetStream (nats-audit-feed.ts); in one process, its own.
 * - A reader (record-reader.ts) only has a cursor, so a slow one costs nothing here. `covers` says whether the feed
 *   has everything after a cursor; if not, the reader continues in the stored records.
 * - A batch stays bytes until it is read, because usually there is no reader.
 */
import { type AuditRecord, parseLine } from "../audit-record.ts";
import { type DecisionEntry, hasRecordId, parseRecordId } from "../record-id.ts";
import type { AuditBatch } from "../spool/index.ts";
import { isAfter, type RecordCursor, wholeMessage } from "./record-cursor.ts";
import { type FeedEntry, TooManyWatchersError } from "./record-history.ts";

export type Feed = Readonly<{
  /** Entries of one sequence, in order. */
  push(entries: readonly FeedEntry[]): void;
  /** Copies the bytes. The cursors are numbers of the batch's boot. */
  pushBatch(batch: Pick<AuditBatch, "boot" | "first" | "last" | "bytes">): void;
  /** The cursor of the newest record; null: none is known yet. */
  end(): RecordCursor | null;
  /** The cursor at which a reader starts to get this many of the newest records that match; null as for `end`. */
  cursorBefore(newest: number, matches: (record: AuditRecord) => boolean): RecordCursor | null;
  /** Whether the feed has every record after the cursor, and has reached it. */
  covers(after: RecordCursor): boolean;
  /** The cursor after which the feed has every record; null as for `end`. */
  start(): RecordCursor | null;
  /** The next entries, oldest first. Only if the feed covers the cursor. */
  read(after: RecordCursor, bounds: Readonly<{ records: number; bytes: number }>): readonly FeedEntry[];
  /** Settles at the next push. */
  changed(): Promise<void>;
  /** The decisions in memory with this record id or request id, newest first. */
  findById(id: string): readonly DecisionEntry[];
  /** Reserves a place for a reader that stays. @returns frees it @throws TooManyWatchersError */
  addWatcher(): () => void;
}>;

/** Entries that were pushed together. */
type Segment = Readonly<{
  count: number;
  entries: () => readonly FeedEntry[];
  /** The cursor of its last entry. */
  last: RecordCursor;
  /** The lines that the entries are parsed from on demand; null: the entries were pushed as records. */
  bytes: Buffer | null;
  /** Bytes of its records as lines. */
  size: number;
}>;

/**
 * Batches are copied into pages of one size, so that a page whose batches have left can be used again: new memory
 * outside the heap starts a collection of the whole heap.
 */
const pageBytes = 1_048_576;

export type FeedOptions = Readonly<{
  /** Where the records of this process begin; absent: the first record that is pushed says it. */
  start?: RecordCursor;
  /** Bounds of the records and of their bytes as lines. Beyond either, the oldest leave. */
  entriesMax: number;
  bytesMax: number;
  watchersMax: number;
}>;

export function createFeed(options: FeedOptions): Feed {
  return new MemoryFeed(options);
}

class MemoryFeed implements Feed {
  readonly #options: FeedOptions;
  /** All of one sequence. */
  #segments: Segment[] = [];
  #start: RecordCursor | null;
  #entriesKept = 0;
  #bytesKept = 0;
  #watchers = 0;
  #news = Promise.withResolvers<void>();
  /** The page that batches are copied into, and how much of it is used. */
  #page: Buffer | null = null;
  #filled = 0;
  /** A page whose batches have left. */
  #spare: Buffer | null = null;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#start = options.start ?? null;
  }

  push(entries: readonly FeedEntry[]): void {
    const [first, last] = [entries[0], entries.at(-1)];
    if (first === undefined || last === undefined) return;
    const size = entries.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#add({ count: entries.length, entries: () => entries, last: last.cursor, bytes: null, size }, first.cursor);
  }

  pushBatch({ boot, first, last, bytes }: Pick<AuditBatch, "boot" | "first" | "last" | "bytes">): void {
    const whole = this.#copyOf(bytes);
    let entries: readonly FeedEntry[] | undefined;
    const read = (): readonly FeedEntry[] => {
      entries ??= entriesOf(boot, whole);
      return entries;
    };
    const count = last - first + 1;
    const cursor = { sequence: boot, number: last, index: 0 };
    this.#add({ count, entries: read, last: cursor, bytes: whole, size: bytes.length }, { ...cursor, number: first });
  }

  #add(piece: Segment, first: RecordCursor): void {
    const end = this.end();
    if (this.#start === null || end?.sequence !== first.sequence || !isAfter(first, end)) {
      // Records of another sequence, such as a stream that was deleted, cannot be resumed any more. Nor can those of a
      // stream that lost its newest messages and uses their numbers again.
      this.#segments = [];
      [this.#entriesKept, this.#bytesKept] = [0, 0];
      this.#start = { ...first, number: first.number - 1, index: wholeMessage };
    }
    this.#segments.push(piece);
    this.#entriesKept += piece.count;
    this.#bytesKept += piece.size;
    this.#removeOldest();
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers();
    resolve();
  }

  #removeOldest(): void {
    const { entriesMax, bytesMax } = this.#options;
    for (;;) {
      const [oldest, second] = this.#segments;
      if (oldest === undefined || second === undefined) return;
      if (this.#entriesKept - oldest.count < entriesMax && this.#bytesKept <= bytesMax) return;
      this.#segments.shift();
      this.#entriesKept -= oldest.count;
      this.#bytesKept -= oldest.size;
      this.#release(oldest.bytes, second.bytes);
      this.#start = oldest.last;
    }
  }

  /** Keeps the page of a batch that has left, unless the next batch is in it too. */
  #release(left: Buffer | null, next: Buffer | null): void {
    if (left === null || next === null || left.buffer === next.buffer || left.buffer === this.#page?.buffer) return;
    if (left.buffer.byteLength === pageBytes) this.#spare = Buffer.from(left.buffer);
  }

  #copyOf(bytes: Buffer): Buffer {
    const { length } = bytes;
    if (this.#page === null || this.#filled + length > pageBytes) {
      const isLarge = length > pageBytes;
      this.#page = isLarge ? Buffer.allocUnsafeSlow(length) : (this.#spare ?? Buffer.allocUnsafeSlow(pageBytes));
      this.#filled = 0;
      if (!isLarge) this.#spare = null;
    }
    const copy = this.#page.subarray(this.#filled, this.#filled + length);
    bytes.copy(copy);
    this.#filled += length;
    return copy;
  }

  start(): RecordCursor | null {
    return this.#start;
  }

  end(): RecordCursor | null {
    return this.#segments.at(-1)?.last ?? this.#start;
  }

  covers(after: RecordCursor): boolean {
    const [start, end] = [this.#start, this.end()];
    if (start === null || end === null || start.sequence !== after.sequence) return false;
    return !isAfter(start, after) && after.number <= end.number;
  }

  cursorBefore(newest: number, matches: (record: AuditRecord) => boolean): RecordCursor | null {
    let left = newest;
    for (const piece of this.#segments.toReversed()) {
      if (left <= 0) return piece.last;
      for (const { cursor, record } of piece.entries().toReversed()) {
        if (left <= 0) return cursor;
        if (matches(record)) left -= 1;
      }
    }
    return this.#start;
  }

  read(after: RecordCursor, { records, bytes }: Readonly<{ records: number; bytes: number }>): readonly FeedEntry[] {
    if (!this.covers(after)) return [];
    const found: FeedEntry[] = [];
    let size = 0;
    for (const piece of this.#segments.slice(firstAfter(this.#segments, after))) {
      for (const entry of piece.entries()) {
        if (!isAfter(entry.cursor, after)) continue;
        size += entry.bytes;
        if (found.length >= records || (found.length > 0 && size > bytes)) return found;
        found.push(entry);
      }
    }
    return found;
  }

  changed(): Promise<void> {
    return this.#news.promise;
  }

  findById(id: string): readonly DecisionEntry[] {
    return this.#segments
      .flatMap((piece) => candidatesIn(piece, id))
      .filter((record) => hasRecordId(record, id))
      .toReversed();
  }

  addWatcher(): () => void {
    const { watchersMax } = this.#options;
    if (this.#watchers >= watchersMax) throw new TooManyWatchersError(watchersMax);
    this.#watchers += 1;
    let isOpen = true;
    return () => {
      if (isOpen) this.#watchers -= 1;
      isOpen = false;
    };
  }
}

/**
 * The records of a segment that may have the id. Of lines that are not parsed yet, only those that contain it: parsing
 * all of 16 MiB would delay requests.
 */
function candidatesIn({ bytes, last, entries }: Segment, id: string): readonly AuditRecord[] {
  if (bytes === null) return entries().map(({ record }) => record);
  const number = parseRecordId(id);
  const needles = [Buffer.from(JSON.stringify(id))];
  if (number?.boot === last.sequence) needles.push(Buffer.from(`"seq":${number.seq},`));
  return needles.flatMap((needle) => linesWith(bytes, needle)).flatMap((line) => parseLine(line) ?? []);
}

function linesWith(lines: Buffer, needle: Buffer): readonly string[] {
  const found: string[] = [];
  for (let at = lines.indexOf(needle); at >= 0; ) {
    const start = lines.lastIndexOf(0x0a, at) + 1;
    const end = lines.indexOf(0x0a, at);
    const to = end < 0 ? lines.length : end;
    found.push(lines.toString("utf8", start, to));
    at = lines.indexOf(needle, to);
  }
  return found;
}

/** The index of the first segment with an entry after the cursor. */
function firstAfter(segments: readonly Segment[], after: RecordCursor): number {
  let [low, high] = [0, segments.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const piece = segments[middle];
    if (piece !== undefined && isAfter(piece.last, after)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The entries of a boot's lines. These lines come from this process, so each is a record. */
export function entriesOf(boot: string, lines: Buffer): readonly FeedEntry[] {
  return lines
    .toString("utf8")
    .split("\n")
    .flatMap((line) => {
      const record = parseLine(line);
      if (record === undefined) return [];
      const bytes = Buffer.byteLength(line) + 1;
      return [{ cursor: { sequence: boot, number: record.seq, index: 0 }, record, bytes }];
    });
}
