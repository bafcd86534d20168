/**
 * Feed: recent decisions for those who watch (`cardea audit tail`, the operator API), resumable by cursor.
 *
 * A ring of the newest records within one process. In a cluster the records of all nodes come from JetStream
 * (nats-audit-feed.ts) into the same ring. Watchers read at their own pace and hold nothing here but their place, so a slow
 * one costs nothing; one that has fallen out of the ring is told that it missed something. What came as a batch stays bytes until
 * somebody reads it: mostly nobody watches. Pure.
 */
import { CodedError } from "../events/index.ts";
import { type AuditRecord, parseLine, toLine } from "./audit-record.ts";
import type { AuditBatch } from "./record-buffer.ts";
import { type DecisionEntry, hasRecordId } from "./record-id.ts";

export type FeedEntry = Readonly<{ cursor: string; record: AuditRecord }>;

export type Feed = Readonly<{
  /** @param of.cursor unique in the feed; `bytes`: the record's size as a line. Absent: both are made here */
  push(record: AuditRecord, of?: Readonly<{ cursor: string; bytes: number }>): void;
  /** Its bytes are copied. Its entries get cursors made here. */
  pushBatch(batch: AuditBatch): void;
  /**
   * @param from a cursor, read on behind it; or how many of the newest to begin with
   * @throws TooManyWatchersError
   */
  watch(from: Readonly<{ after: string } | { newest: number }>): Watcher;
  /** Those that are still here and are so named, newest first. */
  findById(id: string): readonly DecisionEntry[];
}>;

export type Watcher = Readonly<{
  /**
   * The next entries, oldest first, `limit` at most; none when there are none yet. `missed`: entries behind the last ones
   * have left the ring unread, or the cursor to begin with is not known here.
   */
  read(limit: number): Readonly<{ entries: readonly FeedEntry[]; missed: boolean }>;
  /** Settles when there is something to take, or the watcher is closed. */
  waitForMore(): Promise<void>;
  close(): void;
}>;

/** Entries that came together; those of the feed have numbers, and the first of these has `first`. */
type Segment = Readonly<{
  first: number;
  count: number;
  entries: () => readonly FeedEntry[];
  /** What its entries are made from; null: they are there. */
  bytes: Buffer | null;
  /** Of its records as lines. */
  size: number;
}>;

/** Large pieces are made in steps of this size, so that one fits where another was. */
const allocationStep = 65_536;

/** @param options.id of this feed, random: cursors made here mean nothing to another process */
export function createFeed(
  options: Readonly<{
    id: string;
    /** Records, and their bytes as lines: the oldest leave when either is exceeded. */
    entriesMax: number;
    bytesMax: number;
    watchersMax: number;
  }>,
): Feed {
  const segments: Segment[] = [];
  let end = 0;
  let bytesKept = 0;
  const wakers = new Set<() => void>();
  const first = (): number => segments[0]?.first ?? end;

  /** Of a piece that has left the ring: written to again rather than made anew. */
  let spare: Buffer | null = null;

  function add(piece: Omit<Segment, "first">): void {
    segments.push({ first: end, ...piece });
    end += piece.count;
    bytesKept += piece.size;
    while (segments.length > 1 && (isExpendable(segments[0]) || bytesKept > options.bytesMax)) {
      const left = segments.shift();
      bytesKept -= left?.size ?? 0;
      spare = left?.bytes ?? spare;
    }
    for (const wake of wakers) wake();
  }

  /** True when enough records are kept without this piece. */
  function isExpendable(piece: Segment | undefined): boolean {
    return end - first() - (piece?.count ?? 0) >= options.entriesMax;
  }

  function copyOf(bytes: Buffer): Buffer {
    const size =
      bytes.length < allocationStep ? bytes.length : Math.ceil(bytes.length / allocationStep) * allocationStep;
    const whole = spare !== null && spare.length >= bytes.length ? spare : Buffer.allocUnsafeSlow(size);
    if (whole === spare) spare = null;
    bytes.copy(whole);
    return whole;
  }

  function* entriesFrom(number: number): Generator<FeedEntry> {
    for (const piece of segments) {
      if (piece.first + piece.count <= number) continue;
      for (const entry of piece.entries().slice(Math.max(0, number - piece.first))) yield entry;
    }
  }

  /** @returns the number of the entry with that cursor */
  function numberOf(cursor: string): number | undefined {
    for (const piece of segments.toReversed()) {
      const at = piece.entries().findLastIndex((entry) => entry.cursor === cursor);
      if (at >= 0) return piece.first + at;
    }
    return undefined;
  }

  return {
    push(record, { cursor, bytes } = { cursor: `${options.id}-${end}`, bytes: toLine(record).length }) {
      const entries = [{ cursor, record }];
      add({ count: 1, entries: () => entries, bytes: null, size: bytes });
    },
    pushBatch({ first, last, bytes }) {
      const begin = end;
      const whole = copyOf(bytes);
      const { length } = bytes;
      let entries: readonly FeedEntry[] | undefined;
      const read = (): readonly FeedEntry[] => {
        const made = (record: AuditRecord, i: number) => ({ cursor: `${options.id}-${begin + i}`, record });
        entries ??= recordsIn(whole.subarray(0, length)).map(made);
        return entries;
      };
      add({ count: last - first + 1, entries: read, bytes: whole, size: length });
    },
    findById: (id) =>
      [...entriesFrom(first())]
        .map(({ record }) => record)
        .filter((record) => hasRecordId(record, id))
        .toReversed(),
    watch(begin) {
      if (wakers.size >= options.watchersMax) throw new TooManyWatchersError(options.watchersMax);
      let unknown = false;
      let next = end;
      if ("newest" in begin) next = Math.max(first(), end - Math.max(0, begin.newest));
      else {
        const at = numberOf(begin.after);
        unknown = at === undefined;
        next = at === undefined ? first() : at + 1;
      }
      let news = Promise.withResolvers<void>();
      const wake = (): void => news.resolve();
      wakers.add(wake);
      return {
        read(limit) {
          const missed = unknown || next < first();
          unknown = false;
          next = Math.max(next, first());
          const entries = [...entriesFrom(next).take(limit)];
          next += entries.length;
          return { entries, missed };
        },
        async waitForMore() {
          if (next < end || !wakers.has(wake)) return;
          news = Promise.withResolvers();
          await news.promise;
        },
        close() {
          wakers.delete(wake);
          news.resolve();
        },
      };
    },
  };
}

/** Lines of our own making: each is a record. */
function recordsIn(bytes: Buffer): AuditRecord[] {
  const lines = bytes.toString("utf8").split("\n");
  return lines.flatMap((line) => parseLine(line) ?? []);
}

export class TooManyWatchersError extends CodedError<"ERR_AUDIT_TOO_MANY_WATCHERS"> {
  override readonly code = "ERR_AUDIT_TOO_MANY_WATCHERS";
  constructor(max: number) {
    super(`at most ${max} people may watch decisions at once`);
  }
}
