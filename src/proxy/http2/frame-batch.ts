/**
 * Frame batch: what one connection writes in one turn, as few writes as possible.
 *
 * Small pieces are collected as latin1 text, which leaves in one system call. Large pieces are not copied.
 */
import type { Socket } from "node:net";
import { formatFrameHead, frameFlag, frameType, payloadBytesMax } from "./frame-types.ts";

export class FrameBatch {
  bytes = 0;
  #text = "";
  #parts: (string | Buffer)[] = [];

  addText(text: string): void {
    this.#text += text;
    this.bytes += text.length;
  }

  /** @param block an encoded header block; a long one takes several frames */
  addHeaders(streamId: number, endStream: number, block: string): void {
    if (block.length <= payloadBytesMax) {
      this.addText(
        formatFrameHead(block.length, frameType.headers, endStream | frameFlag.endHeaders, streamId) + block,
      );
      return;
    }
    for (let at = 0; at < block.length; at += payloadBytesMax) {
      const part = block.slice(at, at + payloadBytesMax);
      const type = at === 0 ? frameType.headers : frameType.continuation;
      const endHeaders = at + payloadBytesMax >= block.length ? frameFlag.endHeaders : 0;
      const flags = (at === 0 ? endStream : 0) | endHeaders;
      this.addText(formatFrameHead(part.length, type, flags, streamId) + part);
    }
  }

  /** @param chunk text: latin1; at most `payloadBytesMax` */
  addData(streamId: number, endStream: number, chunk: string | Buffer): void {
    this.addText(formatFrameHead(chunk.length, frameType.data, endStream, streamId));
    if (typeof chunk === "string") this.addText(chunk);
    else {
      this.#parts.push(this.#text, chunk);
      this.#text = "";
      this.bytes += chunk.length;
    }
  }

  /** @param onSent called when the kernel has everything, or the socket is destroyed */
  send(socket: Socket, onSent: () => void): void {
    if (this.#parts.length === 0) {
      socket.write(this.#text, "latin1", onSent);
      return;
    }
    const parts = this.#text === "" ? this.#parts : this.#parts.concat(this.#text);
    const last = parts.length - 1;
    socket.cork();
    for (const [i, part] of parts.entries()) {
      const done = i === last ? onSent : undefined;
      if (typeof part === "string") socket.write(part, "latin1", done);
      else socket.write(part, done);
    }
    socket.uncork();
  }
}
