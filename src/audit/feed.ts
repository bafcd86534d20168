/**
 * Feed: the most recent decisions, for `cardea audit tail` and the operator API, resumable by cursor. Pure.
 *
 * - A ring of the newest records in one process. In a cluster the records of all nodes arrive from JetStream
 *   (nats-audit-feed.ts) in the same ring.
 * - A watcher reads at its own pace and only has a position here, so a slow one costs nothing. One that falls behind
 *   the ring learns that it missed entries.
 * - A batch stays bytes until a watcher reads it, because usually there is no watcher.
 */
import { CodedError } from "../events/index.ts";
import { type AuditRecord, parseLine, toLine } from "./audit-record.ts";
import { type DecisionEntry, hasRecordId } from "./record-id.ts";
import type { AuditBatch } from "./spool/index.ts";

export type FeedEntry = Readonly<{ cursor: string; record: AuditRecord }>;

export type Feed = Readonly<{
  /** @param of.cursor unique in the feed; `bytes`: the size of the record's line. By default the feed chooses both */
  push(record: AuditRecord, of?: Readonly<{ cursor: string; bytes: number }>): void;
  /** Copies the bytes. The feed chooses the cursors of the entries. */
  pushBatch(batch: Pick<AuditBatch, "first" | "last" | "bytes">): void;
  /**
   * @param from the cursor of the entry to continue after, or how many of the newest entries to start with
   * @throws TooManyWatchersError
   */
  watch(from: Readonly<{ after: string } | { newest: number }>): Watcher;
  /** The decisions in the ring with this record id or request id, newest first. */
  findById(id: string): readonly DecisionEntry[];
}>;

export type Watcher = Readonly<{
  /**
   * The next entries, oldest first, at most `limit`; empty if there are none yet. `missed`: later entries left the ring
   * unread, or the cursor to start from is unknown.
   */
  read(limit: number): Readonly<{ entries: readonly FeedEntry[]; missed: boolean }>;
  /** Resolves when there are entries to read, or the watcher is closed. */
  waitForMore(): Promise<void>;
  close(): void;
}>;

/** Entries that were pushed together. Entries are numbered; `first` is the number of the first one here. */
type Segment = Readonly<{
  first: number;
  count: number;
  entries: () => readonly FeedEntry[];
  /** The lines that the entries are parsed from on demand; null: the entries were pushed as records. */
  bytes: Buffer | null;
  /** Bytes of its records as lines. */
  size: number;
}>;

/** Large buffers are allocated in multiples of this, so that one can be reused for another batch. */
const allocationStep = 65_536;

/** @param options.id random, so that cursors of this feed are unknown to other processes */
export function createFeed(
  options: Readonly<{
    id: string;
    /** Bounds of the records and of their bytes as lines. Beyond either, the oldest leave. */
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

  /** The buffer of a segment that has left the ring, for reuse. */
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

  /** Whether enough records remain without this segment. */
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

/** These lines come from this process, so each is a record. */
function recordsIn(bytes: Buffer): AuditRecord[] {
  const lines = bytes.toString("utf8").split("\n");
  return lines.flatMap((line) => parseLine(line) ?? []);
}

export class TooManyWatchersError extends CodedError<"ERR_AUDIT_TOO_MANY_WATCHERS"> {
  override readonly code = "ERR_AUDIT_TOO_MANY_WATCHERS";
  constructor(max: number) {
    super(`at most ${max} watchers may follow decisions at once`);
  }
}
