/**
 * Pull store: the newest audit records of one process on disk, for readers that pull. It is a sink of the recorder and
 * the history of the feed. Pure, apart from the disk that it is given.
 *
 * - Files of JSON lines, each of one boot. Beyond the bound the oldest file is removed, and a reader that was there
 *   learns how many records it missed.
 * - A batch is readable once it is written: the spool still has its records until a later sync, one for many batches.
 *   A torn end is cut off at the next write.
 * - After a failed sync everything since the last one is cut off, and the recorder delivers it again. A file is synced
 *   before the next one begins.
 * - What the recorder delivers again after a crash is left out, so a number occurs once.
 */
import { type BootId, parseBootId } from "../../events/index.ts";
import { type AuditRecord, parseLine } from "../audit-record.ts";
import type { AuditSink } from "../audit-sink.ts";
import type { AuditBatch, SpoolDisk, SpoolFile } from "../spool/index.ts";
import { entriesOf } from "./feed.ts";
import type { RecordCursor } from "./record-cursor.ts";
import {
  type FeedEntry,
  type PageBounds,
  type RecordHistory,
  type RecordPage,
  RecordsUnreadableError,
} from "./record-history.ts";

/** Files of one store. More of them remove less at once. */
const filesUsual = 16;
/** The part of a file that is read at once; a record has at most half of it. */
const chunkBytes = 1024 * 1024;
const hintsMax = 64;
/** After failing for this long the store leaves out what it cannot write, and readers learn it. */
const failingMsMax = 60_000;

/** Numbers `first` to `last` of the boot, in its first `bytes`. */
type StoredFile = { name: string; index: number; boot: BootId; first: number; last: number; bytes: number };

/** `synced`: how far it is durable. */
type ActiveFile = Readonly<{ stored: StoredFile; file: SpoolFile }> & { synced: Pick<StoredFile, "last" | "bytes"> };

export async function openPullStore(
  options: Readonly<{ disk: SpoolDisk; boot: BootId; bytesMax: number; monotonicMs: () => number }>,
): Promise<AuditSink & RecordHistory> {
  const store = new PullStore(options);
  await store.open();
  return {
    name: "pull",
    write: (batch) => store.write(batch),
    sync: () => store.sync(),
    close: () => store.close(),
    read: (after, bounds) => unlessUnreadable(store.read(after, bounds)),
    cursorAt: (atMs) => unlessUnreadable(store.cursorAt(atMs)),
    end: async () => store.end(),
    changed: () => store.changed,
  };
}

async function unlessUnreadable<T>(reading: Promise<T>): Promise<T> {
  return reading.catch((cause: unknown) => {
    throw new RecordsUnreadableError({ cause });
  });
}

class PullStore {
  readonly #disk: SpoolDisk;
  readonly #boot: BootId;
  readonly #monotonicMs: () => number;
  /** Since when writes or syncs fail; null: the last sync succeeded. */
  #failingSince: number | null = null;
  /** Why what was written since the last sync is gone; null: it is not. */
  #lost: unknown = null;
  readonly #bytesMax: number;
  readonly #files: StoredFile[] = [];
  /** The newest file, open for writing; `isTorn`: its end may hold a part of a batch. */
  #active: ActiveFile | null = null;
  #isTorn = false;
  #nextIndex = 1;
  #news = Promise.withResolvers<void>();
  /** The offsets at which recent reads ended, by file and number. */
  readonly #hints = new Map<string, number>();

  constructor({ disk, boot, bytesMax, monotonicMs }: Parameters<typeof openPullStore>[0]) {
    this.#monotonicMs = monotonicMs;
    this.#disk = disk;
    this.#boot = boot;
    this.#bytesMax = bytesMax;
  }

  get changed(): Promise<void> {
    return this.#news.promise;
  }

  /** Reads what earlier boots left. @throws if the folder cannot be read */
  async open(): Promise<void> {
    const found = (await this.#disk.list()).flatMap(({ name, size }) => {
      const parsed = parseFileName(name);
      return parsed === undefined ? [] : [{ name, size, ...parsed }];
    });
    found.sort((a, b) => a.index - b.index);
    for (const { name, size, index, boot, first } of found) {
      const stored = { name, index, boot, first, last: first - 1, bytes: 0 };
      await (name === found.at(-1)?.name ? this.#checkNewest(stored, size) : this.#findLast(stored, size));
      if (stored.bytes > 0) this.#files.push(stored);
      else await this.#disk.remove(name);
    }
    this.#nextIndex = (this.#files.at(-1)?.index ?? 0) + 1;
  }

  /** Cuts the newest file at the first line that is not whole: a power failure may have kept any part of a batch. */
  async #checkNewest(stored: StoredFile, size: number): Promise<void> {
    const file = await this.#disk.open(stored.name);
    try {
      for (;;) {
        const bytes = await readAt(file, stored.bytes, Math.min(chunkBytes, size - stored.bytes));
        const begin = stored.bytes;
        for (let at = 0; ; ) {
          const lineEnd = bytes.indexOf(0x0a, at) + 1;
          const record = lineEnd === 0 ? undefined : parseLine(bytes.toString("utf8", at, lineEnd));
          if (record === undefined || record.boot !== stored.boot) break;
          stored.last = record.seq;
          stored.bytes += lineEnd - at;
          at = lineEnd;
        }
        if (stored.bytes === begin) break;
      }
      if (stored.bytes < size) await file.truncate(stored.bytes);
      await file.sync(); // the killed process may not have
    } finally {
      await file.close();
    }
  }

  /** An older file is whole. */
  async #findLast(stored: StoredFile, size: number): Promise<void> {
    const record = await this.#newestIn({ ...stored, bytes: size });
    if (record === undefined) return;
    stored.last = record.seq;
    stored.bytes = size;
  }

  async #newestIn({ name, bytes: size }: Readonly<StoredFile>): Promise<AuditRecord | undefined> {
    const file = await this.#disk.open(name);
    try {
      const from = Math.max(0, size - chunkBytes);
      const bytes = await readAt(file, from, size - from);
      const begin = bytes.lastIndexOf(0x0a, bytes.length - 2) + 1;
      return parseLine(bytes.toString("utf8", begin, bytes.length - 1));
    } finally {
      await file.close();
    }
  }

  /** A store for readers must not hold back the spool, and strict routes with it. So it does not fail for ever. */
  async write(batch: AuditBatch): Promise<void> {
    try {
      await this.#append(batch);
    } catch (error) {
      this.#throwUnlessLong(error);
    }
  }

  /** @throws if records since the last sync that succeeded are gone */
  async sync(): Promise<void> {
    try {
      const lost = this.#lost;
      this.#lost = null;
      if (this.#active !== null) await this.#syncActive(this.#active);
      if (lost !== null) throw lost;
    } catch (error) {
      this.#lost = null; // thrown here
      this.#throwUnlessLong(error);
    }
  }

  #throwUnlessLong(error: unknown): void {
    this.#failingSince ??= this.#monotonicMs();
    if (this.#monotonicMs() - this.#failingSince < failingMsMax) throw error;
  }

  async #syncActive(active: ActiveFile): Promise<void> {
    const { stored, file, synced } = active;
    const { last, bytes } = stored;
    if (bytes === synced.bytes) return;
    try {
      await file.sync();
      active.synced = { last, bytes };
      this.#failingSince = null;
    } catch (error) {
      // What a failed sync leaves on the disk is unknown, although a later one succeeds.
      Object.assign(stored, synced);
      this.#isTorn = true;
      this.#hints.clear();
      this.#lost = error;
      throw error;
    }
  }

  async #append(batch: AuditBatch): Promise<void> {
    const bytes = withoutStored(batch, this.#lastOf(batch.boot));
    if (bytes.length === 0) return;
    const { stored, file } = await this.#fileFor(batch, bytes.length);
    if (this.#isTorn) await file.truncate(stored.bytes);
    this.#isTorn = true;
    await file.write([bytes], stored.bytes);
    this.#isTorn = false;
    stored.bytes += bytes.length;
    stored.last = batch.last;
    const { resolve } = this.#news;
    this.#news = Promise.withResolvers();
    resolve();
    await this.#removeOldest();
  }

  /** The newest stored number of a boot; 0: none. */
  #lastOf(boot: BootId): number {
    return this.#files.findLast((file) => file.boot === boot)?.last ?? 0;
  }

  async #fileFor(batch: AuditBatch, size: number): Promise<ActiveFile> {
    const { boot } = batch;
    const first = Math.max(firstNumberOf(batch), this.#lastOf(boot) + 1);
    const bytesMax = Math.floor(this.#bytesMax / filesUsual);
    const active = this.#active;
    if (active !== null && active.stored.boot === boot) {
      const { bytes } = active.stored;
      if (bytes === 0 || bytes + size <= bytesMax) return active;
    }
    if (active !== null) await this.#endFile(active);
    const index = this.#nextIndex++;
    const name = formatFileName({ index, first, boot });
    const file = await this.#disk.create(name);
    const stored = { name, index, boot, first, last: first - 1, bytes: 0 };
    this.#files.push(stored);
    this.#active = { stored, file, synced: { last: first - 1, bytes: 0 } };
    return this.#active;
  }

  async #endFile(active: ActiveFile): Promise<void> {
    const { stored, file } = active;
    await this.#syncActive(active);
    if (this.#isTorn) {
      await file.truncate(stored.bytes);
      await file.sync();
    }
    this.#active = null;
    this.#isTorn = false;
    await file.close();
    if (stored.bytes > 0) return;
    await this.#disk.remove(stored.name);
    this.#files.splice(this.#files.indexOf(stored), 1);
    this.#nextIndex = stored.index;
  }

  async #removeOldest(): Promise<void> {
    let bytes = this.#files.reduce((sum, file) => sum + file.bytes, 0);
    while (bytes > this.#bytesMax && this.#files.length > 1) {
      const oldest = this.#files[0] as StoredFile;
      await this.#disk.remove(oldest.name);
      this.#files.shift();
      bytes -= oldest.bytes;
    }
  }

  async read(after: RecordCursor, bounds: PageBounds): Promise<RecordPage> {
    const { at, number, missed } = this.#startOf(after);
    const entries: FeedEntry[] = [];
    let size = 0;
    const [{ boot, first } = { boot: this.#boot, first: 1 }] = [this.#files[at]];
    let begin = missed === null ? after : { sequence: boot, number: first - 1, index: 0 };
    let cursor = begin;
    let gone = missed;
    for (let nth = at; nth < this.#files.length; nth++) {
      const stored = { ...(this.#files[nth] as StoredFile) };
      // A power failure may bring back a removed file, and then some between are missing.
      const isAfterHole = nth > at && stored.index !== (this.#files[nth - 1] as StoredFile).index + 1;
      if (isAfterHole) return { entries, begin, after: cursor, missed: gone, isAtEnd: false };
      for await (const { entry, end } of this.#entriesIn(stored, nth === at ? number : 0)) {
        const expected = stored.boot === cursor.sequence ? cursor.number + 1 : 1;
        const count = firstOf(entry.record) - expected;
        if (count > 0 && entries.length > 0) return { entries, begin, after: cursor, missed: gone, isAtEnd: false };
        if (count > 0) {
          gone ??= { reason: "not_stored", count };
          begin = { ...entry.cursor, number: firstOf(entry.record) - 1 };
        }
        size += entry.bytes;
        const isFull = entries.length >= bounds.records || (entries.length > 0 && size > bounds.bytes);
        if (isFull) return { entries, begin, after: cursor, missed: gone, isAtEnd: false };
        entries.push(entry);
        cursor = entry.cursor;
        this.#remember(`${stored.index} ${cursor.number}`, end);
      }
    }
    return { entries, begin, after: cursor, missed: gone, isAtEnd: true };
  }

  /** The file to read from, the number to read after, and what is gone before. */
  #startOf({ sequence, number }: RecordCursor): Readonly<{ at: number; number: number; missed: RecordPage["missed"] }> {
    const first = this.#files.findIndex(({ boot }) => boot === sequence);
    if (first < 0) {
      const isPresent = sequence === this.#boot;
      if (isPresent) return { at: this.#files.length, number, missed: null };
      return { at: 0, number: 0, missed: { reason: "cursor_unknown", count: null } };
    }
    const count = (this.#files[first] as StoredFile).first - number - 1;
    if (count > 0) return { at: first, number, missed: { reason: "removed", count } };
    const at = this.#files.findLastIndex((file) => file.boot === sequence && file.first <= number + 1);
    const [here, next] = [this.#files[at] as StoredFile, this.#files[at + 1]];
    const isHole = next !== undefined && next.index !== here.index + 1 && here.last <= number;
    if (!isHole) return { at, number, missed: null };
    const isSame = next.boot === sequence;
    const gone = isSame ? next.first - number - 1 : null;
    return { at: at + 1, number: isSame ? number : 0, missed: { reason: "removed", count: gone } };
  }

  /** The records after a number, and the offset at which each ends. */
  async *#entriesIn(
    stored: Readonly<StoredFile>,
    after: number,
  ): AsyncGenerator<Readonly<{ entry: FeedEntry; end: number }>> {
    if (stored.last <= after) return;
    const file = await this.#disk.open(stored.name);
    try {
      let offset = this.#hints.get(`${stored.index} ${after}`) ?? 0;
      while (offset < stored.bytes) {
        const bytes = await readAt(file, offset, Math.min(chunkBytes, stored.bytes - offset));
        const whole = bytes.lastIndexOf(0x0a) + 1;
        if (whole === 0) return; // no whole record
        for (let at = skipTo(bytes, after); at < whole; ) {
          const lineEnd = bytes.indexOf(0x0a, at) + 1;
          const [entry] = entriesOf(stored.boot, bytes.subarray(at, lineEnd));
          at = lineEnd;
          if (entry !== undefined && entry.cursor.number > after) yield { entry, end: offset + at };
        }
        offset += whole;
      }
    } finally {
      await file.close();
    }
  }

  /** Where a read ended, so that the next one does not search. */
  #remember(key: string, offset: number): void {
    this.#hints.set(key, offset);
    if (this.#hints.size <= hintsMax) return;
    const [oldest] = this.#hints.keys();
    if (oldest !== undefined) this.#hints.delete(oldest);
  }

  async cursorAt(atMs: number): Promise<RecordCursor> {
    for (const stored of this.#files) {
      if (stored !== this.#files.at(-1) && ((await this.#newestIn(stored))?.at ?? atMs) < atMs) continue;
      for await (const { entry } of this.#entriesIn({ ...stored }, 0)) {
        const { cursor, record } = entry;
        if (record.at >= atMs) return { ...cursor, number: firstOf(record) - 1 };
      }
    }
    return this.end();
  }

  end(): RecordCursor {
    const newest = this.#files.at(-1);
    return { sequence: newest?.boot ?? this.#boot, number: newest?.last ?? 0, index: 0 };
  }

  async close(): Promise<void> {
    const active = this.#active;
    this.#active = null;
    try {
      if (active !== null) await this.#syncActive(active);
    } finally {
      await active?.file.close();
    }
  }
}

async function readAt(file: SpoolFile, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  const read = await file.read(bytes, offset);
  return bytes.subarray(0, read);
}

/** The offset of the first line whose number may be above `after`, found by halves: numbers only grow. */
function skipTo(bytes: Buffer, after: number): number {
  let [low, high] = [0, bytes.length];
  while (high - low > 4_096) {
    const lineAt = bytes.indexOf(0x0a, (low + high) >> 1) + 1;
    if (lineAt === 0 || lineAt >= high) break;
    const number = numberAt(bytes, lineAt);
    if (number === undefined) break;
    if (number <= after) low = lineAt;
    else high = lineAt;
  }
  return low;
}

/** Every stored line begins with its kind and its number. */
function numberAt(bytes: Buffer, at: number): number | undefined {
  const [, number] = /^\{"kind":"\w+","seq":(\d+)/.exec(bytes.toString("latin1", at, at + 64)) ?? [];
  return number === undefined ? undefined : Number(number);
}

/** The first number that the batch accounts for: a gap also for those before its own. */
function firstNumberOf({ first, last, bytes }: AuditBatch): number {
  if (first !== last) return first;
  const record = parseLine(bytes.toString("utf8"));
  return record === undefined ? first : firstOf(record);
}

function firstOf(record: AuditRecord): number {
  return record.kind === "gap" ? record.first : record.seq;
}

/** The lines of the batch that are not stored yet. A gap is one line, under the last number that it covers. */
function withoutStored({ first, last, bytes }: AuditBatch, stored: number): Buffer {
  if (first > stored) return bytes;
  if (last <= stored) return bytes.subarray(0, 0);
  let at = 0;
  for (let number = first; number <= stored; number++) at = bytes.indexOf(0x0a, at) + 1;
  return bytes.subarray(at);
}

type FileName = Pick<StoredFile, "index" | "first" | "boot">;

function formatFileName({ index, first, boot }: FileName): string {
  return `pull-${String(index).padStart(12, "0")}-${first}-${encodeURIComponent(boot)}.jsonl`;
}

function parseFileName(name: string): FileName | undefined {
  const [, index, first, boot = ""] = /^pull-(\d{12})-(\d{1,15})-(.{1,220})\.jsonl$/.exec(name) ?? [];
  if (index === undefined || first === undefined) return undefined;
  try {
    return { index: Number(index), first: Number(first), boot: parseBootId(decodeURIComponent(boot)) };
  } catch {
    return undefined;
  }
}
