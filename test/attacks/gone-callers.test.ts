/**
 * The last bytes of callers that have left: they may still wait for a slow upstream of a tunnel, and a revocation is
 * reported only when they cannot reach it any more.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { cookieOf, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../proxy/support.ts";
import {
  data,
  endHeaders,
  endStream,
  headers,
  initialWindow,
  RawHttp2,
  windowUpdate,
} from "../support/http2-frames.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

let rig: Rig;
const upstreams: Socket[] = [];
/** Reads a head or the first bytes of a tunnel, and nothing more. */
const server = createServer({ allowHalfOpen: true }, (socket) => {
  upstreams.push(socket);
  socket.on("error", () => {});
  socket.once("data", (first: Buffer) => {
    socket.pause();
    if (first.includes("/refused"))
      socket.end(`HTTP/1.1 404 Not Found\r\nContent-Length: 9000000\r\n\r\n${"r".repeat(9_000_000)}`);
    else if (first.includes("GET /"))
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
      );
    else socket.end();
  });
});

before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  rig = await startRig([
    routeTo(port(), { allowWebsockets: true, timeoutMs: 0, idleTimeoutMs: 0 }),
    {
      ...routeTo(port(), { host: "db.localhost", idleTimeoutMs: 0 }),
      tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
      to: [{ url: new URL(`tcp://127.0.0.1:${port()}`), weight: null }],
    },
  ]);
});
after(async () => {
  await rig.close();
  for (const socket of upstreams) socket.destroy();
  server.close();
});

const port = (): number => (server.address() as AddressInfo).port;
const upgradeLines =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

type Caller = Readonly<{ socket: Socket; write: (bytes: string) => void; end: () => void; kind: "tcp" | "websocket" }>;

async function openByHttp1(text: string, kind: Caller["kind"]): Promise<Caller> {
  const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  socket.write(text);
  const [answer] = await once(socket, "data");
  assert.match(String(answer), /^HTTP\/1\.1 (?:101|200) /);
  return { socket, kind, write: (bytes) => void socket.write(bytes), end: () => void socket.end() };
}

async function openByHttp2(session: number): Promise<Caller> {
  const socket = connect(rig.port, "127.0.0.1");
  const client = new RawHttp2(socket);
  const line = [":method", "CONNECT", ":authority", "db.localhost:5432"];
  client.send(headers(1, endHeaders, ...line, "authorization", `Pomerium s${session}`));
  await waitFor("the tunnel", () => client.stream(1).status === 200);
  const write = (bytes: string, flags = 0): void => void client.send(data(1, flags, bytes));
  return { socket, kind: "tcp", write, end: () => write("", endStream) };
}

const connectText = (session: number): string =>
  `CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s${session}\r\n\r\n`;

const callers: Readonly<Record<string, (session: number) => Promise<Caller>>> = {
  "a TCP tunnel": (session) => openByHttp1(connectText(session), "tcp"),
  "a TCP tunnel over HTTP/2": openByHttp2,
  "a WebSocket": (session) =>
    openByHttp1(
      `GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(session)}\r\n${upgradeLines}\r\n`,
      "websocket",
    ),
};

let sessions = 0;
for (const [name, open] of Object.entries(callers))
  test(`the last bytes of ${name} do not reach the upstream after the receipt`, { skip }, async () => {
    const session = ++sessions;
    await rig.apply(signedIn(session));
    const { socket, kind, write, end } = await open(session);
    if (kind === "tcp") write("first bytes");
    await waitFor("the upstream to stop reading", () => upstreams.at(-1)?.isPaused() === true);
    const upstream = upstreams.at(-1) ?? assert.fail();
    const held = (): number => queuesAt(upstream.remotePort ?? 0, port()).unacked ?? 0;
    let last = 0;
    await waitFor(
      "the proxy's kernel to hold bytes",
      () => {
        const before = last;
        last = held();
        if (queuesAt(rig.port, socket.localPort ?? 0).received > 0) return undefined;
        if (last > 7_000) return last === before;
        write("b".repeat(8_000));
        return undefined;
      },
      { everyMs: 10 },
    );
    end();
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges[kind] === 0);
    socket.destroy();
    assert.ok(held() > 0);
    const arrived = (): number => upstream.bytesRead + queuesAt(port(), upstream.remotePort ?? 0).received;
    const before = arrived();

    await rig.apply(sessionRevoked(session));

    const atReceipt = Math.max(before, arrived()); // the kernel does not list a connection that was reset
    upstream.resume();
    await waitFor("the upstream's connection to end", () => upstream.destroyed || upstream.readableEnded);
    const late = upstream.bytesRead - atReceipt;
    assert.ok(late < 4_000, `${late} bytes arrived after the receipt`); // some may have left before it
  });

test("the response to a refused WebSocket over HTTP/2 does not reach a slow caller after the receipt", {
  skip,
}, async () => {
  const session = ++sessions;
  await rig.apply(signedIn(session));
  const socket = connect(rig.port, "127.0.0.1");
  const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
  client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
  const line = [":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "app.localhost"];
  client.send(
    headers(1, endHeaders, ...line, ":path", "/refused", "cookie", cookieOf(session), "sec-websocket-version", "13"),
  );
  await waitFor("the response", () => client.stream(1).status === 404);
  socket.pause();
  const held = (): number => queuesAt(rig.port, socket.localPort ?? 0).unacked ?? 0;
  await waitFor("the proxy's kernel to hold bytes", () => held() > 7_000);

  await rig.apply(sessionRevoked(session));

  assert.ok(held() <= 100, `the kernel holds ${held()} bytes when the cut is reported`);
  socket.destroy();
});
