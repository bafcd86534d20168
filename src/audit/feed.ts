/**
 * Feed: recent decisions for those who watch (`cardea audit tail`, the operator API), resumable by cursor.
 *
 * A ring of the newest records within one process. In a cluster the records of all nodes come from JetStream
 * (nats-audit-feed.ts) into the same ring. Watchers read at their own pace and hold nothing here but their place, so a slow
 * one costs nothing; one that has fallen out of the ring is told that it missed something. Pure.
 */
import type { AuditRecord } from "./audit-record.ts";

export type FeedEntry = Readonly<{ cursor: string; record: AuditRecord }>;

export type Feed = Readonly<{
  /** @param cursor unique in the feed; absent: made here */
  push(record: AuditRecord, cursor?: string): void;
  /**
   * @param from a cursor, read on behind it; or how many of the newest to begin with
   * @throws TooManyWatchersError
   */
  watch(from: Readonly<{ after: string } | { newest: number }>): Watcher;
}>;

export type Watcher = Readonly<{
  /**
   * The next entries, oldest first, `limit` at most; none when there are none yet. `missed`: entries behind the last ones
   * have left the ring unread, or the cursor to begin with is not known here.
   */
  take(limit: number): Readonly<{ entries: readonly FeedEntry[]; missed: boolean }>;
  /** Settles when there is something to take, or the watcher is closed. */
  more(): Promise<void>;
  close(): void;
}>;

/** @param options.id of this feed, random: cursors made here mean nothing to another process */
export function createFeed(options: Readonly<{ id: string; keep: number; watchersMax: number }>): Feed {
  /** Entries by number: the first one kept has the number `first`. */
  let entries: FeedEntry[] = [];
  let first = 0;
  const wakers = new Set<() => void>();
  const end = (): number => first + entries.length;

  return {
    push(record, cursor) {
      entries.push({ cursor: cursor ?? `${options.id}-${end()}`, record });
      if (entries.length > options.keep * 1.25) {
        first += entries.length - options.keep;
        entries = entries.slice(-options.keep);
      }
      for (const wake of wakers) wake();
    },
    watch(from) {
      if (wakers.size >= options.watchersMax) throw new TooManyWatchersError(options.watchersMax);
      let unknown = false;
      let next = end();
      if ("newest" in from) next = Math.max(first, end() - Math.max(0, from.newest));
      else {
        const at = entries.findLastIndex((entry) => entry.cursor === from.after);
        unknown = at < 0;
        next = unknown ? first : first + at + 1;
      }
      let news = Promise.withResolvers<void>();
      const wake = (): void => news.resolve();
      wakers.add(wake);
      return {
        take(limit) {
          const missed = unknown || next < first;
          unknown = false;
          next = Math.max(next, first);
          const taken = entries.slice(next - first, next - first + limit);
          next += taken.length;
          return { entries: taken, missed };
        },
        async more() {
          if (next < end() || !wakers.has(wake)) return;
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

export class TooManyWatchersError extends Error {
  readonly code = "ERR_AUDIT_TOO_MANY_WATCHERS";
  constructor(max: number) {
    super(`at most ${max} people may watch decisions at once`);
    this.name = "TooManyWatchersError";
  }
}
