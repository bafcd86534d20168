/**
 * Stream output: what one side sends on an HTTP/2 stream until its frames are written. Pure.
 *
 * - Nothing is encoded before it is written: what is discarded meanwhile leaves no trace, not even in the table of the
 *   header encoder.
 * - Data waits for the windows of the stream and of its connection (RFC 9113 §5.2).
 */
import type { FrameBatch } from "./frame-batch.ts";
import { frameFlag, payloadBytesMax, windowBytesMax } from "./frame-types.ts";
import type { FieldList, HpackEncoder } from "./hpack/encoder.ts";

/** Up to this size a chunk is copied, so that it leaves together with others. */
const copiedBytesMax = 4_096;
/** Data of one stream before it is the next one's turn. */
const turnBytesMax = 32_768;
/** Pieces that are joined before their text is copied: V8 keeps a node of 32 bytes for each until then. */
const joinedMax = 64;
/** A frame with less, cut short by a window, serves only a caller that wastes our time. */
const usefulBytesMin = 1_024;

/** What the streams of a connection share. */
export type SharedOutput = {
  readonly encoder: HpackEncoder;
  /** What the caller accepts, of all streams together. */
  window: number;
  /** Bytes of all streams that wait. */
  queuedBytes: number;
  readonly onUsefulFrame: () => void;
};

/** @property status null: a request, whose pseudo-headers are fields */
type Block = Readonly<{ status: number | null; fields: FieldList }>;

export class StreamOutput {
  readonly #id: number;
  readonly #shared: SharedOutput;
  /** What the caller accepts; a change of its settings may make it negative. */
  #window: number;
  #interim: Block[] = [];
  #head: Block | undefined;
  readonly #chunks: (string | Buffer)[] = [];
  queuedBytes = 0;
  #joined = 0;
  #hasHead = false;
  #hasEnd = false;
  #trailers: FieldList | undefined;
  /** END_STREAM was written. */
  isEnded = false;

  constructor(id: number, window: number, shared: SharedOutput) {
    this.#id = id;
    this.#window = window;
    this.#shared = shared;
  }

  /** @returns false: the window is larger than any may be */
  widen(bytes: number): boolean {
    this.#window += bytes;
    return this.#window <= windowBytesMax;
  }

  addInterim(block: Block): void {
    if (!this.#hasHead) this.#interim.push(block);
  }

  setHead(block: Block): void {
    this.#head = block;
    this.#hasHead = true;
  }

  add(chunk: string | Buffer): void {
    if (chunk.length === 0) return;
    const last = this.#chunks.at(-1);
    const text = typeof chunk === "string" || chunk.length > copiedBytesMax ? chunk : chunk.toString("latin1");
    const isJoined =
      typeof last === "string" && typeof text === "string" && last.length + text.length <= payloadBytesMax;
    if (isJoined) this.#chunks[this.#chunks.length - 1] = this.#join(last, text);
    else this.#chunks.push(text);
    this.queuedBytes += chunk.length;
    this.#shared.queuedBytes += chunk.length;
  }

  #join(first: string, second: string): string {
    this.#joined += 1;
    return this.#joined % joinedMax === 0 ? copyOf(first + second) : first + second;
  }

  end(trailers: FieldList | undefined): void {
    this.#hasEnd = true;
    this.#trailers = trailers;
  }

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.#head === undefined && this.queuedBytes === 0;
  }

  /** Something waits that the windows let pass. */
  get isSendable(): boolean {
    if (this.isEnded) return false;
    if (this.#head !== undefined || this.#interim.length > 0) return true;
    if (this.queuedBytes > 0) return this.#window > 0 && this.#shared.window > 0;
    return this.#hasEnd;
  }

  /** Forgets what waits. */
  discard(): void {
    this.#shared.queuedBytes -= this.queuedBytes;
    this.queuedBytes = 0;
    this.#chunks.length = 0;
    this.#interim = [];
    this.#head = undefined;
    this.#hasEnd = false;
    this.isEnded = true;
  }

  /** Writes what the windows let pass, up to one turn. */
  writeTo(batch: FrameBatch): void {
    const { encoder } = this.#shared;
    for (const { status, fields } of this.#interim) batch.addHeaders(this.#id, 0, encoder.encode(status, fields));
    if (this.#interim.length > 0) this.#interim = [];
    const head = this.#head;
    if (head !== undefined) {
      this.#head = undefined;
      const isLast = this.#hasEnd && this.queuedBytes === 0 && this.#trailers === undefined;
      batch.addHeaders(this.#id, this.#endFlag(isLast), encoder.encode(head.status, head.fields));
      this.#shared.onUsefulFrame();
    }
    this.#writeData(batch);
    if (!this.#hasEnd || this.isEnded || this.queuedBytes > 0) return;
    this.isEnded = true;
    if (this.#trailers === undefined) batch.addData(this.#id, frameFlag.endStream, "");
    else batch.addHeaders(this.#id, frameFlag.endStream, encoder.encode(null, this.#trailers));
  }

  #writeData(batch: FrameBatch): void {
    const shared = this.#shared;
    for (let turn = turnBytesMax; turn > 0 && this.queuedBytes > 0; ) {
      const [chunk = ""] = this.#chunks;
      const allowed = Math.min(this.#window, shared.window);
      const length = Math.min(chunk.length, payloadBytesMax, allowed);
      if (length <= 0) return;
      if (length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = typeof chunk === "string" ? chunk.slice(length) : chunk.subarray(length);
      const part = length === chunk.length ? chunk : firstOf(chunk, length);
      this.queuedBytes -= length;
      shared.queuedBytes -= length;
      this.#window -= length;
      shared.window -= length;
      turn -= length;
      const isLast = this.#hasEnd && this.queuedBytes === 0 && this.#trailers === undefined;
      batch.addData(this.#id, this.#endFlag(isLast), part);
      if (length >= usefulBytesMin || length < allowed) shared.onUsefulFrame();
    }
  }

  #endFlag(isLast: boolean): number {
    if (isLast) this.isEnded = true;
    return isLast ? frameFlag.endStream : 0;
  }
}

function copyOf(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}

function firstOf(chunk: string | Buffer, length: number): string | Buffer {
  return typeof chunk === "string" ? chunk.slice(0, length) : chunk.subarray(0, length);
}
