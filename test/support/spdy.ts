/**
 * SPDY/3.1 server: the parts that exec of Kubernetes uses (draft-mbelshe-httpbis-spdy-00).
 *
 * - It supports streams that the client opens, each with compressed headers, data in both directions, and pings.
 * - It is strict: anything that the draft forbids ends the connection.
 */
import type { Duplex } from "node:stream";
import { constants, createDeflate, createInflate, inflateSync } from "node:zlib";

/** The dictionary of SPDY/3.1 §2.6.10.1, deflated. Its Adler-32 is e3c6a7c2. */
const dictionaryText = [
  "eNplVNty2zYQ1dSylEmTtEl+AM8tGYMk6Did8YN7cet03GQad/oMgSsKMQggIKhLvr67oOQq7YwkHhzs5eyFmkwmc+ejdrafTCbTFciGnt71EZ",
  "8nfqDHrAEDERCdxiAVgZlUCjxdPhtRrlYy9EDMN3sGrHKNtu0RZaRtB9lShKd7KiAFlPxk5E+lMW6TDIa4ckF/liSPCCXVCnLlbAzOIPEYoQW1",
  "v35CF2BjvpA9Bfr2cD7S8cAdCXn2wIFt4+oLK6cOyb8+cF1TJy37Y5J/nD3uPJ2njUwdm0KUlHkGW49SEc0R6ZBKni6D61Lfx34/0su8k1GRiO",
  "eEUfdSQ5P32qa2P0XSOgsPVuRxkPAS8WD/72NkHx9Ckc9RWU86uc2XLmxkaEjRzAfZdhLRCx/cdpfTELAsrcZyXv7LHo/m9KBhHmAJAQJ1LEAM",
  "aLqM6TjrIawT+ipFmuMqaZOI5whtj37Ho5oPvg2yIdPHA/rmOC1LTZquZdjRvqw16ZyjdLuf7maz+a/gWQcolco+adN2zvoo45BqLTln736nGC",
  "isHyt59Nvd3fuz4lVBHkMwqSfDwmhFQnDBcf/cvU6y7gF8Lo1ep0TYj1bbgvOCFyV9ypLXJT+vOK94WfGq4qLidUXMa8FLwWvBzwXhC8HfiIKL",
  "ohBFKYpKFEIUtSjORfG65mXNRU2hKvaHs/nV2HusAhOzG4vT69IcSi7QgP00LmLFC3br1tCw94AGFimzE1jxj7Jhf8KnAfoo0OYvexgmNAJTXL",
  "uw0E0DVqRwEYnBNjU63mDcYKVhH9Ik2S8huFBjCLK66byBDpMA2lbJRCug6Gscs1wYeCstu4YFu5WBXfmAzx17O1j8GnY1tOjiI3unIoZbs59B",
  "Mc5/SB8sw2bsboCM/Q0NotWQseugM/ZBRvwZ8PbX2zu1Guw93kfYxrNV7EymO9yZM2/bPfroD6jVy0x6b/T4Ipxt0fqLM/l/T2yK5o3UdoQfsZ",
  "5eBe1jNq6FD3qNq0bvEUa+bD9rnzWwNMhlfaNW+//FyyEu84vDQfcuv7io3+RFRnz2XQb20yV/9Q/jxqfC",
].join("");
const dictionary = inflateSync(Buffer.from(dictionaryText, "base64"));

const frame = {
  synStream: 1,
  synReply: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;
const finish = 0x01;

export type SpdyStream = {
  readonly id: number;
  readonly headers: Readonly<Record<string, string>>;
  onData: (chunk: Buffer) => void;
  /** Called when the client has sent all its data. */
  onEnd: () => void;
  write(chunk: Buffer | string): void;
  end(): void;
};

/** @param onStream called with each stream that the client opens, in order, once it is accepted */
export function serveSpdy(socket: Duplex, head: Buffer, onStream: (stream: SpdyStream) => void): void {
  const inflate = createInflate({ dictionary, finishFlush: constants.Z_SYNC_FLUSH });
  const deflate = createDeflate({ dictionary });
  const streams = new Map<number, SpdyStream>();
  let unread = Buffer.alloc(0);
  let turn = Promise.resolve();

  const fail = (): void => {
    socket.destroy();
  };
  const send = (bytes: Buffer): void => {
    if (!socket.destroyed) socket.write(bytes);
  };
  const control = (type: number, payload: Buffer): void => {
    const start = Buffer.alloc(8);
    start.writeUInt16BE(0x8003, 0);
    start.writeUInt16BE(type, 2);
    start.writeUInt32BE(payload.length, 4);
    send(Buffer.concat([start, payload]));
  };
  const data = (id: number, flags: number, payload: Buffer): void => {
    const start = Buffer.alloc(8);
    start.writeUInt32BE(id, 0);
    start.writeUInt32BE(payload.length, 4);
    start.writeUInt8(flags, 4);
    send(Buffer.concat([start, payload]));
  };

  /** Each direction has one codec with state, so blocks pass through it in order. */
  function through(codec: typeof inflate | typeof deflate, bytes: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const out: Buffer[] = [];
      const onData = (chunk: Buffer): void => {
        out.push(chunk);
      };
      codec.on("data", onData);
      codec.once("error", reject);
      codec.write(bytes, () =>
        codec.flush(constants.Z_SYNC_FLUSH, () => {
          codec.off("data", onData);
          codec.off("error", reject);
          resolve(Buffer.concat(out));
        }),
      );
    });
  }

  async function open(payload: Buffer): Promise<void> {
    const id = payload.readUInt32BE(0);
    if (id % 2 !== 1 || streams.has(id)) throw new Error("a stream id of the client's is odd and new");
    const stream: SpdyStream = {
      id,
      headers: readHeaders(await through(inflate, payload.subarray(10))),
      onData() {},
      onEnd() {},
      write: (chunk) => data(id, 0, Buffer.from(chunk)),
      end: () => data(id, finish, Buffer.alloc(0)),
    };
    streams.set(id, stream);
    const none = await through(deflate, Buffer.alloc(4));
    const idBytes = Buffer.alloc(4);
    idBytes.writeUInt32BE(id);
    control(frame.synReply, Buffer.concat([idBytes, none]));
    onStream(stream);
  }

  async function take(start: Buffer, payload: Buffer): Promise<void> {
    const flags = start.readUInt8(4);
    if ((start.readUInt8(0) & 0x80) === 0) {
      const stream = streams.get(start.readUInt32BE(0));
      if (stream === undefined) throw new Error("data of no stream");
      if (payload.length > 0) stream.onData(payload);
      if ((flags & finish) !== 0) stream.onEnd();
      return;
    }
    if ((start.readUInt16BE(0) & 0x7fff) !== 3) throw new Error("another version");
    switch (start.readUInt16BE(2)) {
      case frame.synStream:
        await open(payload);
        if ((flags & finish) !== 0) streams.get(payload.readUInt32BE(0))?.onEnd();
        return;
      case frame.ping:
        control(frame.ping, payload);
        return;
      case frame.reset:
      case frame.settings:
      case frame.goAway:
      case frame.windowUpdate:
        return;
      default:
        throw new Error("an unknown frame");
    }
  }

  const onBytes = (bytes: Buffer): void => {
    unread = Buffer.concat([unread, bytes]);
    while (unread.length >= 8) {
      const length = unread.readUInt32BE(4) & 0xffffff;
      if (unread.length < 8 + length) return;
      const [start, payload] = [unread.subarray(0, 8), unread.subarray(8, 8 + length)];
      unread = unread.subarray(8 + length);
      turn = turn.then(() => take(start, payload)).catch(fail);
    }
  };
  socket.on("data", onBytes);
  socket.on("error", () => {});
  socket.on("close", () => {
    inflate.close();
    deflate.close();
  });
  if (head.length > 0) onBytes(head);
}

function readHeaders(block: Buffer): Record<string, string> {
  const headers: Record<string, string> = {};
  let at = 4;
  const text = (): string => {
    const length = block.readUInt32BE(at);
    at += 4 + length;
    return block.subarray(at - length, at).toString("utf8");
  };
  for (let i = block.readUInt32BE(0); i > 0; i--) {
    const name = text();
    headers[name] = text();
  }
  return headers;
}
