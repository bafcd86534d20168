/** Open connections: the listener forgets a connection however it ends, and keeps those beside it. */
import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { resetSocket } from "../../../src/proxy/enforce/send-queue-socket.ts";
import { selfSigned } from "../../support/certificate.ts";
import {
  endHeaders,
  endStream,
  frame,
  frameTypes,
  headers,
  RawHttp2,
  requestLines,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../support.ts";

let plain: Rig;
let secure: Rig;
const accepted: WeakRef<Socket>[] = [];
const ended = new Set<Rig>();
const upstreams = new Set<Socket>();
/** Answers requests, but not `/silent`; echoes what comes through a tunnel, and ends with the caller. */
const server = createServer((socket) => {
  upstreams.add(socket);
  socket.on("close", () => upstreams.delete(socket));
  socket.on("error", () => {});
  socket.on("data", (bytes: Buffer) => {
    const text = bytes.toString("latin1");
    if (!/^GET /.test(text)) socket.write(bytes);
    else if (!text.startsWith("GET /silent")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
});
const onAccepted = (message: unknown): void => {
  const { socket } = message as { socket: Socket };
  if ([plain, secure].some(({ port }) => port === socket.localPort)) accepted.push(new WeakRef(socket));
};

before(async () => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const routes = [
    routeTo(port, { timeoutMs: 0 }),
    {
      ...routeTo(port, { host: "db.localhost" }),
      tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false } as const,
      to: [{ url: new URL(`tcp://127.0.0.1:${port}`), weight: null }],
    },
  ];
  plain = await startRig(routes);
  secure = await startRig(routes, {
    config: { insecureServer: false, certificates: [selfSigned("DNS:app.localhost")] },
  });
  for (const rig of [plain, secure]) await rig.apply(signedIn(1), signedIn(2));
  subscribe("net.server.socket", onAccepted);
});
after(async () => {
  unsubscribe("net.server.socket", onAccepted);
  for (const rig of [plain, secure]) if (!ended.has(rig)) await rig.close();
  for (const socket of upstreams) socket.destroy();
  server.close();
});

const get = (path: string, session: number, more = ""): string =>
  `GET ${path} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(session)}\r\n${more}\r\n`;

/** Callers that have received a response leave in these ways, which must end the connection. */
const endings: Readonly<Record<string, (socket: Socket) => unknown>> = {
  "its end": (socket) => socket.end(),
  "a reset": resetSocket,
  "a request for the last response": (socket) => socket.write(get("/", 1, "Connection: close\r\n")),
  "a malformed request": (socket) => socket.write("GET\r\n\r\n"),
  "an HTTP/2 preface too late": (socket) => socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
};
const http2Endings: Readonly<Record<string, (client: RawHttp2) => unknown>> = {
  "its end": ({ socket }) => socket.end(),
  "a reset": ({ socket }) => resetSocket(socket),
  GOAWAY: (client) => client.send(frame(frameTypes.goAway, 0, 0, Buffer.alloc(8))),
  "a broken frame": (client) => client.send(frame(frameTypes.ping, 0, 0, Buffer.alloc(3))),
};

async function open(rig: Rig, protocol: "http/1.1" | "h2"): Promise<Socket> {
  const at = { port: rig.port, host: "127.0.0.1" };
  if (rig === plain) {
    const socket = connect(at);
    await once(socket, "connect");
    return socket.on("error", () => {});
  }
  const socket = connectTls({ ...at, rejectUnauthorized: false, ALPNProtocols: [protocol] });
  await once(socket, "secureConnect");
  return socket.on("error", () => {});
}

/** A function of its own, so that the test keeps none of its sockets. */
async function endAll(rig: Rig): Promise<void> {
  for (const end of Object.values(endings)) {
    const socket = await open(rig, "http/1.1");
    const closed = once(socket, "close");
    socket.write(get("/", 1));
    await once(socket, "data");
    end(socket);
    socket.resume();
    await closed;
  }
  for (const end of Object.values(http2Endings)) {
    const client = new RawHttp2(await open(rig, "h2"));
    client.send(headers(1, endHeaders | endStream, ...requestLines(cookieOf(1))));
    await waitFor("the response", () => client.stream(1).ended);
    end(client);
    await waitFor("the connection to close", () => client.closed);
  }
  if (rig === plain) (await open(rig, "http/1.1")).destroy(); // before anything was sent
  const tunnel = await open(rig, "http/1.1");
  const tunnelClosed = once(tunnel, "close");
  tunnel.write("CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s1\r\n\r\n");
  await once(tunnel, "data");
  tunnel.write("hello");
  await once(tunnel, "data");
  tunnel.end();
  await tunnelClosed;
  const cut = await open(rig, "http/1.1");
  const cutClosed = once(cut, "close");
  cut.write(get("/silent", 2));
  await waitFor("the request to wait", () => rig.proxy.stats().exchanges.http === 1);
  await rig.apply(sessionRevoked(2));
  cut.resume();
  cut.end();
  await cutClosed;
}

for (const [name, rigOf] of [
  ["plain", () => plain],
  ["over TLS", () => secure],
] as const)
  test(`a connection (${name}) that has ended is forgotten, in whatever way it ended`, async () => {
    const rig = rigOf();
    const before = accepted.length;
    const [first, last] = [await open(rig, "http/1.1"), await open(rig, "http/1.1")];
    first.write(get("/", 1));
    await endAll(rig);
    assert.ok(accepted.length - before >= 12);
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    await waitFor("all connections but those that are open to be collected", () => {
      collect();
      return accepted.slice(before).filter((one) => one.deref() !== undefined).length <= 2;
    });
    // Those that are open are still listed.
    const closed = [first, last].map((socket) => once(socket.resume(), "close"));
    ended.add(rig);
    await rig.close();
    await Promise.all(closed);
  });
