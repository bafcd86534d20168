/**
 * WebSocket frames, as far as a splice needs them: where a frame from the server ends, and the bytes of a close frame.
 *
 * Pure. It reads frame headers only (RFC 6455 §5.2) and never payloads, and changes no byte, so extensions work.
 */

/** Follows the bytes of one direction. `take` gets each chunk once, in order. */
export class FrameBoundaries {
  /** Payload bytes of the current frame that have not arrived. */
  #payload = 0;
  /** The current header as far as it has arrived; at most 14 bytes. */
  readonly #header = new Uint8Array(14);
  #headerLength = 0;
  #broken = false;

  /** True when the bytes so far end exactly at the end of a frame. */
  get atBoundary(): boolean {
    return !this.#broken && this.#payload === 0 && this.#headerLength === 0;
  }

  take(chunk: Uint8Array): void {
    this.#walk(chunk, "all");
  }

  /**
   * Takes only up to the next frame boundary.
   * @returns how many bytes of the chunk belong to the current frame; all of them when it does not end in this chunk
   */
  takeToBoundary(chunk: Uint8Array): number {
    return this.#walk(chunk, "to-boundary");
  }

  #walk(chunk: Uint8Array, until: "all" | "to-boundary"): number {
    let at = 0;
    while (at < chunk.length && !this.#broken) {
      if (until === "to-boundary" && this.atBoundary) return at;
      if (this.#payload > 0) {
        const step = Math.min(this.#payload, chunk.length - at);
        this.#payload -= step;
        at += step;
        continue;
      }
      const read = this.#headerLength === 0 ? this.#readShortHeader(chunk, at) : 0;
      if (read > 0) {
        at += read;
        continue;
      }
      this.#header[this.#headerLength++] = chunk[at++] ?? 0;
      this.#readHeader();
    }
    return this.#broken ? chunk.length : at;
  }

  /** Reads the header of a frame below 64 KB where it is. @returns its bytes; 0: it is another one, or not complete */
  #readShortHeader(chunk: Uint8Array, at: number): number {
    const second = chunk[at + 1] ?? 127;
    const short = second & 0x7f;
    const bytes = (short < 126 ? 2 : 4) + (second > 127 ? 4 : 0);
    if (short === 127 || at + bytes > chunk.length) return 0;
    this.#payload = short < 126 ? short : ((chunk[at + 2] ?? 0) << 8) | (chunk[at + 3] ?? 0);
    return bytes;
  }

  #readHeader(): void {
    if (this.#headerLength < 2) return;
    const second = this.#header[1] ?? 0;
    const short = second & 0x7f;
    const masked = (second & 0x80) !== 0;
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (this.#headerLength < 2 + extended + (masked ? 4 : 0)) return;
    const view = new DataView(this.#header.buffer);
    const length = extended === 0 ? short : extended === 2 ? view.getUint16(2) : Number(view.getBigUint64(2));
    // A frame of such a length never ends.
    if (!Number.isSafeInteger(length)) this.#broken = true;
    this.#payload = length;
    this.#headerLength = 0;
  }
}

/** An unmasked close frame with a status code and a reason of at most 123 bytes (RFC 6455 §5.5.1). */
export function closeFrame(code: number, reason: string): Buffer {
  const text = Buffer.from(reason, "utf8").subarray(0, 123);
  const frame = Buffer.alloc(4 + text.length);
  frame[0] = 0x88; // final, opcode 8
  frame[1] = 2 + text.length;
  frame.writeUInt16BE(code, 2);
  text.copy(frame, 4);
  return frame;
}
