/**
 * Record buffer: decision lines as bytes, from the decision until every sink has written them. Pure.
 *
 * - Lines are packed into pages outside the garbage collector's heap, which would otherwise copy waiting lines
 *   repeatedly.
 * - Record numbers are dense and serve as positions.
 * - A batch that was read does not change before `forget`.
 * - A page is dropped as soon as no reader can need it; a few are kept for reuse.
 */

/** Records on their way to a sink, as lines of JSON in UTF-8, each with its end. */
export type AuditBatch = Readonly<{
  /** Numbers of the first and last record. For a gap, both are the last number that it declares lost. */
  first: number;
  last: number;
  bytes: Buffer;
}>;

/** A line with its line end. `isAscii`: it is known to be ASCII, so it can be copied without encoding. */
export type Line = Readonly<{ text: string; isAscii: boolean }>;

const pageBytes = 512 * 1_024;
const pageRecordsMax = 1_000;

/** Empty pages kept for reuse: allocating memory outside the heap triggers full garbage collections. */
const sparePagesMax = 4;

type Page = {
  first: number;
  /** Bytes of all records before this page, dropped ones included. */
  startBytes: number;
  readonly bytes: Buffer;
  /** The end offset of each line. */
  readonly ends: Uint32Array;
  count: number;
};

export class RecordBuffer {
  /** In order and without gaps. Lines are appended to the last one. */
  readonly #pages: Page[] = [];
  readonly #spare: Page[] = [];
  /** The number of the newest record; 0: none. */
  last = 0;
  /** Bytes of all records ever appended. */
  totalBytes = 0;

  append({ text, isAscii }: Line): void {
    const bytesMax = isAscii ? text.length : text.length * 3; // UTF-8
    const page = this.#pageFor(bytesMax);
    const at = page.count === 0 ? 0 : (page.ends[page.count - 1] ?? 0);
    const written = page.bytes.write(text, at, bytesMax, isAscii ? "latin1" : "utf8");
    page.ends[page.count++] = at + written;
    this.totalBytes += written;
    this.last++;
  }

  #pageFor(bytes: number): Page {
    const open = this.#pages.at(-1);
    if (
      open !== undefined &&
      open.count < pageRecordsMax &&
      open.bytes.length - (open.ends[open.count - 1] ?? 0) >= bytes
    )
      return open;
    const page = (bytes > pageBytes ? undefined : this.#spare.pop()) ?? newPage(Math.max(pageBytes, bytes));
    page.first = this.last + 1;
    page.startBytes = this.totalBytes;
    page.count = 0;
    this.#pages.push(page);
    return page;
  }

  /** @returns the records from this number to the end of its page; undefined if there are none */
  read(from: number): AuditBatch | undefined {
    const page = this.#pages.find(({ first, count }) => from < first + count);
    if (page === undefined || from < page.first) return undefined;
    const skipped = from - page.first;
    const bytes = page.bytes.subarray(page.ends[skipped - 1] ?? 0, page.ends[page.count - 1]);
    return { first: from, last: page.first + page.count - 1, bytes };
  }

  /** @returns the bytes of all records before this number, which must still be in the buffer */
  bytesBefore(number: number): number {
    const page = this.#pages.find(({ first, count }) => number < first + count);
    if (page === undefined) return this.totalBytes;
    return page.startBytes + (page.ends[number - page.first - 1] ?? 0);
  }

  /** Drops pages before this number. Callers no longer read them or use their batches. */
  forget(before: number): void {
    while (this.#pages.length > 0) {
      const page = this.#pages[0] as Page;
      if (page.first + page.count > before) return;
      this.#pages.shift();
      if (page.bytes.length === pageBytes && this.#spare.length < sparePagesMax) this.#spare.push(page);
    }
  }
}

function newPage(size: number): Page {
  return {
    first: 0,
    startBytes: 0,
    bytes: Buffer.allocUnsafeSlow(size),
    ends: new Uint32Array(pageRecordsMax),
    count: 0,
  };
}
