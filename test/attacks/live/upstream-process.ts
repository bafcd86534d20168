/**
 * The upstream of a live-cut test: holds streams of four protocols and sends one message on each of them on request.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer as createHttp } from "node:http";
import { createServer as createHttp2, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcp, type Server } from "node:net";
import type { Duplex, Writable } from "node:stream";
import { type Kind, serve, type ToUpstream, type UpstreamPorts } from "./protocol.ts";

const tick = Buffer.from("tick");
const messages: Readonly<Record<Kind, Buffer>> = {
  sse: Buffer.from("data: tick\n\n"),
  websocket: Buffer.concat([Buffer.from([0x82, tick.length]), tick]),
  grpc: Buffer.concat([Buffer.from([0, 0, 0, 0, tick.length]), tick]),
  tcp: tick,
};
const open = new Map<Writable, Kind>();
const slowStreams = new Set<Writable>();

/** @param slow sends messages without end, more than all buffers on the way can hold */
function hold(stream: Writable, kind: Kind, slow: boolean): void {
  open.set(stream, kind);
  stream.on("error", () => {});
  stream.on("close", () => open.delete(stream));
  stream.on("end", () => stream.destroy());
  stream.write(messages[kind]);
  if (!slow) return;
  slowStreams.add(stream);
  const piece = Buffer.concat(Array.from({ length: 2_000 }, () => messages[kind]));
  const pour = (): void => {
    while (stream.writable && stream.write(piece));
  };
  stream.on("drain", pour);
  pour();
}

function servers(): Readonly<Record<Kind, () => Server>> {
  return {
    sse: () =>
      createHttp((req, res) => {
        res.writeHead(200, { "content-type": "text/event-stream" });
        hold(res, "sse", req.url === "/slow");
      }),
    websocket: () =>
      createHttp().on("upgrade", (req, socket: Duplex) => {
        const key = `${req.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
        const accept = createHash("sha1").update(key).digest("base64");
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        socket.resume();
        hold(socket, "websocket", req.url === "/slow");
      }),
    grpc: () =>
      createHttp2().on("stream", (stream: ServerHttp2Stream, headers) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.resume();
        hold(stream, "grpc", headers[":path"] === "/slow");
      }) as unknown as Server,
    tcp: () =>
      createTcp((socket) => {
        // A tunnel has no path, so the caller selects the mode with its first bytes.
        socket.on("error", () => {});
        socket.once("data", (first) => hold(socket, "tcp", first.toString() === "slow"));
      }),
  };
}

async function listen(portsEach: number): Promise<UpstreamPorts> {
  const ports: Record<Kind, number[]> = { sse: [], websocket: [], grpc: [], tcp: [] };
  for (const [kind, make] of Object.entries(servers()) as [Kind, () => Server][])
    for (let i = 0; i < portsEach; i++) {
      const server = make();
      server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 });
      await once(server, "listening");
      ports[kind].push((server.address() as AddressInfo).port);
    }
  return ports;
}

serve<ToUpstream>((message) => {
  if (message.type === "listen") return listen(message.portsEach);
  if (message.type === "broadcast")
    for (const [stream, kind] of open) if (!slowStreams.has(stream)) stream.write(messages[kind]);
  return open.size;
});
