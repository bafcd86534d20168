/**
 * Recent frames: copies in memory of what the spool wrote last, so that readers that keep up need no disk. Pure.
 *
 * - It holds at most 8 pages of 512 KiB. The oldest is used again at that bound, or once its frames are a second old. A
 *   reader that is further behind reads the disk.
 * - It does not know what is durable: readers stop at the end of their segment.
 */
import { framePayloadMax, type SpoolFrame } from "./frame.ts";
import { runsPerLine } from "./record-ring.ts";

/** `runs`: those of each line, from the ring; null: not known. Both are valid until the writer continues. */
export type RecentFrame = Readonly<{ frame: SpoolFrame; runs: Uint16Array | null }>;

const pageBytes = framePayloadMax;
const pagesMaxDefault = 8;
const pageLinesMax = 2_048;
const pageFramesMax = 512;
const heldMs = 1_000;

type Page = Readonly<{ bytes: Buffer; runs: Uint16Array; keys: string[] }> & {
  filled: number;
  lines: number;
  atMs: number;
};

export class RecentFrames {
  /** Oldest first. Frames are added to the last one. */
  readonly #pages: Page[] = [];
  readonly #frames = new Map<string, RecentFrame>();
  readonly #pagesMax: number;

  /** @param pagesMax 0: nothing is held */
  constructor(pagesMax = pagesMaxDefault) {
    this.#pagesMax = pagesMax;
  }

  /** @param of.runs those of the lines of the payload; absent: not known */
  add(of: Readonly<{ index: number; offset: number; frame: SpoolFrame; runs?: Uint16Array }>): void {
    const { index, offset, frame, runs } = of;
    const { length } = frame.payload;
    if (length > pageBytes || this.#pagesMax === 0) return;
    const page = this.#pageFor(length, frame.atMs);
    const key = `${index} ${offset}`;
    const payload = page.bytes.subarray(page.filled, page.filled + length);
    frame.payload.copy(payload);
    page.filled += length;
    page.atMs = frame.atMs;
    page.keys.push(key);
    this.#frames.set(key, { frame: { ...frame, payload }, runs: copyRuns(page, runs) });
  }

  /** The frame of this segment at this offset; undefined: it is too old, or there is none. */
  at(index: number, offset: number): RecentFrame | undefined {
    return this.#frames.get(`${index} ${offset}`);
  }

  #pageFor(bytes: number, atMs: number): Page {
    const last = this.#pages.at(-1);
    if (last !== undefined && last.filled + bytes <= pageBytes && last.keys.length < pageFramesMax) return last;
    const oldest = this.#pages[0];
    const isFree = oldest !== undefined && (this.#pages.length === this.#pagesMax || atMs - oldest.atMs > heldMs);
    const page = isFree ? this.#clear(oldest) : newPage();
    if (isFree) this.#pages.shift();
    this.#pages.push(page);
    return page;
  }

  #clear(page: Page): Page {
    for (const key of page.keys) this.#frames.delete(key);
    page.keys.length = 0;
    page.filled = 0;
    page.lines = 0;
    return page;
  }
}

function copyRuns(page: Page, runs: Uint16Array | undefined): Uint16Array | null {
  if (runs === undefined || page.lines * runsPerLine + runs.length > page.runs.length) return null;
  const from = page.lines * runsPerLine;
  page.runs.set(runs, from);
  page.lines += runs.length / runsPerLine;
  return page.runs.subarray(from, from + runs.length);
}

function newPage(): Page {
  const runs = new Uint16Array(pageLinesMax * runsPerLine);
  return { bytes: Buffer.allocUnsafeSlow(pageBytes), runs, keys: [], filled: 0, lines: 0, atMs: 0 };
}
