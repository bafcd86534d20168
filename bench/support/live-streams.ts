/**
 * Live streams: the callers of a live-cut bench, a process that holds thousands of streams of four kinds and stamps the
 * moment at which it sees each of them end.
 *
 * It sees an end in the read of its socket: as a close frame (WebSocket), as the end or a reset of the connection
 * (event stream, tunnel), or as a frame that ends the stream (HTTP/2). Nothing else is done for it then, so that the
 * callers take little of what is measured.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { endHeaders, endStream, frameTypes, headers, preface, settings } from "../../test/support/http2-frames.ts";

export type StreamKind = "websocket" | "sse" | "http2" | "tunnel";
export type OpenStreams = Readonly<{
  type: "open";
  /** By which `ends` names them. */
  group: string;
  kind: StreamKind;
  count: number;
  /** Null: straight to a bare server, without a request. */
  cookie: string | null;
  port: number;
  host: string;
  tunnelHost: string;
}>;
export type StreamOrder = OpenStreams | Readonly<{ type: "ends"; group: string }> | Readonly<{ type: "close" }>;
/** For `ends`: nanoseconds of the machine's monotonic clock, in order. */
export type StreamEnd = readonly [kind: StreamKind, at: string];
export type StreamAnswer = Readonly<{ open: number; ends: readonly StreamEnd[] }>;

type Group = { open: number; ends: [StreamKind, bigint][]; whenOver: (() => void) | undefined };

const groups = new Map<string, Group>();
const sockets = new Set<Socket>();
const atOnce = 64;
/** Streams on one HTTP/2 connection. */
const streamsEach = 100;

process.on("message", (order: StreamOrder) => {
  obey(order).then(
    (answer) => process.send?.(answer),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});

async function obey(order: StreamOrder): Promise<StreamAnswer> {
  if (order.type === "open") {
    const group = groups.get(order.group) ?? { open: 0, ends: [], whenOver: undefined };
    groups.set(order.group, group);
    const each = order.kind === "http2" ? streamsEach : 1;
    let left = order.count;
    const worker = async (): Promise<void> => {
      while (left > 0) {
        const count = Math.min(each, left);
        left -= count;
        await (order.kind === "http2" ? openHttp2(order, group, count) : openSocket(order, group));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    return { open: group.open, ends: [] };
  }
  if (order.type === "ends") {
    const group = groups.get(order.group);
    if (group === undefined) throw new Error(`there is no group ${order.group}`);
    if (group.open > 0) await new Promise<void>((resolve) => (group.whenOver = resolve));
    groups.delete(order.group);
    return { open: 0, ends: group.ends.map(([kind, at]) => [kind, String(at)]) };
  }
  groups.clear();
  for (const socket of sockets) socket.destroy();
  return { open: 0, ends: [] };
}

function onEnd(group: Group, kind: StreamKind): void {
  group.ends.push([kind, process.hrtime.bigint()]);
  group.open -= 1;
  if (group.open === 0) group.whenOver?.();
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  sockets.add(socket);
  socket.on("error", () => {});
  socket.on("close", () => sockets.delete(socket));
  await once(socket, "connect");
  return socket;
}

type Handle = { onread: (bytes: ArrayBuffer | undefined) => unknown };

async function openSocket(order: OpenStreams, group: Group): Promise<void> {
  const { kind, host, cookie } = order;
  const socket = await dial(order.port);
  const common = `Host: ${host}\r\nCookie: ${cookie}\r\n`;
  const upgrade =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
  if (cookie !== null && kind === "tunnel")
    socket.write(`CONNECT ${order.tunnelHost} HTTP/1.1\r\nHost: ${order.tunnelHost}\r\nCookie: ${cookie}\r\n\r\n`);
  else if (cookie !== null) socket.write(`GET /live HTTP/1.1\r\n${common}${kind === "websocket" ? upgrade : ""}\r\n`);
  let answer = "";
  while (!answer.includes("tick")) {
    const [bytes] = (await Promise.race([once(socket, "data"), once(socket, "close").then(() => [null])])) as [unknown];
    if (bytes === null) throw new Error(`a stream did not open: ${answer}`);
    answer += String(bytes);
  }
  group.open += 1;
  let isOver = false;
  const over = (): void => {
    if (isOver) return;
    isOver = true;
    onEnd(group, kind);
    setImmediate(() => socket.destroy());
  };
  const handle = (socket as unknown as { _handle: Handle })._handle;
  handle.onread = (bytes) => {
    if (bytes === undefined || (kind === "websocket" && new Uint8Array(bytes)[0] === 0x88)) over();
  };
}

async function openHttp2({ port, host, cookie }: OpenStreams, group: Group, count: number): Promise<void> {
  const socket = await dial(port);
  const open = new Set<number>();
  socket.write(Buffer.concat([preface, settings()]));
  const lines = [":method", "GET", ":scheme", "http", ":authority", host, ":path", "/live", "cookie", cookie ?? ""];
  const requests = Array.from({ length: count }, (_, n) => headers(2 * n + 1, endHeaders | endStream, ...lines));
  socket.write(Buffer.concat(requests));
  await new Promise<void>((resolve) => {
    let rest: Buffer = Buffer.alloc(0);
    let opened = 0;
    const over = (id: number): void => {
      if (open.delete(id)) onEnd(group, "http2");
    };
    const onBytes = (bytes: Buffer): void => {
      rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
      while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
        const [type = 0, flags = 0, id] = [rest[3], rest[4], rest.readUInt32BE(5)];
        rest = rest.subarray(9 + rest.readUIntBE(0, 3));
        const ends = type === frameTypes.reset || (type === frameTypes.data && (flags & endStream) !== 0);
        if (type === frameTypes.ping && (flags & 1) === 0)
          socket.write(Buffer.from([0, 0, 8, 6, 1, 0, 0, 0, 0, ...Buffer.from("cutting.")]));
        if (ends && !open.has(id) && opened < count) throw new Error("an HTTP/2 stream did not open");
        if (ends) over(id);
        else if (type === frameTypes.data) {
          open.add(id);
          group.open += 1;
          opened += 1;
          if (opened === count) resolve();
        }
      }
    };
    socket.on("data", onBytes);
    socket.on("close", () => {
      for (const id of open) over(id);
    });
  });
}
