/** A TCP route that leads to another proxy: Node's own CONNECT, and a second proxy of ours, behind the first. */
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

function onwardTo(url: string, parts: Partial<RouteConfig> = {}): RouteConfig {
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

/** Another proxy, whose answers the test writes. */
async function startProxy(
  t: TestContext,
  onConnect: (socket: Duplex, head: Buffer) => void,
  server: Server = createServer(),
): Promise<Readonly<{ port: number; asked: Asked[] }>> {
  const asked: Asked[] = [];
  server.on("connect", (req, socket, head) => {
    asked.push({ url: req.url, headers: req.headers, socket });
    socket.on("error", () => {});
    onConnect(socket, head);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const { socket } of asked) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

type Caller = Readonly<{ socket: Socket; heard: () => string; ended: () => boolean; closed: () => boolean }>;
function call(rig: Rig, session: number | null, early = ""): Caller {
  const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
  let [heard, ended, closed] = ["", false, false];
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  socket.on("end", () => {
    ended = true;
  });
  socket.on("close", () => {
    closed = true;
  });
  const credential = session === null ? "" : `Authorization: Pomerium s${session}\r\n`;
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nX-Mine: kept\r\n${credential}\r\n${early}`);
  return { socket, heard: () => heard, ended: () => ended, closed: () => closed };
}
const yes = "HTTP/1.1 200 Connection established\r\n\r\n";

test("is asked for the target, told who asks, and never shown a credential; then bytes pass in their order", async (t) => {
  const proxy = await startProxy(t, (socket, head) => {
    socket.write(`${yes}first `);
    socket.write(head);
    socket.pipe(socket);
  });
  const route = onwardTo(`http://127.0.0.1:${proxy.port}`, {
    ...engOnly,
    passIdentityHeaders: true,
    setRequestHeaders: { "Proxy-Token": "of ours" },
  });
  const rig = await rigFor(t, route);
  const caller = call(rig, 1, "early ");
  await waitFor("what was said early", () => caller.heard().endsWith("first early "));
  assert.match(caller.heard(), /^HTTP\/1\.1 200 /);
  caller.socket.write("late");
  await waitFor("what was said late", () => caller.heard().endsWith("early late"));
  const [asked] = proxy.asked;
  assert.deepEqual([asked?.url, asked?.headers.host], [target, target]);
  assert.deepEqual(
    ["x-mine", "proxy-token", "authorization", "x-forwarded-host"].map((name) => asked?.headers[name]),
    ["kept", "of ours", undefined, undefined],
  );
  assert.ok(asked?.headers["x-pomerium-jwt-assertion"]);
  assert.deepEqual(
    rig.records.map(({ result, host, method }) => [result, host, method]),
    [["permit", target, "CONNECT"]],
  );
  assert.equal(rig.proxy.stats().exchanges.tcp, 1);
  const refused = call(rig, 2);
  await waitFor("a refusal", () => refused.heard() !== "");
  assert.match(refused.heard(), /^HTTP\/1\.1 403 /);
  assert.equal(proxy.asked.length, 1, "who may not is not led anywhere");
});

test("is verified as any upstream behind TLS is", async (t) => {
  const pair = selfSigned("DNS:proxy.localhost");
  const echo = (socket: Duplex): void => {
    socket.write(yes);
    socket.pipe(socket);
  };
  const proxy = await startProxy(t, echo, createTlsServer(pair));
  const url = `https://proxy.localhost:${proxy.port}`;
  const { tls } = onwardTo(url);
  const stranger = call(await rigFor(t, onwardTo(url)), 1);
  await waitFor("a refusal", () => stranger.heard() !== "");
  assert.match(stranger.heard(), /^HTTP\/1\.1 503 /);
  assert.equal(proxy.asked.length, 0);
  const known = call(await rigFor(t, onwardTo(url, { tls: { ...tls, customCa: pair.cert } })), 1);
  known.socket.write("hello");
  await waitFor("an echo", () => known.heard().endsWith("hello"));
});

test("is a proxy of ours as well, and what that one refuses is passed on", async (t) => {
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
    ...onwardTo("http://unused.localhost"),
    ...publicAccess,
    to: [{ url: new URL(`tcp://127.0.0.1:${db}`), weight: null }],
  });
  const caller = call(await rigFor(t, onwardTo(`http://127.0.0.1:${inner.port}`)), 1);
  caller.socket.write("PING");
  await waitFor("an echo", () => caller.heard().endsWith("\r\n\r\nPING"));
  assert.equal(inner.proxy.stats().exchanges.tcp, 1);
  const closed = await rigFor(t, onwardTo(`http://127.0.0.1:${inner.port}`, engOnly));
  const asksSignIn = await rigFor(t, onwardTo(`http://127.0.0.1:${closed.port}`));
  const sent = call(asksSignIn, 1);
  await waitFor("the other proxy's refusal", () => sent.heard().includes("\r\n\r\n"));
  assert.match(sent.heard(), /^HTTP\/1\.1 302 /);
  assert.match(sent.heard(), /\r\nlocation: http:\/\/authenticate\.localhost\/\.pomerium\/sign_in\?/i);
  assert.match(sent.heard(), /\r\n\r\n$/, "without a body");
  await waitFor("it to be over", () => asksSignIn.proxy.stats().exchanges.tcp === 0);
});

test("an end is carried through in either direction, and the other direction goes on", async (t) => {
  const proxy = await startProxy(t, (socket) => {
    let all = 0;
    socket.write(yes);
    socket.on("data", (chunk: Buffer) => {
      all += chunk.length;
    });
    socket.on("end", () => socket.end(`read ${all}`));
  });
  const rig = await rigFor(t, onwardTo(`http://127.0.0.1:${proxy.port}`));
  const caller = call(rig, 1);
  caller.socket.end("x".repeat(200_000));
  await waitFor("the other side's last word", () => caller.heard().endsWith("read 200000") && caller.ended());
  await waitFor("it to be over", () => rig.proxy.stats().exchanges.tcp === 0);
});

test("a revocation cuts it, and one that comes while the other proxy thinks leaves nothing there", async (t) => {
  const slow = await startProxy(t, (socket) => void socket.resume());
  const fast = await startProxy(t, (socket) => void socket.resume().write(yes));
  const waiting = await rigFor(t, onwardTo(`http://127.0.0.1:${slow.port}`));
  const caller = call(waiting, 1);
  await waitFor("the other proxy to be asked", () => slow.asked.length === 1);
  await waiting.apply(sessionRevoked(1));
  await waitFor("an answer", () => /^HTTP\/1\.1 401 /.test(caller.heard()));
  await waitFor("nothing to be left there", () => slow.asked[0]?.socket.readableEnded === true);
  const running = await rigFor(t, onwardTo(`http://127.0.0.1:${fast.port}`));
  const other = call(running, 1);
  await waitFor("it to be led", () => other.heard().startsWith("HTTP/1.1 200 "));
  await running.apply(sessionRevoked(1));
  await waitFor("both sides to be gone", () => other.closed() && fast.asked[0]?.socket.destroyed === true);
});

test("one that is not there, or talks nonsense, is 503 or 502", async (t) => {
  for (const [answer, status] of [
    ["HTTP/1.1 200 OK\r\nbroken\r\n\r\n", 503],
    ["SSH-2.0-OpenSSH\r\n", 503],
    ["HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407],
    ["HTTP/1.1 204 No Content\r\n\r\n", 200],
  ] as const) {
    const proxy = await startProxy(t, (socket) => void socket.write(answer));
    const caller = call(await rigFor(t, onwardTo(`http://127.0.0.1:${proxy.port}`)), 1);
    await waitFor("an answer", () => caller.heard().includes("\r\n\r\n"));
    assert.match(caller.heard(), new RegExp(`^HTTP/1\\.1 ${status} `), answer);
  }
});
