/**
 * Frame reader: cuts what one connection receives into frames (RFC 9113 §4.1), behind the preface (§3.4). Pure.
 *
 * - A frame that one read brings whole is read where it is. Of other frames a copy is assembled, of at most one frame.
 * - It stops when a frame is refused, and reads nothing after that.
 */
import { type ConnectionFault, errorCode, frameHeadBytes, payloadBytesMax } from "./frame-types.ts";

/** One object for all frames of a reader: a receiver copies what it keeps. */
export type Http2Frame = {
  type: number;
  flags: number;
  streamId: number;
  /** The payload is between `from` and `to`. */
  bytes: Buffer;
  from: number;
  to: number;
  /** The receiver may keep `bytes`; otherwise the next read overwrites them. */
  isOwned: boolean;
};

export const prefaceText = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const preface = Buffer.from(prefaceText, "latin1");
const nothing = Buffer.alloc(0);

export class FrameReader {
  readonly #onFrame: (frame: Http2Frame) => ConnectionFault | undefined;
  readonly #frame: Http2Frame = { type: 0, flags: 0, streamId: 0, bytes: nothing, from: 0, to: 0, isOwned: false };
  #prefaceRead = 0;
  /** The beginning of a frame, or nothing. */
  #partial: Buffer = nothing;
  #partialLength = 0;
  #isStopped = false;

  /**
   * @param onFrame a fault stops the reader
   * @param from whose frames they are: a server sends no preface
   */
  constructor(onFrame: (frame: Http2Frame) => ConnectionFault | undefined, from: "client" | "server") {
    this.#onFrame = onFrame;
    if (from === "server") this.#prefaceRead = preface.length;
  }

  stop(): void {
    this.#isStopped = true;
    this.#partial = nothing;
  }

  /** @returns why the connection has to end */
  push(bytes: Buffer): ConnectionFault | undefined {
    let at = 0;
    if (this.#prefaceRead < preface.length) {
      at = Math.min(bytes.length, preface.length - this.#prefaceRead);
      if (preface.compare(bytes, 0, at, this.#prefaceRead, this.#prefaceRead + at) !== 0)
        return { code: errorCode.protocol, reason: "preface" };
      this.#prefaceRead += at;
    }
    while (at < bytes.length && !this.#isStopped) {
      if (this.#partialLength > 0) {
        at = this.#extend(bytes, at);
        const fault = this.#pushPartial();
        if (fault !== undefined) return fault;
        continue;
      }
      const length = bytes.length - at < frameHeadBytes ? -1 : lengthOf(bytes, at);
      if (length > payloadBytesMax) return tooLong;
      const end = at + frameHeadBytes + length;
      if (length < 0 || end > bytes.length) {
        this.#begin(bytes, at, length);
        return undefined;
      }
      const fault = this.#read(bytes, at, end, false);
      if (fault !== undefined) return fault;
      at = end;
    }
    return undefined;
  }

  #begin(bytes: Buffer, at: number, length: number): void {
    const head = Buffer.allocUnsafeSlow(frameHeadBytes + Math.max(0, length));
    this.#partialLength = bytes.copy(head, 0, at);
    this.#partial = head;
  }

  /** @returns where to read on */
  #extend(bytes: Buffer, at: number): number {
    const copied = bytes.copy(this.#partial, this.#partialLength, at);
    this.#partialLength += copied;
    return at + copied;
  }

  #pushPartial(): ConnectionFault | undefined {
    const partial = this.#partial;
    if (this.#partialLength < partial.length) return undefined;
    const length = lengthOf(partial, 0);
    if (length > payloadBytesMax) return tooLong;
    if (partial.length < frameHeadBytes + length) {
      this.#begin(partial, 0, length);
      return undefined;
    }
    this.#partial = nothing;
    this.#partialLength = 0;
    return this.#read(partial, 0, partial.length, true);
  }

  #read(bytes: Buffer, at: number, end: number, isOwned: boolean): ConnectionFault | undefined {
    const frame = this.#frame;
    frame.type = bytes[at + 3] ?? 0;
    frame.flags = bytes[at + 4] ?? 0;
    frame.streamId =
      (((bytes[at + 5] ?? 0) & 0x7f) << 24) |
      ((bytes[at + 6] ?? 0) << 16) |
      ((bytes[at + 7] ?? 0) << 8) |
      (bytes[at + 8] ?? 0);
    frame.bytes = bytes;
    frame.from = at + frameHeadBytes;
    frame.to = end;
    frame.isOwned = isOwned;
    return this.#onFrame(frame);
  }
}

const tooLong: ConnectionFault = { code: errorCode.frameSize, reason: "frame-size" };

function lengthOf(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
}
