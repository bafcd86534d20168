/**
 * Body: the data that one HTTP/2 stream receives, of a request or a response, until a reader has it. Pure.
 *
 * - What no reader accepts yet waits here, up to the window of the stream. The window opens again when a reader has
 *   accepted it.
 * - Small frames that wait are copied together: a frame of one byte takes one byte.
 * - The data must have the announced length (RFC 9113 §8.1.1).
 */
import type { BodyReader } from "../message/downstream-request.ts";

/** A caller may send this much ahead of the reader: enough for an upload over a long way, and 128 of them fit. */
export const streamWindowBytes = 262_144;
const slabBytes = 16_384;

/** What a body notifies its stream of. */
export type BodyHooks = Readonly<{
  /** A reader has accepted bytes, or they were discarded. */
  onConsumed: (bytes: number) => void;
  /** The caller may send more. */
  onWindow: (bytes: number) => void;
}>;

export type BodyFault = "flow-control" | "length";

export class RequestBody {
  readonly #hooks: BodyHooks;
  /** Bytes that the announced length still allows; undefined: no length was announced. */
  #left: number | undefined;
  readonly #windowBytes: number;
  #window: number;
  #unannounced = 0;
  #reader: BodyReader | "discarded" | undefined;
  /** Filled up to `#slabLength` in the last one. */
  #waiting: Buffer[] = [];
  #slabLength = 0;
  isPaused = false;
  /** The reader received part of the body since the last check. */
  #hasMoved = false;
  /** END_STREAM has arrived. */
  hasArrived = false;
  /** The reader has everything. */
  isComplete = false;
  #trailers: readonly string[] = [];

  /** @param windowBytes the peer may send this much ahead of the reader */
  constructor(hooks: BodyHooks, contentLength: number | undefined, windowBytes: number = streamWindowBytes) {
    this.#hooks = hooks;
    this.#left = contentLength;
    this.#windowBytes = windowBytes;
    this.#window = windowBytes;
  }

  get hasReader(): boolean {
    return this.#reader !== undefined;
  }

  /** A request without a body. @returns false: a length was announced */
  finishEmpty(): boolean {
    this.hasArrived = true;
    this.isComplete = true;
    return this.#left === undefined || this.#left === 0;
  }

  /** @param counted bytes of the frame that count for flow control: those between `from` and `to`, and padding */
  onData(
    bytes: Buffer,
    { from, to, counted, isOwned }: Readonly<{ from: number; to: number; counted: number; isOwned: boolean }>,
  ): BodyFault | undefined {
    this.#window -= counted;
    if (this.#window < 0) return "flow-control";
    const length = to - from;
    if (this.#left !== undefined) {
      this.#left -= length;
      if (this.#left < 0) return "length";
    }
    if (counted > length) this.#consume(counted - length);
    if (length === 0) return undefined;
    const reader = this.#reader;
    if (reader === "discarded") this.#hooks.onConsumed(length);
    else if (reader === undefined || this.isPaused) this.#keep(bytes, from, to);
    else this.#pass(reader, isOwned ? bytes.subarray(from, to) : Buffer.from(bytes.subarray(from, to)));
    return undefined;
  }

  /** END_STREAM. @param trailers names and values in turn */
  onEnd(trailers: readonly string[]): BodyFault | undefined {
    if (this.#left !== undefined && this.#left > 0) return "length";
    this.hasArrived = true;
    this.#trailers = trailers;
    if (this.#waiting.length === 0) this.#complete();
    return undefined;
  }

  /** Starts passing the body to the reader: at most once. */
  read(reader: BodyReader): void {
    if (this.#reader !== undefined) return;
    this.#reader = reader;
    if (this.#waiting.length > 0) this.#deliver();
    else if (this.hasArrived) reader.onBodyEnd(this.#trailers);
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.#deliver();
  }

  /** The rest is not needed. The stream's window stays as it is, so that the caller stops. */
  discard(): void {
    this.#reader = "discarded";
    for (const [i, slab] of this.#waiting.entries())
      this.#hooks.onConsumed(i === this.#waiting.length - 1 ? this.#slabLength : slab.length);
    this.#waiting = [];
    if (this.hasArrived) this.isComplete = true;
  }

  /** The rest will not arrive. */
  abort(): void {
    const reader = this.#reader;
    const isComplete = this.isComplete;
    this.discard();
    if (typeof reader === "object" && !isComplete) reader.onAbort();
  }

  /**
   * @returns whether a reader with its own time-outs received part of the body since the last call, or there is no
   *   reader yet
   */
  hasProgress(): boolean {
    if (this.#reader === undefined) return true; // the caller waits
    const moved = this.#hasMoved && this.#reader !== "discarded" && this.#reader.onTimeout !== undefined;
    this.#hasMoved = false;
    return moved;
  }

  /** The body takes too long. @returns false when nothing here can respond to that */
  timeOut(): boolean {
    const reader = this.#reader;
    if (typeof reader !== "object" || reader.onTimeout === undefined) return false;
    reader.onTimeout(this.isPaused ? "upstream" : "caller");
    return true;
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (this.#waiting.length === 0) {
      // Most bodies that wait are short and wait for the end of a turn.
      this.#waiting.push(Buffer.from(bytes.subarray(from, to)));
      this.#slabLength = to - from;
      return;
    }
    for (let at = from; at < to; ) {
      let slab = this.#waiting.at(-1);
      if (slab === undefined || this.#slabLength === slab.length) {
        slab = Buffer.allocUnsafeSlow(slabBytes);
        this.#waiting.push(slab);
        this.#slabLength = 0;
      }
      const copied = bytes.copy(slab, this.#slabLength, at, to);
      this.#slabLength += copied;
      at += copied;
    }
  }

  #deliver(): void {
    for (let reader = this.#reader; typeof reader === "object" && !this.isPaused; reader = this.#reader) {
      const slab = this.#waiting.shift();
      if (slab === undefined) break;
      this.#pass(reader, this.#waiting.length === 0 ? slab.subarray(0, this.#slabLength) : slab);
    }
    if (this.hasArrived && this.#waiting.length === 0 && !this.isPaused) this.#complete();
  }

  #pass(reader: BodyReader, chunk: Buffer): void {
    this.#hasMoved = true;
    if (!reader.onChunk(chunk)) this.isPaused = true;
    this.#consume(chunk.length);
  }

  #complete(): void {
    if (this.isComplete) return;
    this.isComplete = true;
    const reader = this.#reader;
    if (typeof reader === "object") reader.onBodyEnd(this.#trailers);
  }

  /** The window opens in large steps. */
  #consume(bytes: number): void {
    this.#hooks.onConsumed(bytes);
    this.#unannounced += bytes;
    if (this.#unannounced < this.#windowBytes / 2 || this.hasArrived) return;
    const opened = this.#unannounced;
    this.#unannounced = 0;
    this.#window += opened;
    this.#hooks.onWindow(opened);
  }
}
