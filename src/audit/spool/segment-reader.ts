/**
 * Segment reader: reads the frames of a segment through one window of memory, and skips what is damaged. Pure, apart
 * from the disk that it is given.
 */
import {
  claimedFrameBytes,
  frameAt,
  frameHeadBytes,
  framePayloadMax,
  frameSeed,
  nextFrameOffset,
  type SpoolFrame,
} from "./frame.ts";
import type { SpoolDisk, SpoolFile } from "./spool-disk.ts";

export type ReadFrame =
  /** The frame's payload is valid until the next read. `runs`: those of its lines (record-ring.ts); null: not known. */
  | Readonly<{ type: "frame"; frame: SpoolFrame; end: number; runs: Uint16Array | null }>
  /** Not a frame; the next one that passes begins at `end`. */
  | Readonly<{ type: "damaged"; end: number }>
  /** No whole frame begins between here and `limit`. */
  | Readonly<{ type: "end"; damagedBytes: number }>;

const windowBytes = frameHeadBytes + framePayloadMax;

export class SegmentReader {
  readonly #disk: SpoolDisk;
  #file: SpoolFile | undefined;
  #name = "";
  #seed = 0;
  /** The bytes of the file from `#windowAt` on. */
  #window: Buffer | null = null;
  readonly #windowBytes: number;
  #windowAt = 0;
  #filled = 0;

  /** @param bytes the window; at least a whole frame */
  constructor(disk: SpoolDisk, { bytes = windowBytes }: Readonly<{ bytes?: number }> = {}) {
    this.#disk = disk;
    this.#windowBytes = Math.max(bytes, windowBytes);
  }

  /** @param limit the segment's length, as far as it may be read */
  async read(name: string, offset: number, limit: number): Promise<ReadFrame> {
    await this.#open(name);
    if (offset >= limit) return { type: "end", damagedBytes: 0 };
    const frame = await this.#frameAt(offset, limit);
    if (frame !== undefined) return { type: "frame", frame, end: offset + frame.bytes, runs: null };
    for (let at = offset + 1; at < limit; ) {
      const bytes = await this.#bytesFrom(at, Math.min(limit, at + windowBytes), limit);
      if (bytes.length === 0) break; // the file is shorter than it was
      const found = nextFrameOffset(bytes, 0);
      if (found === undefined) {
        at += Math.max(1, bytes.length - 3);
        continue;
      }
      if ((await this.#frameAt(at + found, limit)) !== undefined) return { type: "damaged", end: at + found };
      at += found + 1;
    }
    return { type: "end", damagedBytes: limit - offset };
  }

  async #frameAt(offset: number, limit: number): Promise<SpoolFrame | undefined> {
    const head = await this.#bytesFrom(offset, Math.min(limit, offset + frameHeadBytes), limit);
    const length = claimedFrameBytes(head, 0);
    if (length === undefined || offset + length > limit) return undefined;
    return frameAt(await this.#bytesFrom(offset, offset + length, limit), 0, this.#seed);
  }

  /** Never reads beyond the limit, because the writer may be changing what is there. */
  async #bytesFrom(from: number, to: number, limit: number): Promise<Buffer> {
    this.#window ??= Buffer.allocUnsafeSlow(this.#windowBytes); // a reader that keeps up needs none
    if (from < this.#windowAt || to > this.#windowAt + this.#filled) {
      this.#windowAt = from;
      this.#filled = 0;
      const into = this.#window.subarray(0, Math.min(this.#window.length, limit - from));
      this.#filled = (await this.#file?.read(into, from)) ?? 0;
    }
    const start = from - this.#windowAt;
    return this.#window.subarray(start, Math.min(this.#filled, start + to - from));
  }

  async #open(name: string): Promise<void> {
    if (this.#name === name && this.#file !== undefined) return;
    await this.close();
    this.#file = await this.#disk.open(name);
    this.#name = name;
    this.#seed = frameSeed(name);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#name = "";
    this.#filled = 0;
    this.#windowAt = 0;
    await file?.close();
  }
}
