/**
 * Record ring: decision lines as bytes, from the decision until they are durable in the spool. Pure.
 *
 * - Numbers are dense: every decision uses one, also a decision whose record has no room. Runs of those are gaps.
 * - The bound is on the memory of all pages, used or not. Once it is reached, records are dropped until half of it is
 *   free again, so that one gap covers many.
 * - Lines are packed into pages outside the garbage collector's heap, which would otherwise copy them repeatedly.
 * - What was read does not change before `release`.
 */
import { framePayloadMax } from "./frame.ts";
import type { GapReason } from "./gap-record.ts";

/**
 * A line with its line end. `isAscii`: it is known to be ASCII, so it can be copied without encoding.
 * `runs`: `runsPerLine` offsets of a line of ASCII, see there; absent: not known.
 */
export type Line = Readonly<{ text: string; isAscii: boolean; runs?: Uint16Array | undefined }>;

/**
 * Members of a line that are public, and members that are not, take turns (seal/record-leaf.ts). The runs of a line are
 * the offsets at which each turn ends; the first begins after the opening brace and is public, the last ends at the
 * closing brace. All 0: not known.
 */
export const runsPerLine = 8;

export type RingChunk =
  | Readonly<{ kind: "records"; first: number; last: number; bytes: Buffer; runs: Uint16Array }>
  | Readonly<{ kind: "gap"; first: number; last: number; reason: GapReason; fromMs: number; toMs: number }>;

const pageBytesUsual = 256 * 1_024;
/** A ring has at least so many pages. */
const pagesLeast = 16;
/** Records of a page: for lines of 256 bytes or more, but of small and of large pages this many. */
const [pageRecordsLeast, pageRecordsMax] = [200, 1_000];
const lineBytesLeast = 256;
/** Empty pages kept for reuse: allocating memory outside the heap triggers full garbage collections. */
const sparePagesMax = 4;

type Page = {
  kind: "records";
  first: number;
  readonly bytes: Buffer;
  /** The end offset of each line. */
  readonly ends: Uint32Array;
  readonly runs: Uint16Array;
  count: number;
};
type GapPage = { kind: "gap"; first: number; last: number; reason: GapReason; fromMs: number; toMs: number };

export class RecordRing {
  readonly #bytesMax: number;
  readonly #pageBytes: number;
  /** In order and without holes. Lines are appended to the last one. */
  readonly #pages: (Page | GapPage)[] = [];
  readonly #spare: Page[] = [];
  #dropping = false;
  /** Memory of all pages, spare ones included. */
  #allocated = 0;
  /** The number of the newest decision; 0: none. */
  last = 0;
  /** Bytes of the records that are not released. */
  bytes = 0;
  /** Decisions whose record had no room. */
  dropped = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#pageBytes = Math.min(pageBytesUsual, Math.floor(bytesMax / pagesLeast));
  }

  get isFull(): boolean {
    if (this.#dropping) this.#dropping = this.#usedBytes() > this.#bytesMax / 2;
    return this.#dropping;
  }

  /** Memory of all pages. */
  get allocated(): number {
    return this.#allocated;
  }

  /** Uses the next number. @returns whether there was room */
  append(line: Line, atMs: number): boolean {
    if (this.isFull) {
      this.drop("ring_full", atMs);
      return false;
    }
    const { text, isAscii } = line;
    let bytesMax = isAscii ? text.length : text.length * 3; // UTF-8
    if (!isAscii && bytesMax > this.#room()) bytesMax = Buffer.byteLength(text);
    if (bytesMax > framePayloadMax) {
      this.drop("dropped", atMs);
      return false;
    }
    const page = this.#pageFor(bytesMax);
    if (page === undefined) {
      this.#dropping = true;
      this.drop("ring_full", atMs);
      return false;
    }
    const at = endOf(page);
    const written = page.bytes.write(text, at, isAscii ? "latin1" : "utf8");
    copyRuns(page, line.runs);
    page.ends[page.count++] = at + written;
    this.bytes += written;
    this.last++;
    return true;
  }

  /** Uses the next number for a decision that gets no record. */
  drop(reason: GapReason, atMs: number): void {
    this.dropped++;
    this.last++;
    const open = this.#pages.at(-1);
    if (open?.kind === "gap" && open.reason === reason) {
      open.last = this.last;
      open.fromMs = Math.min(open.fromMs, atMs); // the clock may be set back
      open.toMs = Math.max(open.toMs, atMs);
    } else this.#pages.push({ kind: "gap", first: this.last, last: this.last, reason, fromMs: atMs, toMs: atMs });
  }

  /** Room for the next line in the page in use. */
  #room(): number {
    const open = this.#pages.at(-1);
    return open?.kind === "records" && open.count < open.ends.length ? open.bytes.length - endOf(open) : 0;
  }

  /** @returns undefined if there is no room for another page */
  #pageFor(bytes: number): Page | undefined {
    const open = this.#pages.at(-1);
    if (open?.kind === "records" && this.#room() >= bytes) return open;
    const page = (bytes > this.#pageBytes ? undefined : this.#spare.pop()) ?? this.#allocate(bytes);
    if (page === undefined) return undefined;
    page.first = this.last + 1;
    page.count = 0;
    this.#pages.push(page);
    return page;
  }

  #allocate(bytes: number): Page | undefined {
    const size = Math.max(this.#pageBytes, bytes);
    for (const room = this.#bytesMax - size - recordsOf(size) * recordOffsetsBytes; this.#allocated > room; ) {
      const spare = this.#spare.pop();
      if (spare === undefined) return undefined;
      this.#allocated -= memoryOf(spare);
    }
    const page = newPage(size);
    this.#allocated += memoryOf(page);
    return page;
  }

  #usedBytes(): number {
    return this.#spare.reduce((sum, page) => sum - memoryOf(page), this.#allocated);
  }

  /**
   * @returns what follows this number, to the end of a page; undefined: nothing yet. A gap that may still grow is
   * returned only if `flush` is set; the gap's later numbers then form another one.
   */
  read(after: number, { flush }: Readonly<{ flush: boolean }>): RingChunk | undefined {
    const index = this.#pages.findIndex((page) => after < lastOf(page));
    const page = this.#pages[index];
    if (page === undefined) return undefined;
    if (page.kind === "gap") {
      if (!flush && index === this.#pages.length - 1) return undefined;
      return { ...page, first: Math.max(page.first, after + 1) };
    }
    const skipped = Math.max(0, after + 1 - page.first);
    const bytes = page.bytes.subarray(page.ends[skipped - 1] ?? 0, endOf(page));
    const runs = page.runs.subarray(skipped * runsPerLine, page.count * runsPerLine);
    return { kind: "records", first: page.first + skipped, last: lastOf(page), bytes, runs };
  }

  /** Forgets what is at or before this number. Its chunks are no longer used. */
  release(upTo: number): void {
    for (;;) {
      const page = this.#pages[0];
      if (page === undefined || lastOf(page) > upTo) return;
      this.#pages.shift();
      if (page.kind === "gap") continue;
      this.bytes -= endOf(page);
      if (page.bytes.length === this.#pageBytes && this.#spare.length < sparePagesMax) this.#spare.push(page);
      else this.#allocated -= memoryOf(page);
    }
  }
}

function lastOf(page: Page | GapPage): number {
  return page.kind === "gap" ? page.last : page.first + page.count - 1;
}

function endOf(page: Page): number {
  return page.count === 0 ? 0 : (page.ends[page.count - 1] ?? 0);
}

function copyRuns(page: Page, runs: Uint16Array | undefined): void {
  const from = page.count * runsPerLine;
  for (let n = 0; n < runsPerLine; n++) page.runs[from + n] = runs?.[n] ?? 0;
}

const recordOffsetsBytes = Uint32Array.BYTES_PER_ELEMENT + runsPerLine * Uint16Array.BYTES_PER_ELEMENT;

/** How many records a page of this size has at most. */
function recordsOf(size: number): number {
  return Math.min(pageRecordsMax, Math.max(pageRecordsLeast, Math.floor(size / lineBytesLeast)));
}

function memoryOf({ bytes, ends }: Page): number {
  return bytes.length + ends.length * recordOffsetsBytes;
}

function newPage(size: number): Page {
  return {
    kind: "records",
    first: 0,
    bytes: Buffer.allocUnsafeSlow(size),
    ends: new Uint32Array(recordsOf(size)),
    runs: new Uint16Array(recordsOf(size) * runsPerLine),
    count: 0,
  };
}
