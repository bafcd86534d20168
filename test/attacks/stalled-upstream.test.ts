/**
 * An upstream over HTTP/2 that stops reading: requests wait in the kernel and in this process. What was denied does not
 * reach it after the receipt, and callers that leave take no other caller's request with them.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { cookieOf, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../proxy/support.ts";
import { endHeaders, endStream, frameTypes, headers, serveFrames } from "../support/http2-frames.ts";
import { Authority } from "../support/pki.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

const transports = ["h2c", "https"] as const;
type Transport = (typeof transports)[number];

/** A reset stream costs the upstream one frame, which carries no part of a request. */
const controlBytesMax = 2_000;

let rig: Rig;
const cleanUps: (() => unknown)[] = [];
/** The upstream's ends of the connections, by transport. */
const opened: Record<Transport, Socket[]> = { h2c: [], https: [] };
const ports: Record<Transport, number> = { h2c: 0, https: 0 };

before(async () => {
  const root = await Authority.root();
  const issued = await root.issue({ hosts: ["upstream.localhost"] });
  const servers = {
    h2c: createServer((socket) => serve(socket, "h2c")),
    https: createTlsServer({ ...issued, ALPNProtocols: ["h2"] }, (socket) => serve(socket, "https")),
  };
  for (const transport of transports) {
    const server = servers[transport];
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ports[transport] = (server.address() as AddressInfo).port;
    cleanUps.push(() => {
      for (const socket of opened[transport]) socket.destroy();
      server.close();
    });
  }
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  const routes = transports.flatMap((transport) =>
    [0, 300].map((idleTimeoutMs) => ({
      ...routeTo(0, { host: hostOf(transport, idleTimeoutMs), timeoutMs: 0, idleTimeoutMs }),
      to: [{ url: new URL(`${transport}://upstream.localhost:${ports[transport]}`), weight: null }],
      tls: { ...tls, customCa: root.pem },
    })),
  );
  rig = await startRig(routes);
  cleanUps.unshift(() => rig.close());
});
after(async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

function hostOf(transport: Transport, idleTimeoutMs: number): string {
  return `${transport}-${idleTimeoutMs}.localhost`;
}

/** Answers every request. */
function serve(socket: Socket, transport: Transport): void {
  opened[transport].push(socket);
  serveFrames(socket, ({ type, flags, stream }) => {
    if (type === frameTypes.headers && (flags & endStream) !== 0)
      socket.write(headers(stream, endHeaders | endStream, ":status", "204"));
    if (type === frameTypes.data && (flags & endStream) !== 0)
      socket.write(headers(stream, endHeaders | endStream, ":status", "204"));
  });
}

type Asked = Readonly<{ leave: () => void; status: () => number; isOver: () => boolean }>;

function ask(host: string, session: number, body = ""): Asked {
  let status = 0;
  let over = false;
  const asked = request(
    {
      ...{ host: "127.0.0.1", port: rig.port, agent: false, method: body === "" ? "GET" : "POST" },
      headers: { host, cookie: cookieOf(session), "x-big": randomBytes(4_096).toString("hex") },
    },
    (answer) => {
      status = answer.statusCode ?? 0;
      answer.resume();
    },
  );
  asked.on("error", () => {});
  asked.on("close", () => {
    over = true;
  });
  asked.end(body);
  return { leave: () => void asked.destroy(), status: () => status, isOver: () => over };
}

/** Opens a connection of the pool and stops its upstream from reading. */
async function stall(transport: Transport, host: string, session: number): Promise<Socket> {
  const first = ask(host, session);
  await waitFor("the first response", () => first.status() === 204);
  const socket = opened[transport].at(-1);
  assert.ok(socket !== undefined);
  socket.pause();
  return socket;
}

/** Sends requests until the proxy's kernel takes no more, so that the last wait in the process. */
async function fill(transport: Transport, socket: Socket, send: (n: number) => Asked): Promise<readonly Asked[]> {
  const asked = Array.from({ length: 60 }, (_, n) => send(n));
  let last = -1;
  await waitFor("the proxy's kernel to be full", async () => {
    const { unacked } = queuesAt(socket.remotePort ?? 0, ports[transport]);
    await new Promise((resolve) => setTimeout(resolve, 60));
    const isFull = unacked !== null && unacked > 16_384 && unacked === last;
    last = unacked ?? -1;
    return isFull;
  });
  return asked;
}

/** What has left the proxy's machine: read by the upstream, or in its kernel. */
function arrivedAt(socket: Socket, transport: Transport): number {
  return rawBytesRead(socket) + queuesAt(ports[transport], socket.remotePort ?? 0).received;
}

/** Bytes of TCP that were read, below TLS. */
function rawBytesRead(socket: Socket): number {
  const { _handle: handle } = socket as unknown as {
    _handle: { bytesRead: number; _parent?: { bytesRead: number } } | null;
  };
  return (handle?._parent ?? handle)?.bytesRead ?? 0;
}

/** Revokes the session. Nothing of its requests leaves the proxy's machine after the receipt. */
async function assertNothingArrives(transport: Transport, socket: Socket, revoked: number): Promise<void> {
  const before = arrivedAt(socket, transport);
  await rig.apply(sessionRevoked(revoked));
  const atReceipt = Math.max(before, arrivedAt(socket, transport)); // the kernel does not list one that was reset
  let read = 0;
  socket.on("data", () => {
    read = rawBytesRead(socket);
  });
  socket.resume();
  await waitFor(
    "the rest to arrive",
    () => socket.destroyed || (queuesAt(ports[transport], socket.remotePort ?? 0).received === 0 && read >= atReceipt),
  );
  assert.ok(read <= atReceipt + controlBytesMax, `${read - atReceipt} bytes arrived after the receipt`);
}

let sessions = 0;
for (const transport of transports) {
  test(`${transport}: requests that wait for the upstream do not reach it after the receipt of their revocation`, {
    skip,
  }, async () => {
    const host = hostOf(transport, 0);
    const [denied, other] = [++sessions, ++sessions];
    await rig.apply(signedIn(denied), signedIn(other));
    const socket = await stall(transport, host, other);
    const asked = await fill(transport, socket, () => ask(host, denied));
    await assertNothingArrives(transport, socket, denied);
    await waitFor("the callers to be answered", () => asked.every((one) => one.isOver()));
    const next = ask(host, other);
    await waitFor("the next response", () => next.status() === 204);
  });

  for (const [end, idleTimeoutMs] of [
    ["whose callers have left", 0],
    ["that were given up", 300],
  ] as const)
    test(`${transport}: the receipt of a revocation waits for requests ${end}`, { skip }, async () => {
      const host = hostOf(transport, idleTimeoutMs);
      const [denied, other] = [++sessions, ++sessions];
      await rig.apply(signedIn(denied), signedIn(other));
      const socket = await stall(transport, host, other);
      const asked = await fill(transport, socket, (n) => ask(host, denied, n % 2 === 0 ? "" : "body"));
      if (idleTimeoutMs === 0) for (const one of asked) one.leave();
      await waitFor("the exchanges to end", () => rig.proxy.stats().exchanges.http === 0);
      await assertNothingArrives(transport, socket, denied);
    });

  test(`${transport}: callers that leave take no other request of the connection with them`, { skip }, async () => {
    const host = hostOf(transport, 0);
    const [leaving, other] = [++sessions, ++sessions];
    await rig.apply(signedIn(leaving), signedIn(other));
    const socket = await stall(transport, host, other);
    const asked = await fill(transport, socket, (n) => ask(host, leaving, n % 2 === 0 ? "" : "body"));
    const post = ask(host, other, "body");
    await waitFor("all requests to wait", () => rig.proxy.stats().exchanges.http === asked.length + 1);
    for (const one of asked) one.leave();
    const left = performance.now();
    await waitFor("the exchanges to end", () => rig.proxy.stats().exchanges.http <= 1);
    await waitFor("a cut's time to pass", () => performance.now() > left + 150);
    socket.resume();
    await waitFor("the response", () => post.isOver());
    assert.equal(post.status(), 204);
  });
}
