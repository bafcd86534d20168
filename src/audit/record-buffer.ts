/**
 * Journal: decision lines as bytes, from the moment of the decision until every sink has taken them.
 *
 * Lines are packed into pages outside of the garbage collector's reach: what waits for a sink would otherwise be copied by it again and again. Numbers are dense, so a
 * place in the journal is a number. Pure.
 *
 * Always: what was handed out does not change before it is forgotten; a page is kept no longer than some reader may still ask for it, but
 * for a few that are written to again.
 */

/** Records on their way to a sink, as lines of JSON in UTF-8, each with its end. */
export type AuditBatch = Readonly<{
  /** Numbers of the first and the last record; of a gap, both are the last number that it declares lost. */
  first: number;
  last: number;
  bytes: Buffer;
}>;

/** With its end. `isAscii`: known to hold nothing else, so that it need not be encoded. */
export type Line = Readonly<{ text: string; isAscii: boolean }>;

const pageBytes = 512 * 1_024;
const pageRecordsMax = 1_000;

/** New memory outside of its heap makes the collector start its long round. */
const sparePagesMax = 4;

type Page = {
  first: number;
  /** Bytes of all records before this page, dropped ones included. */
  startBytes: number;
  readonly bytes: Buffer;
  /** Where each line ends. */
  readonly ends: Uint32Array;
  count: number;
};

export class RecordBuffer {
  /** In order, without gaps between them; the last one is written to. */
  readonly #pages: Page[] = [];
  readonly #spare: Page[] = [];
  /** The number of the newest record; 0: there is none. */
  last = 0;
  /** Of all records that were ever appended. */
  totalBytes = 0;

  append({ text, isAscii }: Line): void {
    const bytesMax = isAscii ? text.length : text.length * 3; // of UTF-8
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

  /** @returns the records from this number on that stand together; undefined when there are none */
  read(from: number): AuditBatch | undefined {
    const page = this.#pages.find(({ first, count }) => from < first + count);
    if (page === undefined || from < page.first) return undefined;
    const skipped = from - page.first;
    const bytes = page.bytes.subarray(page.ends[skipped - 1] ?? 0, page.ends[page.count - 1]);
    return { first: from, last: page.first + page.count - 1, bytes };
  }

  /** @returns the bytes of all records before this number, which must not be forgotten yet */
  bytesBefore(number: number): number {
    const page = this.#pages.find(({ first, count }) => number < first + count);
    if (page === undefined) return this.totalBytes;
    return page.startBytes + (page.ends[number - page.first - 1] ?? 0);
  }

  /** Nothing before this number is asked for or looked at any more. */
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
