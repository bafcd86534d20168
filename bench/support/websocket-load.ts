/**
 * WebSocket load: the callers and the upstream of a proxy in one process, which executes orders one after another.
 * Argument: the port of the upstream.
 *
 * - The upstream returns each byte of a frame unchanged, still masked, which the callers accept.
 * - Each caller keeps several messages on their way. It sends as many new ones as it has received, in one write, and
 *   compares what it receives with what it has sent. No two messages in a second are equal.
 * - Both read and write past the streams of `node:net`, as the proxy does, so that the load costs less than what is
 *   measured.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { DownstreamSocketReader } from "../../src/proxy/http1/caller-socket.ts";
import { HandleWriter } from "../../src/proxy/http1/handle-writer.ts";

export type LoadOrder = Readonly<{
  port: number;
  headers: readonly string[];
  connections: number;
  /** Messages on their way on each connection. */
  window: number;
  /** Bytes of a payload: 4 to 65,535. */
  payload: number;
  ms: number;
}>;
/** Messages that have returned, within so much time. */
export type LoadResult = Readonly<{ messages: number; ms: number }>;

/** Reads a socket past its stream from its second read on. */
function readAll(socket: Socket, onBytes: (bytes: Buffer) => void): void {
  socket.once("data", (first: Buffer) => {
    onBytes(first);
    socket.on("data", onBytes); // where it cannot be read otherwise
    if (!socket.destroyed) DownstreamSocketReader.begin(socket, onBytes, () => process.exit(1));
  });
}

const server = createServer((_request, response) => response.end("hello from upstream\n"));
server.on("upgrade", (request, socket: Socket) => {
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash("sha1").update(key).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.on("error", () => {});
  socket.setNoDelay(true);
  const writer = new HandleWriter(socket, () => {});
  readAll(socket, (bytes) => writer.writeBytes(bytes));
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4_096 });

process.on("message", (order: LoadOrder) => {
  run(order).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});

async function run(order: LoadOrder): Promise<LoadResult> {
  const callers = await Promise.all(Array.from({ length: order.connections }, () => Caller.open(order)));
  const began = performance.now();
  const total = (): number => callers.reduce((sum, { messages }) => sum + messages, 0);
  for (const caller of callers) caller.begin();
  await new Promise((resolve) => setTimeout(resolve, order.ms));
  const result = { messages: total(), ms: performance.now() - began };
  for (const caller of callers) caller.close();
  await new Promise((resolve) => setTimeout(resolve, 200));
  return result;
}

/** Frames on a ring: as many as twice the window, with contents that change each time round. */
class Caller {
  messages = 0;
  readonly #socket: Socket;
  readonly #writer: HandleWriter;
  readonly #frame: number;
  readonly #window: number;
  readonly #ring: Buffer;
  /** Offsets in the ring, and the number of the next message. */
  #sent = 0;
  #received = 0;
  #number = 0;
  #isClosing = false;

  private constructor(socket: Socket, { payload, window }: LoadOrder) {
    this.#socket = socket;
    this.#writer = new HandleWriter(socket, () => {});
    const head = payload < 126 ? [0x82, 0x80 | payload] : [0x82, 0x80 | 126, payload >> 8, payload & 255];
    this.#frame = head.length + 4 + payload;
    this.#window = window;
    this.#ring = Buffer.alloc(this.#frame * window * 2);
    for (let at = 0; at < this.#ring.length; at += this.#frame) {
      this.#ring.set(head, at); // and a mask of zeros
      randomBytes(payload).copy(this.#ring, at + head.length + 4);
    }
  }

  static async open(order: LoadOrder): Promise<Caller> {
    const socket = connect(order.port, "127.0.0.1");
    await once(socket, "connect");
    const handshake = [
      "GET /live HTTP/1.1",
      ...order.headers,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
    ];
    socket.write(`${handshake.join("\r\n")}\r\n\r\n`);
    let answer = "";
    while (!answer.includes("\r\n\r\n")) answer += String((await once(socket, "data"))[0]);
    if (!answer.startsWith("HTTP/1.1 101 ")) throw new Error(answer.slice(0, answer.indexOf("\r\n")));
    socket.setNoDelay(true);
    const caller = new Caller(socket, order);
    socket.on("close", () => {
      if (!caller.#isClosing) throw new Error("a WebSocket was closed");
    });
    return caller;
  }

  begin(): void {
    readAll(this.#socket, (bytes) => this.#onBytes(bytes));
    this.#send(this.#window);
  }

  close(): void {
    this.#isClosing = true;
    this.#socket.destroy();
  }

  #onBytes(bytes: Buffer): void {
    if (this.#isClosing) return;
    const before = Math.floor(this.#received / this.#frame);
    for (let from = 0; from < bytes.length; ) {
      const at = this.#received % this.#ring.length;
      const length = Math.min(bytes.length - from, this.#ring.length - at);
      if (bytes.compare(this.#ring, at, at + length, from, from + length) !== 0)
        throw new Error("other bytes returned");
      from += length;
      this.#received += length;
    }
    const arrived = Math.floor(this.#received / this.#frame) - before;
    this.messages += arrived;
    if (arrived > 0) this.#send(arrived);
  }

  /** Sends so many messages, in one write unless the ring ends. */
  #send(count: number): void {
    for (let left = count; left > 0; ) {
      const at = this.#sent % this.#ring.length;
      const frames = Math.min(left, (this.#ring.length - at) / this.#frame);
      for (let i = 1; i <= frames; i++) this.#ring.writeUInt32LE(++this.#number % 2 ** 32, at + i * this.#frame - 4);
      this.#writer.writeBytes(this.#ring.subarray(at, at + frames * this.#frame));
      this.#sent += frames * this.#frame;
      left -= frames;
    }
  }
}
