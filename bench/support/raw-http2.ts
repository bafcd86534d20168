/**
 * Raw HTTP/2: one connection of a bench's client or server, cheap enough to share a core with other programs.
 *
 * - It announces the largest windows, and never opens them again: a bench ends long before.
 * - What a turn of the event loop sends leaves in one write. Data waits for the peer's windows.
 * - The peer is trusted.
 */
import type { Socket } from "node:net";
import {
  formatFrameHead,
  formatReset,
  formatSettings,
  formatWindowUpdate,
  frameFlag,
  frameHeadBytes,
  frameType,
  type Http2ErrorCode,
  initialWindowBytes,
  settingId,
  settingsAck,
  windowBytesMax,
} from "../../src/proxy/http2/frame-types.ts";
import { HpackDecoder } from "../../src/proxy/http2/hpack/decoder.ts";
import { formatInteger, formatString } from "../../src/proxy/http2/hpack/text.ts";

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

export type RawEvents = Readonly<{
  /** @param fields names and values in turn */
  onHeaders(streamId: number, fields: readonly string[], endStream: boolean): void;
  /** @param bytes valid until the call returns */
  onData(streamId: number, bytes: Buffer, endStream: boolean): void;
  onReset(streamId: number, code: number): void;
  onGone(why: string): void;
}>;

type Outgoing = { window: number; chunks: string[]; end: string | undefined };

/** @returns a header block of literals without indexing: it depends on no table */
export function literalBlock(fields: readonly (readonly [string, string])[]): string {
  return fields.map(([name, value]) => formatInteger(0, 4, 0) + formatString(name) + formatString(value)).join("");
}

export class RawHttp2 {
  readonly socket: Socket;
  readonly #events: RawEvents;
  readonly #decoder = new HpackDecoder();
  readonly #outgoing = new Map<number, Outgoing>();
  #window = initialWindowBytes;
  #initialWindow = initialWindowBytes;
  #text = "";
  #isScheduled = false;
  #rest: Buffer = Buffer.alloc(0);
  #prefaceLeft: number;

  /** @param streamWindow bytes that the peer may send on a stream */
  constructor(
    socket: Socket,
    { side, streamWindow = windowBytesMax }: Readonly<{ side: "client" | "server"; streamWindow?: number }>,
    events: RawEvents,
  ) {
    this.socket = socket;
    this.#events = events;
    this.#prefaceLeft = side === "server" ? preface.length : 0;
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("error", (error) => events.onGone(String(error)));
    socket.on("close", () => events.onGone("closed"));
    this.#send(side === "client" ? preface : "");
    this.#send(
      formatSettings([
        [settingId.maxConcurrentStreams, 1_000],
        [settingId.initialWindowSize, streamWindow],
      ]),
    );
    this.#send(formatWindowUpdate(0, windowBytesMax - initialWindowBytes));
  }

  /** @param block an encoded header block of at most one frame */
  sendHeaders(streamId: number, block: string, { endStream }: Readonly<{ endStream: boolean }>): void {
    if (!endStream) this.#outgoing.set(streamId, { window: this.#initialWindow, chunks: [], end: undefined });
    const flags = frameFlag.endHeaders | (endStream ? frameFlag.endStream : 0);
    this.#send(formatFrameHead(block.length, frameType.headers, flags, streamId) + block);
  }

  /** @param payload latin1; at most one frame */
  sendData(streamId: number, payload: string): void {
    const out = this.#outgoing.get(streamId);
    if (out === undefined) return;
    out.chunks.push(payload);
    if (out.chunks.length === 1) this.#flow(streamId, out);
  }

  /** Ends the stream after what waits. @param trailers a header block; empty: an empty frame of data */
  end(streamId: number, trailers: string): void {
    const out = this.#outgoing.get(streamId);
    if (out === undefined) return;
    out.end = trailers;
    this.#flow(streamId, out);
  }

  /** Frames of data that wait for a window. */
  waiting(streamId: number): number {
    return this.#outgoing.get(streamId)?.chunks.length ?? 0;
  }

  openWindow(streamId: number, bytes: number): void {
    this.#send(formatWindowUpdate(streamId, bytes));
  }

  reset(streamId: number, code: Http2ErrorCode): void {
    this.#outgoing.delete(streamId);
    this.#send(formatReset(streamId, code));
  }

  #flow(streamId: number, out: Outgoing): void {
    while (out.chunks.length > 0) {
      const [first = ""] = out.chunks;
      if (first.length > Math.min(out.window, this.#window)) return;
      out.chunks.shift();
      out.window -= first.length;
      this.#window -= first.length;
      this.#send(formatFrameHead(first.length, frameType.data, 0, streamId) + first);
    }
    if (out.end === undefined) return;
    this.#outgoing.delete(streamId);
    const [type, flags] = out.end === "" ? [frameType.data, 0] : [frameType.headers, frameFlag.endHeaders];
    this.#send(formatFrameHead(out.end.length, type, flags | frameFlag.endStream, streamId) + out.end);
  }

  #send(text: string): void {
    this.#text += text;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const all = this.#text;
      this.#text = "";
      if (!this.socket.destroyed) this.socket.write(all, "latin1");
    });
  }

  #read(read: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, read]) : read;
    let at = Math.min(this.#prefaceLeft, bytes.length);
    this.#prefaceLeft -= at;
    while (bytes.length - at >= frameHeadBytes) {
      const length = bytes.readUIntBE(at, 3);
      const from = at + frameHeadBytes;
      if (from + length > bytes.length) break;
      const streamId = bytes.readUInt32BE(at + 5) & windowBytesMax;
      this.#onFrame(bytes[at + 3] ?? 0, bytes[at + 4] ?? 0, { streamId, payload: bytes.subarray(from, from + length) });
      at = from + length;
    }
    this.#rest = at < bytes.length ? Buffer.from(bytes.subarray(at)) : Buffer.alloc(0);
  }

  #onFrame(type: number, flags: number, { streamId, payload }: Readonly<{ streamId: number; payload: Buffer }>): void {
    const endStream = (flags & frameFlag.endStream) !== 0;
    if (type === frameType.data) this.#events.onData(streamId, payload, endStream);
    else if (type === frameType.headers) this.#onHeaders(streamId, payload, endStream);
    else if (type === frameType.reset) {
      this.#outgoing.delete(streamId);
      this.#events.onReset(streamId, payload.readUInt32BE(0));
    } else if (type === frameType.windowUpdate) this.#onWindow(streamId, payload.readUInt32BE(0));
    else if (type === frameType.settings && (flags & frameFlag.ack) === 0) this.#onSettings(payload);
    else if (type === frameType.ping && (flags & frameFlag.ack) === 0)
      this.#send(formatFrameHead(8, frameType.ping, frameFlag.ack, 0) + payload.toString("latin1"));
    else if (type === frameType.goAway) this.#events.onGone(`GOAWAY ${payload.readUInt32BE(4)}`);
    else if (type === frameType.continuation) throw new Error("a header block of several frames");
  }

  #onHeaders(streamId: number, payload: Buffer, endStream: boolean): void {
    const fields: string[] = [];
    this.#decoder.beginBlock();
    const end = this.#decoder.decode(payload, 0, payload.length, {
      onField: (name, value) => fields.push(name, value),
    });
    if (end !== payload.length) throw new Error("an invalid header block");
    this.#events.onHeaders(streamId, fields, endStream);
  }

  #onSettings(payload: Buffer): void {
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== settingId.initialWindowSize) continue;
      const change = payload.readUInt32BE(at + 2) - this.#initialWindow;
      this.#initialWindow += change;
      for (const out of this.#outgoing.values()) out.window += change;
    }
    this.#send(settingsAck);
    this.#flowAll();
  }

  #onWindow(streamId: number, bytes: number): void {
    if (streamId === 0) {
      this.#window += bytes;
      this.#flowAll();
      return;
    }
    const out = this.#outgoing.get(streamId);
    if (out === undefined) return;
    out.window += bytes;
    this.#flow(streamId, out);
  }

  #flowAll(): void {
    for (const [streamId, out] of this.#outgoing) this.#flow(streamId, out);
  }
}
