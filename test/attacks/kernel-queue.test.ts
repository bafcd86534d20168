/**
 * No byte leaves after a cut was reported, whatever the proxy's kernel held: for slow callers of every protocol, for
 * responses that the process had completed, and for uploads. The kernel's own table shows what it still holds for a
 * connection.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, before, describe, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { WebSocketServer } from "ws";
import type { Config, RouteConfig, TunnelConfig } from "../../src/config/index.ts";
import { datagramCapsule } from "../../src/proxy/index.ts";
import {
  cookieOf,
  groupChanged,
  publicAccess as publicly,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import {
  endHeaders,
  endStream,
  frameTypes,
  headers,
  initialWindow,
  RawHttp2,
  reset,
  serveFrames,
  settings,
  windowUpdate,
} from "../support/http2-frames.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

/** Bytes that the proxy's kernel may hold for one connection: docs/receipts.md. */
const heldBytesMax = 81_920;

/**
 * PING and RST_STREAM of HTTP/2, which elicit an acknowledgement or follow the cut. They carry no part of a response.
 */
const controlBytesMax = 100;

/** Reads at a fixed rate, like a caller on a slow line. @returns stops the reading */
function readSlowly(socket: Socket, bytesPerSecond: number): () => void {
  socket.pause();
  const everyMs = 20;
  const perRead = Math.max(1, Math.round((bytesPerSecond * everyMs) / 1_000));
  const timer = setInterval(() => socket.read(Math.min(perRead, socket.readableLength)), everyMs);
  socket.read(0);
  return () => clearInterval(timer);
}

/** Bytes that the proxy's kernel holds for a caller; 0 once the kernel has dropped the connection. */
function heldBytesFor(socket: Socket, rig: Rig): number {
  return queuesAt(rig.port, socket.localPort ?? 0).unacked ?? 0;
}

/** Bytes that a connection sends before any response: session tickets of TLS, SETTINGS of HTTP/2. */
const openingBytesMax = 1_024;

async function waitUntilHeld(socket: Socket, rig: Rig): Promise<void> {
  const isHeld = (): boolean => heldBytesFor(socket, rig) > openingBytesMax;
  await waitFor("the proxy's kernel to hold part of a response", isHeld, { withinMs: 30_000 });
}

/**
 * Revokes the session. Asserts that the kernel holds nothing when the revocation is reported and sends nothing
 * afterwards.
 */
async function assertNothingLeaves(socket: Socket, rig: Rig, session: number): Promise<void> {
  await rig.apply(sessionRevoked(session));
  const heldBytes = heldBytesFor(socket, rig);
  assert.ok(heldBytes <= controlBytesMax, `the kernel holds ${heldBytes} bytes when the cut is reported`);
  const atReport = socket.bytesRead + queuesAt(socket.localPort ?? 0, rig.port).received;
  const isGone = queuesAt(rig.port, socket.localPort ?? 0).unacked === null;
  if (!isGone) {
    socket.resume();
    await waitFor("everything to be read", () => queuesAt(socket.localPort ?? 0, rig.port).received === 0);
    // Bytes of a TLS record that this process has read count only once the record is complete.
    const slack = "encrypted" in socket ? 20_000 : controlBytesMax;
    assert.ok(socket.bytesRead <= atReport + slack, `${socket.bytesRead - atReport} bytes arrived after the report`);
  }
  socket.destroy();
}

const transports = ["plain", "tls"] as const;
type Transport = (typeof transports)[number];

/** Listener configuration of the proxy. */
const listening: Readonly<Record<Transport, Partial<Config>>> = {
  plain: {},
  tls: { insecureServer: false, certificates: [selfSigned("DNS:app.localhost,DNS:db.localhost")] },
};

async function callerOf(rig: Rig, transport: Transport, alpn = "http/1.1"): Promise<Socket> {
  const at = { port: rig.port, host: "127.0.0.1" };
  const socket =
    transport === "plain" ? connect(at) : connectTls({ ...at, rejectUnauthorized: false, ALPNProtocols: [alpn] });
  socket.on("error", () => {});
  await once(socket, transport === "plain" ? "connect" : "secureConnect");
  return socket;
}

const get = (n: number, path: string, more = ""): string =>
  `GET ${path} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(n)}\r\n${more}\r\n`;

function requestByHttp2(socket: Socket, n: number, path: string): RawHttp2 {
  const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
  client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
  const line = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", path];
  client.send(headers(1, endHeaders | endStream, ...line, "cookie", cookieOf(n)));
  return client;
}

for (const transport of transports)
  describe(`${transport}: no byte leaves for a slow caller after the cut`, { skip }, () => {
    let upstream: Upstream;
    let rig: Rig;
    before(async () => {
      const chunk = Buffer.alloc(65_536, 97);
      upstream = await startUpstream((req, res) => {
        const size = Number(/^\/whole\/(\d+)/.exec(req.url ?? "")?.[1] ?? 0);
        if (size > 0) {
          res.end(Buffer.alloc(size, 97));
          return;
        }
        if (req.url === "/events") res.setHeader("content-type", "text/event-stream");
        const pour = (): void => {
          while (res.write(chunk));
        };
        res.on("drain", pour);
        pour();
      });
      rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })], { config: listening[transport] });
    });
    after(async () => {
      await rig.close();
      await upstream.close();
    });

    const caller = (alpn: string): Promise<Socket> => callerOf(rig, transport, alpn);

    let n = 0;
    for (const bytesPerSecond of [1_000, 30_000, 1_000_000])
      for (const path of ["/pour", "/events", "/whole/20000000"])
        test(`HTTP/1.1 ${path} read at ${bytesPerSecond} B/s`, async () => {
          const session = ++n;
          await rig.apply(signedIn(session));
          const socket = await caller("http/1.1");
          socket.write(get(session, path));
          const stop = readSlowly(socket, bytesPerSecond);
          await waitUntilHeld(socket, rig);
          await assertNothingLeaves(socket, rig, session);
          stop();
        });

    for (const path of ["/pour", "/whole/20000000"])
      test(`HTTP/2 ${path}`, async () => {
        const session = ++n;
        await rig.apply(signedIn(session));
        const socket = await caller("h2");
        requestByHttp2(socket, session, path);
        socket.pause();
        await waitUntilHeld(socket, rig);
        await assertNothingLeaves(socket, rig, session);
      });

    test("the kernel holds at most the stated bound for a connection", async () => {
      const session = ++n;
      await rig.apply(signedIn(session));
      const socket = await caller("http/1.1");
      socket.write(get(session, "/pour"));
      socket.pause();
      let last = -1;
      let same = 0;
      await waitFor(
        "the kernel to be full",
        () => {
          const heldBytes = heldBytesFor(socket, rig);
          same = heldBytes > 0 && heldBytes === last ? same + 1 : 0;
          last = heldBytes;
          return same > 10;
        },
        { everyMs: 20, withinMs: 30_000 },
      );
      assert.ok(last <= heldBytesMax, `the kernel holds ${last} bytes`);
      await assertNothingLeaves(socket, rig, session);
    });

    /**
     * Requests small responses one by one, until the caller's kernel is full and the last response stays in the proxy's
     * kernel.
     */
    async function requestUntilHeld(
      alpn: string,
      opening: (socket: Socket, session: number) => () => void,
    ): Promise<void> {
      const session = ++n;
      await rig.apply(signedIn(session));
      const socket = await caller(alpn);
      socket.pause();
      const requestOnce = opening(socket, session);
      await waitFor(
        "only the kernel to hold the end of the responses",
        () => {
          if (rig.proxy.stats().inFlight.http > 0) return false;
          if (heldBytesFor(socket, rig) > 1_000) return true;
          requestOnce();
          return false;
        },
        { everyMs: 2, withinMs: 50_000 },
      );
      assert.equal(rig.proxy.stats().exchanges.http, 0);
      await assertNothingLeaves(socket, rig, session);
    }
    test("HTTP/1.1: complete responses on a kept-alive connection", () =>
      requestUntilHeld("http/1.1", (socket, session) => () => void socket.write(get(session, "/whole/8000"))));
    test("HTTP/2: complete responses", () =>
      requestUntilHeld("h2", (socket, session) => {
        const client = requestByHttp2(socket, session, "/whole/8000");
        const line = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/whole/8000"];
        let stream = 1;
        return () => {
          stream += 2;
          client.send(headers(stream, endHeaders | endStream, ...line, "cookie", cookieOf(session)));
        };
      }));
  });

describe("no byte leaves for a slow peer with its own upstream connection after the cut", { skip }, () => {
  const chunk = Buffer.alloc(65_536, 97);
  const part = Buffer.alloc(8_000, 97);
  const pour = (socket: Socket): void => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.on("drain", more);
    more();
  };

  const connectText =
    "CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s1\r\n\r\n";

  async function startService(t: TestContext, onSocket: (socket: Socket) => void): Promise<number> {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
      onSocket(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  async function rigFor(t: TestContext, route: RouteConfig, transport: Transport = "plain"): Promise<Rig> {
    const rig = await startRig([route], { config: listening[transport] });
    t.after(() => rig.close());
    await rig.apply(signedIn(1));
    return rig;
  }

  function tunnelTo(port: number, kind: TunnelConfig["kind"]): RouteConfig {
    return {
      ...routeTo(port, { host: "db.localhost", id: `${kind}-db` }),
      tunnel: { kind, targets: [{ host: "db.localhost", port: 5432 }], behindProxy: false },
      to: [{ url: new URL(`${kind}://127.0.0.1:${port}`), weight: null }],
      idleTimeoutMs: 0,
    };
  }

  async function openStalled(t: TestContext, rig: Rig, text: string, transport: Transport = "plain"): Promise<Socket> {
    const socket = await callerOf(rig, transport);
    t.after(() => socket.destroy());
    socket.write(text);
    socket.pause();
    return socket;
  }

  for (const transport of transports)
    test(`TCP tunnel, ${transport}`, async (t) => {
      const rig = await rigFor(t, tunnelTo(await startService(t, pour), "tcp"), transport);
      const socket = await openStalled(t, rig, connectText, transport);
      await waitUntilHeld(socket, rig);
      await assertNothingLeaves(socket, rig, 1);
    });

  test("TCP tunnel whose service has closed: the exchange stays open until the caller has received the rest", async (t) => {
    const port = await startService(t, (socket) => {
      const all = Buffer.alloc(30_000_000, 97);
      socket.end(all.subarray(0, 8_000_000));
    });
    const rig = await rigFor(t, tunnelTo(port, "tcp"));
    const socket = await openStalled(t, rig, connectText);
    await waitUntilHeld(socket, rig);
    socket.end();
    await assertNothingLeaves(socket, rig, 1);
  });

  test("UDP tunnel", async (t) => {
    const { createSocket } = await import("node:dgram");
    const server = createSocket("udp4");
    const timers: NodeJS.Timeout[] = [];
    server.on("message", (_payload, { port, address }) => {
      timers.push(setInterval(() => server.send(Buffer.alloc(60_000, 97), port, address), 1));
    });
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      for (const timer of timers) clearInterval(timer);
      server.close();
    });
    const rig = await rigFor(t, tunnelTo(server.address().port, "udp"));
    const text =
      "GET /.well-known/masque/udp/db.localhost/5432/ HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s1\r\nCapsule-Protocol: ?1\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n";
    const socket = await openStalled(t, rig, text);
    await waitFor("the tunnel to open", () => rig.proxy.stats().exchanges.udp === 1);
    socket.write(datagramCapsule(Buffer.from("go")));
    await waitUntilHeld(socket, rig);
    await assertNothingLeaves(socket, rig, 1);
  });

  for (const transport of transports)
    test(`WebSocket, ${transport}`, async (t) => {
      const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
      await once(sockets, "listening");
      sockets.on("connection", (client) => {
        const more = (): void => client.send(Buffer.alloc(4_000), () => client.readyState === client.OPEN && more());
        more();
      });
      t.after(() => {
        for (const client of sockets.clients) client.terminate();
        sockets.close();
      });
      const rig = await rigFor(
        t,
        routeTo((sockets.address() as AddressInfo).port, { allowWebsockets: true, timeoutMs: 0 }),
        transport,
      );
      const upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
      const socket = await openStalled(t, rig, get(1, "/live", upgrade), transport);
      await waitUntilHeld(socket, rig);
      await assertNothingLeaves(socket, rig, 1);
    });

  for (const expect of ["", "Expect: 100-continue\r\n"])
    test(`an upload to an upstream that reads slowly${expect === "" ? "" : ", after 100 Continue"}`, async (t) => {
      const upstreams: Socket[] = [];
      const port = await startService(t, (socket) => {
        upstreams.push(socket);
        socket.pause();
      });
      const rig = await rigFor(t, routeTo(port, { timeoutMs: 0 }));
      const socket = await openStalled(
        t,
        rig,
        `POST /up HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nContent-Length: 50000000\r\n${expect}\r\n`,
      );
      socket.resume();
      pour(socket);
      await waitFor("the upstream connection", () => upstreams.length === 1);
      const heldBytes = (): number => queuesAt(upstreams[0]?.remotePort ?? 0, port).unacked ?? 0;
      await waitFor("the proxy's kernel to hold some of the upload", () => heldBytes() > 0, { withinMs: 30_000 });

      await rig.apply(sessionRevoked(1));

      // A FIN counts as one byte. It is sent if the upstream had just acknowledged everything.
      assert.ok(heldBytes() <= 1, "the kernel holds no part of the upload when the cut is reported");
      socket.destroy();
    });

  /**
   * While Node writes to an HTTP/2 connection it reads nothing from it, so only the kernel may hold the end of the
   * upload.
   */
  async function fillKernel(heldBytes: () => number, sendPart: () => void): Promise<void> {
    let last = 0;
    let same = 0;
    await waitFor(
      "the proxy's kernel to hold the end of the upload",
      () => {
        const now = heldBytes();
        same = now > 1_000 && now === last ? same + 1 : 0;
        last = now;
        if (now === 0) sendPart();
        return same > 10;
      },
      { everyMs: 2, withinMs: 50_000 },
    );
  }

  /** An HTTP/2 service that reads a request head, grants an unlimited window for the body and reads none of it. */
  async function startUnreadingService(t: TestContext, onRequest: (socket: Socket, stream: number) => void) {
    const upstreams: Socket[] = [];
    const port = await startService(t, (socket) => {
      upstreams.push(socket);
      serveFrames(socket, ({ type, stream }) => {
        if (type !== frameTypes.headers) return;
        socket.write(settings(initialWindow(2 ** 31 - 1)));
        socket.write(windowUpdate(0, 2 ** 31 - 1 - 65_535));
        socket.pause();
        onRequest(socket, stream);
      });
    });
    return { port, heldBytes: () => queuesAt(upstreams[0]?.remotePort ?? 0, port).unacked ?? 0 };
  }

  for (const [variant, ends] of [
    ["whose caller has left", (caller: Socket) => caller.resetAndDestroy()],
    ["that the upstream has answered early", (_caller: Socket, answer: () => void) => answer()],
  ] as const)
    test(`an upload over HTTP/2 ${variant}`, async (t) => {
      let answer = (): void => {};
      const { port, heldBytes } = await startUnreadingService(t, (upstream, stream) => {
        answer = () => {
          upstream.write(headers(stream, endHeaders | endStream, ":status", "200"));
          upstream.write(reset(stream, 0));
        };
      });
      const to = [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }];
      const rig = await rigFor(t, { ...routeTo(port, { timeoutMs: 0 }), to });
      const head = `POST /up HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nContent-Length: 50000000\r\n\r\n`;
      const socket = await openStalled(t, rig, head);
      socket.resume();
      await fillKernel(heldBytes, () => void socket.write(part));
      ends(socket, answer);
      await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0, { everyMs: 1 });

      await rig.apply(sessionRevoked(1));

      assert.ok(heldBytes() <= 1, `the kernel holds ${heldBytes()} bytes of the upload when the cut is reported`);
    });
});

describe("an orderly close", { skip }, () => {
  /** Longer than what the kernel holds, and no round number. */
  const body = Buffer.alloc(3_000_001, 98);
  let upstream: Upstream;
  let rig: Rig;
  before(async () => {
    upstream = await startUpstream((_req, res) => res.end(body));
    rig = await startRig([routeTo(upstream.port, { ...publicly, timeoutMs: 0 })]);
  });
  after(async () => {
    await rig.close();
    await upstream.close();
  });

  for (const [variant, ends] of [
    ["that keeps its side open", false],
    ["that ends its side before it has read everything", true],
  ] as const)
    test(`a slow caller ${variant} receives the whole response of a connection that is to be closed`, async () => {
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      await once(socket, "connect");
      socket.pause();
      socket.write("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n");
      await waitUntilHeld(socket, rig);
      const stop = readSlowly(socket, 20_000_000);
      if (ends) await waitFor("most of the response", () => socket.bytesRead > 2_900_000, { withinMs: 30_000 });
      if (ends) socket.end();
      await once(socket, "end");
      stop();
      assert.ok(socket.bytesRead > body.length, `${socket.bytesRead} bytes of ${body.length}`);
      socket.destroy();
    });
});

test("cutting one user's stream leaves another user's stream on the same HTTP/2 connection open", {
  skip,
}, async (t) => {
  const upstream = await startUpstream((_req, res) => {
    const timer = setInterval(() => res.write("tick"), 5);
    res.on("close", () => clearInterval(timer));
  });
  t.after(() => upstream.close());
  const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })]);
  t.after(() => rig.close());
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  const client = requestByHttp2(socket, 1, "/");
  const line = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/"];
  client.send(headers(3, endHeaders | endStream, ...line, "cookie", cookieOf(2)));
  await waitFor("both streams to carry data", () => client.stream(1).bytes > 0 && client.stream(3).bytes > 0);

  await rig.apply(sessionRevoked(1));

  const seen = client.stream(3).bytes;
  await waitFor("the other stream to continue", () => client.stream(3).bytes > seen + 100);
});
