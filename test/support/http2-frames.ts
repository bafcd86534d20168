/**
 * Raw HTTP/2 frames: sends what a hostile client sends, and reads the responses. No library refuses anything here.
 *
 * - Header fields are sent as literals without indexing and without Huffman coding (RFC 7541 §6.2.2), so the caller
 *   controls every byte.
 * - Only the status of a response is decoded: the settings forbid the peer a dynamic table.
 */
import { once } from "node:events";
import type { Socket } from "node:net";

export const frameTypes = {
  ...{ data: 0, headers: 1, priority: 2, reset: 3, settings: 4, pushPromise: 5, ping: 6, goAway: 7 },
  ...{ windowUpdate: 8, continuation: 9 },
} as const;
export const endStream = 0x1;
export const endHeaders = 0x4;

export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Encodes alternating names and values, as latin1, unchanged. */
export function fields(...lines: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i < lines.length; i += 2)
    parts.push(Buffer.from([0]), text(lines[i] ?? ""), text(lines[i + 1] ?? ""));
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
}

/** Encodes an integer (RFC 7541 §5.1). */
export function integer(value: number, bits: number, first: number): Buffer {
  const max = 2 ** bits - 1;
  if (value < max) return Buffer.from([first | value]);
  const bytes = [first | max];
  let rest = value - max;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
}

export function headers(stream: number, flags: number, ...lines: readonly string[]): Buffer {
  return frame(frameTypes.headers, flags, stream, fields(...lines));
}
/** Header lines of a request for `/` on `app.localhost`. */
export function requestLines(cookie: string, method = "GET"): readonly string[] {
  return [":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/", "cookie", cookie];
}
export function continuationOf(stream: number, flags: number, ...lines: readonly string[]): Buffer {
  return frame(frameTypes.continuation, flags, stream, fields(...lines));
}
export function data(stream: number, flags: number, bytes: string): Buffer {
  return frame(frameTypes.data, flags, stream, Buffer.from(bytes, "latin1"));
}
export function reset(stream: number, code: number): Buffer {
  return frame(frameTypes.reset, 0, stream, uint32(code));
}
export function windowUpdate(stream: number, by: number): Buffer {
  return frame(frameTypes.windowUpdate, 0, stream, uint32(by));
}
/** @param pairs identifier and value */
export function settings(...pairs: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(pairs.length * 6);
  pairs.forEach(([id, value], i) => {
    payload.writeUInt16BE(id, i * 6);
    payload.writeUInt32BE(value, i * 6 + 2);
  });
  return frame(frameTypes.settings, 0, 0, payload);
}
function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** Forbids the peer a dynamic table, so that a status can be decoded without one. */
export const noTable = [0x1, 0] as const;
export const initialWindow = (bytes: number): readonly [number, number] => [0x4, bytes];

export type Frame = Readonly<{ type: number; flags: number; stream: number; payload: Buffer }>;

/**
 * The server side of one connection, by hand. It sends its settings once the preface has arrived, and calls `onFrame`
 * for every frame after that.
 */
export function serveFrames(socket: Socket, onFrame: (frame: Frame) => void): void {
  let seen = Buffer.alloc(0);
  let greeted = false;
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
    if (!greeted && seen.length >= preface.length) {
      greeted = true;
      seen = seen.subarray(preface.length);
      socket.write(settings());
      socket.write(frame(frameTypes.settings, 0x1, 0));
    }
    while (greeted && seen.length >= 9 && seen.length >= 9 + seen.readUIntBE(0, 3)) {
      const [type = 0, flags = 0, stream] = [seen[3], seen[4], seen.readUInt32BE(5)];
      const payload = seen.subarray(9, 9 + seen.readUIntBE(0, 3));
      seen = seen.subarray(9 + payload.length);
      onFrame({ type, flags, stream, payload });
    }
  });
}

/** The state of one stream: its status (0: none received yet), and how it ended. */
export type StreamState = Readonly<{ status: number; reset: number | null; ended: boolean; bytes: number }>;

export class RawHttp2 {
  readonly socket: Socket;
  readonly #streams = new Map<number, { status: number; reset: number | null; ended: boolean; bytes: number }>();
  goAway: Readonly<{ code: number; lastStream: number }> | undefined;
  closed = false;
  pongs = 0;
  #buffer: Buffer<ArrayBufferLike> = Buffer.alloc(0);

  /** Sends the preface and settings. */
  constructor(socket: Socket, pairs: readonly (readonly [number, number])[] = []) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
    });
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    this.send(preface, settings(noTable, ...pairs));
  }

  /** @returns false when the peer reads too slowly */
  send(...frames: readonly Buffer[]): boolean {
    return this.socket.writable && this.socket.write(Buffer.concat(frames));
  }

  /** Resolves when the peer has read enough for the send buffer to drain, or the connection has closed. */
  async drained(): Promise<void> {
    if (!this.socket.writableNeedDrain || this.closed) return;
    await Promise.race([once(this.socket, "drain"), once(this.socket, "close")]).catch(() => {});
  }

  stream(id: number): StreamState {
    return this.#stream(id);
  }

  /** Whether the stream has ended or was reset, or the connection has closed. */
  isOver(id: number): boolean {
    const { ended, reset: code } = this.#stream(id);
    return ended || code !== null || this.closed;
  }

  #stream(id: number) {
    const known = this.#streams.get(id) ?? { status: 0, reset: null, ended: false, bytes: 0 };
    this.#streams.set(id, known);
    return known;
  }

  #take(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    while (this.#buffer.length >= 9) {
      const length = this.#buffer.readUIntBE(0, 3);
      if (this.#buffer.length < 9 + length) return;
      const [type = 0, flags = 0] = this.#buffer.subarray(3, 5);
      const id = this.#buffer.readUInt32BE(5) & 0x7fff_ffff;
      const payload = this.#buffer.subarray(9, 9 + length);
      this.#buffer = this.#buffer.subarray(9 + length);
      this.#frame(type, flags, id, payload);
    }
  }

  #frame(type: number, flags: number, id: number, payload: Buffer): void {
    const stream = id === 0 ? undefined : this.#stream(id);
    if (type === frameTypes.settings && (flags & 1) === 0) this.send(frame(frameTypes.settings, 1, 0));
    if (type === frameTypes.ping && (flags & 1) === 0) this.send(frame(frameTypes.ping, 1, 0, payload));
    if (type === frameTypes.ping && (flags & 1) === 1) this.pongs++;
    if (type === frameTypes.goAway)
      this.goAway = { lastStream: payload.readUInt32BE(0), code: payload.readUInt32BE(4) };
    if (stream === undefined) return;
    if (type === frameTypes.headers && stream.status < 200) stream.status = statusIn(payload);
    if (type === frameTypes.data) stream.bytes += payload.length;
    if (type === frameTypes.reset) stream.reset = payload.readUInt32BE(0);
    if ((type === frameTypes.headers || type === frameTypes.data) && (flags & endStream) !== 0) stream.ended = true;
  }
}

const indexedStatus = [200, 204, 206, 304, 400, 404, 500];
/** Huffman codes of the digits (RFC 7541, Appendix B): `0` to `2` have five bits, the others six. */
const digits = new Map(
  [...["00000", "00001", "00010"], ...["011001", "011010", "011011", "011100", "011101", "011110", "011111"]].map(
    (bits, n) => [bits, n],
  ),
);

/** Reads the status, the first field of a response (RFC 9113 §8.3). @returns 0 for trailers, which have none */
function statusIn(payload: Buffer): number {
  let at = 0;
  while (((payload[at] ?? 0) & 0xe0) === 0x20) at++; // updates of the table's size
  const first = payload[at] ?? 0;
  if ((first & 0x80) !== 0) return indexedStatus[(first & 0x7f) - 8] ?? 0;
  const index = (first & 0x40) !== 0 ? first & 0x3f : first & 0x0f;
  if (index < 8 || index > 14) return 0;
  const lengthByte = payload[at + 1] ?? 0;
  const value = payload.subarray(at + 2, at + 2 + (lengthByte & 0x7f));
  if ((lengthByte & 0x80) === 0) return Number(value.toString("latin1"));
  let bits = [...value].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  let status = 0;
  for (let n = 0; n < 3; n++) {
    const size = digits.has(bits.slice(0, 5)) ? 5 : 6;
    status = status * 10 + (digits.get(bits.slice(0, size)) ?? Number.NaN);
    bits = bits.slice(size);
  }
  return status;
}
