/** TCP routes through another proxy: Node's own CONNECT handler, and a second Cardea behind the first. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type TestContext, test } from "node:test";
import type { RouteConfig } from "../../../src/config/index.ts";
import { selfSigned } from "../../support/certificate.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
} from "../support.ts";

const target = "db.localhost:5432";

function routeThrough(url: string, parts: Partial<RouteConfig> = {}): RouteConfig {
  return {
    ...routeTo(0, { host: "db.localhost", id: "onward" }),
    tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
    to: [{ url: new URL(url), weight: null }],
    idleTimeoutMs: 0,
    ...parts,
  };
}

async function rigFor(t: TestContext, route: RouteConfig): Promise<Rig> {
  const rig = await startRig([route]);
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  t.after(() => rig.close());
  return rig;
}

type Asked = Readonly<{ url: string | undefined; headers: IncomingHttpHeaders; socket: Duplex }>;

/** Another proxy, whose responses the test writes. */
async function startProxy(
  t: TestContext,
  onConnect: (socket: Duplex, head: Buffer) => void,
  server: Server = createServer(),
): Promise<Readonly<{ port: number; requests: Asked[] }>> {
  const requests: Asked[] = [];
  server.on("connect", (req, socket, head) => {
    requests.push({ url: req.url, headers: req.headers, socket });
    socket.on("error", () => {});
    onConnect(socket, head);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const { socket } of requests) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, requests };
}

type Caller = Readonly<{ socket: Socket; received: () => string; ended: () => boolean; closed: () => boolean }>;
function call(rig: Rig, session: number | null, early = ""): Caller {
  const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
  let [received, ended, closed] = ["", false, false];
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  socket.on("end", () => {
    ended = true;
  });
  socket.on("close", () => {
    closed = true;
  });
  const credential = session === null ? "" : `Authorization: Pomerium s${session}\r\n`;
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nX-Mine: kept\r\n${credential}\r\n${early}`);
  return { socket, received: () => received, ended: () => ended, closed: () => closed };
}
const established = "HTTP/1.1 200 Connection established\r\n\r\n";

test("the other proxy gets the target and the identity but no credential; then bytes are forwarded in order", async (t) => {
  const proxy = await startProxy(t, (socket, head) => {
    socket.write(`${established}first `);
    socket.write(head);
    socket.pipe(socket);
  });
  const route = routeThrough(`http://127.0.0.1:${proxy.port}`, {
    ...engOnly,
    passIdentityHeaders: true,
    setRequestHeaders: { "Proxy-Token": "configured" },
  });
  const rig = await rigFor(t, route);
  const caller = call(rig, 1, "early ");
  await waitFor("the early bytes", () => caller.received().endsWith("first early "));
  assert.match(caller.received(), /^HTTP\/1\.1 200 /);
  caller.socket.write("late");
  await waitFor("the late bytes", () => caller.received().endsWith("early late"));
  const [connectRequest] = proxy.requests;
  assert.deepEqual([connectRequest?.url, connectRequest?.headers.host], [target, target]);
  assert.deepEqual(
    ["x-mine", "proxy-token", "authorization", "x-forwarded-host"].map((name) => connectRequest?.headers[name]),
    ["kept", "configured", undefined, undefined],
  );
  assert.ok(connectRequest?.headers["x-pomerium-jwt-assertion"]);
  assert.deepEqual(
    rig.records.map(({ result, host, method }) => [result, host, method]),
    [["permit", target, "CONNECT"]],
  );
  assert.equal(rig.proxy.stats().exchanges.tcp, 1);
  const refused = call(rig, 2);
  await waitFor("a denial", () => refused.received() !== "");
  assert.match(refused.received(), /^HTTP\/1\.1 403 /);
  assert.equal(proxy.requests.length, 1, "a denied caller is not forwarded");
});

test("the other proxy is verified like any upstream with TLS", async (t) => {
  const pair = selfSigned("DNS:proxy.localhost");
  const echo = (socket: Duplex): void => {
    socket.write(established);
    socket.pipe(socket);
  };
  const proxy = await startProxy(t, echo, createTlsServer(pair));
  const url = `https://proxy.localhost:${proxy.port}`;
  const { tls } = routeThrough(url);
  const stranger = call(await rigFor(t, routeThrough(url)), 1);
  await waitFor("a refusal", () => stranger.received() !== "");
  assert.match(stranger.received(), /^HTTP\/1\.1 503 /);
  assert.equal(proxy.requests.length, 0);
  const known = call(await rigFor(t, routeThrough(url, { tls: { ...tls, customCa: pair.cert } })), 1);
  known.socket.write("hello");
  await waitFor("an echo", () => known.received().endsWith("hello"));
});

test("the other proxy may be a Cardea too, and its denial is forwarded", async (t) => {
  const connected: Socket[] = [];
  const echo = createTcpServer((socket) => {
    connected.push(socket);
    socket.on("error", () => {}).pipe(socket);
  });
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
  const { port: db } = echo.address() as AddressInfo;
  t.after(() => {
    for (const socket of connected) socket.destroy();
    echo.close();
  });
  const inner = await rigFor(t, {
    ...routeThrough("http://unused.localhost"),
    ...publicAccess,
    to: [{ url: new URL(`tcp://127.0.0.1:${db}`), weight: null }],
  });
  const caller = call(await rigFor(t, routeThrough(`http://127.0.0.1:${inner.port}`)), 1);
  caller.socket.write("PING");
  await waitFor("an echo", () => caller.received().endsWith("\r\n\r\nPING"));
  assert.equal(inner.proxy.stats().exchanges.tcp, 1);
  const closed = await rigFor(t, routeThrough(`http://127.0.0.1:${inner.port}`, engOnly));
  const asksSignIn = await rigFor(t, routeThrough(`http://127.0.0.1:${closed.port}`));
  const sent = call(asksSignIn, 1);
  await waitFor("the other proxy's denial", () => sent.received().includes("\r\n\r\n"));
  assert.match(sent.received(), /^HTTP\/1\.1 302 /);
  assert.match(sent.received(), /\r\nlocation: http:\/\/authenticate\.localhost\/\.pomerium\/sign_in\?/i);
  assert.match(sent.received(), /\r\n\r\n$/, "without a body");
  await waitFor("the exchange to end", () => asksSignIn.proxy.stats().exchanges.tcp === 0);
});

test("a half-close is forwarded in either direction, and the other direction stays open", async (t) => {
  const proxy = await startProxy(t, (socket) => {
    let all = 0;
    socket.write(established);
    socket.on("data", (chunk: Buffer) => {
      all += chunk.length;
    });
    socket.on("end", () => socket.end(`read ${all}`));
  });
  const rig = await rigFor(t, routeThrough(`http://127.0.0.1:${proxy.port}`));
  const caller = call(rig, 1);
  caller.socket.end("x".repeat(200_000));
  await waitFor("the other side's response", () => caller.received().endsWith("read 200000") && caller.ended());
  await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.tcp === 0);
});

test("a revocation cuts the tunnel; one before the other proxy has answered leaves no connection there", async (t) => {
  const slow = await startProxy(t, (socket) => void socket.resume());
  const fast = await startProxy(t, (socket) => void socket.resume().write(established));
  const waiting = await rigFor(t, routeThrough(`http://127.0.0.1:${slow.port}`));
  const caller = call(waiting, 1);
  await waitFor("the other proxy to receive the request", () => slow.requests.length === 1);
  await waiting.apply(sessionRevoked(1));
  await waitFor("a response", () => /^HTTP\/1\.1 401 /.test(caller.received()));
  await waitFor("the other proxy's connection to close", () => slow.requests[0]?.socket.readableEnded === true);
  const running = await rigFor(t, routeThrough(`http://127.0.0.1:${fast.port}`));
  const other = call(running, 1);
  await waitFor("the tunnel to be established", () => other.received().startsWith("HTTP/1.1 200 "));
  await running.apply(sessionRevoked(1));
  await waitFor("both sides to close", () => other.closed() && fast.requests[0]?.socket.destroyed === true);
});

test("an unreachable proxy and a malformed response are 503 or 502", async (t) => {
  for (const [answer, status] of [
    ["HTTP/1.1 200 OK\r\nbroken\r\n\r\n", 503],
    ["SSH-2.0-OpenSSH\r\n", 503],
    ["HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407],
    ["HTTP/1.1 204 No Content\r\n\r\n", 200],
  ] as const) {
    const proxy = await startProxy(t, (socket) => void socket.write(answer));
    const caller = call(await rigFor(t, routeThrough(`http://127.0.0.1:${proxy.port}`)), 1);
    await waitFor("a response", () => caller.received().includes("\r\n\r\n"));
    assert.match(caller.received(), new RegExp(`^HTTP/1\\.1 ${status} `), answer);
  }
});
