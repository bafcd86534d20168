/**
 * Callers that leave while their upload is blocked: by a FIN behind bytes that the proxy has not read, or by a reset.
 * The work at the upstream ends within about a second, and the slots that the callers occupied are free again.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import type { RouteConfig } from "../../src/config/index.ts";
import { endedPeersIn } from "../../src/proxy/listen/linux-tcp-table-file.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import { data, endHeaders, headers, RawHttp2, requestLines } from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

const skip = existsSync("/proc/net/tcp") ? false : "only Linux reports a FIN behind unread bytes";
const patience = { withinMs: 30_000 };

test("the kernel's connection table is parsed for both address families and mapped addresses, and only CLOSE_WAIT counts as ended", () => {
  const has = endedPeersIn(
    [
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
      "   0: 0100007F:1F90 0200000A:C350 08 00000000:00000001 00:00000000 00000000  1000        0 1 1 0 20 4 30 10 -1",
      "   1: 0100007F:1F90 0300000A:C351 01 00000000:00000001 00:00000000 00000000  1000        0 1 1 0 20 4 30 10 -1",
      "  12: B80D0120000000000000000001000000:01BB B80D0120000000000000000002000000:C352 08 00000000:00000000 00:0",
      "  13: 0000000000000000FFFF00000100007F:01BB 0000000000000000FFFF00000400000A:C353 08 00000000:00000000 00:0",
    ].join("\n"),
  );
  const at = (remoteAddress: string, remotePort: number, localPort: number): boolean =>
    has({ remoteAddress, remotePort, localPort });
  assert.ok(at("10.0.0.2", 50_000, 8_080) && at("::ffff:10.0.0.2", 50_000, 8_080));
  assert.ok(at("2001:db8::2", 50_002, 443) && at("::ffff:10.0.0.4", 50_003, 443));
  assert.ok(!at("10.0.0.3", 50_001, 8_080), "an open connection is not in CLOSE_WAIT");
  assert.ok(!at("10.0.0.2", 50_000, 8_081) && !at("10.0.0.2", 50_001, 8_080) && !at("10.0.0.9", 50_000, 8_080));
  assert.ok(!has({}));
});

type UnreadingUpstream = Readonly<{ port: number; closedCount: () => number; sockets: readonly Socket[] }>;

/** An upstream that accepts connections and never reads beyond a head. */
async function startUnreadingUpstream(t: TestContext, answer = ""): Promise<UnreadingUpstream> {
  let closedCount = 0;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("close", () => closedCount++);
    if (answer === "") socket.pause();
    else
      socket.once("data", () => {
        socket.pause();
        socket.write(answer);
      });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, closedCount: () => closedCount, sockets };
}

/** Bytes unread in the proxy's kernel, and bytes unsent in the caller's kernel. */
function queues(port: number, socket: Socket): Readonly<{ unread: number; unsent: number }> {
  const hex = (n: number | undefined): string => (n ?? 0).toString(16).toUpperCase().padStart(4, "0");
  const line = (from: number | undefined, to: number | undefined): string =>
    readFileSync("/proc/net/tcp", "latin1")
      .split("\n")
      .find((one) => one.includes(`0100007F:${hex(from)} 0100007F:${hex(to)} `)) ?? "";
  const sizes = (text: string): RegExpExecArray | null => / ([0-9A-F]{8}):([0-9A-F]{8}) /.exec(text);
  return {
    unread: Number.parseInt(sizes(line(port, socket.localPort))?.[2] ?? "0", 16),
    unsent: Number.parseInt(sizes(line(socket.localPort, port))?.[1] ?? "0", 16),
  };
}

type Sender = Readonly<{ transport: Socket; send: (chunk: Buffer, sent: () => void) => unknown }>;
const plainSender = (socket: Socket): Sender => ({
  transport: socket,
  send: (chunk, sent) => socket.write(chunk, () => sent()),
});

/**
 * Sends until the proxy's kernel holds unread bytes and the caller's kernel holds none, so that a FIN can arrive after
 * them.
 */
async function waitUntilBlocked(
  port: number,
  { transport, send }: Sender,
  { sockets }: UnreadingUpstream,
): Promise<void> {
  let pending = 0;
  const more = (bytes: number): void => {
    pending++;
    send(Buffer.alloc(bytes, 0x61), () => pending--);
  };
  more(3 * 1_048_576);
  let stableChecks = 0;
  await waitFor(
    "the proxy's kernel to hold unread bytes",
    () => {
      const { unread, unsent } = queues(port, transport);
      stableChecks = pending === 0 && unsent === 0 && unread > 0 ? stableChecks + 1 : 0;
      if (stableChecks === 5) return true;
      if (stableChecks > 0) return undefined;
      if (pending === 0 && unsent === 0) more(262_144);
      else if (unread > 0) readOneChunk(sockets.at(-1));
      return undefined;
    },
    patience,
  );
}

/** Lets the upstream read one chunk, which makes room for bytes that could not leave the caller. */
function readOneChunk(socket: Socket | undefined): void {
  socket?.once("data", () => socket.pause());
  socket?.resume();
}

async function rigTo(t: TestContext, route: RouteConfig, config: Parameters<typeof startRig>[1] = {}): Promise<Rig> {
  const rig = await startRig([route], config);
  t.after(() => rig.close());
  await rig.apply(signedIn(1));
  return rig;
}

const head = (first: string, ...lines: readonly string[]): string =>
  [first, "Host: app.localhost", `Cookie: ${cookieOf(1)}`, ...lines, "\r\n"].join("\r\n");
const hasEnded = (rig: Rig, kind: "http" | "websocket" | "tcp") => (): boolean =>
  rig.proxy.stats().exchanges[kind] === 0 && rig.proxy.stats().inFlight[kind] === 0;

describe("a caller with a blocked upload leaves", { skip }, () => {
  for (const [name, framing] of [
    ["of a known length", "Content-Length: 900000000"],
    ["in chunks", "Transfer-Encoding: chunked"],
  ] as const) {
    test(`HTTP/1.1, ${name}: a FIN behind unread bytes ends the exchange`, async (t) => {
      const upstream = await startUnreadingUpstream(t);
      const rig = await rigTo(t, routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 }));
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => {});
      socket.write(head("POST / HTTP/1.1", framing));
      const chunked = (chunk: Buffer, sent: () => void): void => {
        const size = Buffer.from(`${chunk.length.toString(16)}\r\n`);
        socket.write(Buffer.concat([size, chunk, Buffer.from("\r\n")]), () => sent());
      };
      await waitUntilBlocked(
        rig.port,
        framing.startsWith("T") ? { transport: socket, send: chunked } : plainSender(socket),
        upstream,
      );
      assert.equal(hasEnded(rig, "http")(), false);
      socket.end();
      await waitFor("the exchange to end", hasEnded(rig, "http"), patience);
      for (const one of upstream.sockets) one.resume();
      await waitFor("the upstream connection to close", () => upstream.closedCount() === 1, patience);
      socket.destroy();
    });
  }

  test("HTTP/1.1 over TLS: a FIN behind unread bytes ends the exchange", async (t) => {
    const pair = selfSigned("DNS:app.localhost");
    const upstream = await startUnreadingUpstream(t);
    const route = routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 });
    const rig = await rigTo(t, route, { config: { insecureServer: false, certificates: [pair] } });
    const transport = connect(rig.port, "127.0.0.1");
    const socket = connectTls({
      socket: transport,
      servername: "app.localhost",
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.on("error", () => {});
    transport.on("error", () => {});
    await once(socket, "secureConnect");
    socket.write(head("POST / HTTP/1.1", "Content-Length: 900000000"));
    await waitUntilBlocked(rig.port, { transport, send: (chunk, sent) => socket.write(chunk, () => sent()) }, upstream);
    transport.end();
    await waitFor("the exchange to end", hasEnded(rig, "http"), patience);
    socket.destroy();
  });

  test("HTTP/2: a FIN and a reset each end the exchange", async (t) => {
    for (const leave of [(socket: Socket) => socket.end(), (socket: Socket) => socket.resetAndDestroy()]) {
      const upstream = await startUnreadingUpstream(t);
      const rig = await rigTo(t, routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 }));
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      t.after(() => socket.destroy());
      const client = new RawHttp2(socket);
      client.send(headers(1, endHeaders, ...requestLines(cookieOf(1), "POST")));
      await waitFor("the request to be forwarded", () => upstream.sockets.length === 1, patience);
      for (let i = 0; i < 3; i++) client.send(data(1, 0, "x".repeat(16_384)));
      leave(socket);
      await waitFor("the exchange to end", hasEnded(rig, "http"), patience);
      await rig.close();
    }
  });

  test("WebSocket: a FIN and a reset each end the exchange", async (t) => {
    for (const leave of [(socket: Socket) => socket.end(), (socket: Socket) => socket.resetAndDestroy()]) {
      const key = "dGhlIHNhbXBsZSBub25jZQ==";
      const upstream = await startUnreadingUpstream(
        t,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
      );
      const rig = await rigTo(t, routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0, allowWebsockets: true }));
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => {});
      t.after(() => socket.destroy());
      socket.write(
        head(
          "GET / HTTP/1.1",
          "Connection: Upgrade",
          "Upgrade: websocket",
          "Sec-WebSocket-Version: 13",
          `Sec-WebSocket-Key: ${key}`,
        ),
      );
      const [answer] = await once(socket, "data");
      assert.match(String(answer), /^HTTP\/1\.1 101 /);
      await waitUntilBlocked(rig.port, plainSender(socket), upstream);
      leave(socket);
      await waitFor("the exchange to end", hasEnded(rig, "websocket"), patience);
      await rig.close();
    }
  });

  test("CONNECT: a reset closes the tunnel, and a FIN is forwarded after all earlier bytes", async (t) => {
    const upstream = await startUnreadingUpstream(t);
    const route: RouteConfig = {
      ...routeTo(upstream.port, { host: "db.localhost", idleTimeoutMs: 0 }),
      tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
      to: [{ url: new URL(`tcp://127.0.0.1:${upstream.port}`), weight: null }],
    };
    const rig = await rigTo(t, route);
    const head = "CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nAuthorization: Pomerium s1\r\n\r\n";
    const open = async (): Promise<Socket> => {
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => {});
      t.after(() => socket.destroy());
      socket.write(head);
      assert.match(String((await once(socket, "data"))[0]), /^HTTP\/1\.1 200 /);
      await waitUntilBlocked(rig.port, plainSender(socket), upstream);
      return socket;
    };
    (await open()).resetAndDestroy();
    await waitFor("the tunnel to close", hasEnded(rig, "tcp"), patience);

    const ending = await open();
    ending.end();
    const upstreamSocket = upstream.sockets.at(-1);
    const ended = once(upstreamSocket ?? assert.fail(), "end");
    upstreamSocket?.resume();
    await ended;
    assert.equal(upstreamSocket?.bytesRead, ending.bytesWritten - head.length, "the upstream received everything");
  });
});
