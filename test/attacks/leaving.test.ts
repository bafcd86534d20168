/**
 * Callers that leave behind an upload that is held back: by an end (FIN) that nobody has read as far as, or by a reset.
 * What an upstream does for them is over within a second or so, and the places that they took are free.
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

const skip = existsSync("/proc/net/tcp") ? false : "only Linux tells of an end that was not read";
const patience = { withinMs: 30_000 };

test("the table of the kernel is read as it is written: both families, mapped addresses, and of its states one", () => {
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
  assert.ok(!at("10.0.0.3", 50_001, 8_080), "it is open");
  assert.ok(!at("10.0.0.2", 50_000, 8_081) && !at("10.0.0.2", 50_001, 8_080) && !at("10.0.0.9", 50_000, 8_080));
  assert.ok(!has({}));
});

type Deaf = Readonly<{ port: number; gone: () => number; sockets: readonly Socket[] }>;

/** An upstream that takes connections and never reads more than a head. */
async function startDeaf(t: TestContext, answer = ""): Promise<Deaf> {
  let gone = 0;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("close", () => gone++);
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
  return { port: (server.address() as AddressInfo).port, gone: () => gone, sockets };
}

/** Bytes that wait unread in the proxy's kernel, and unsent in the caller's. */
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

type Sender = Readonly<{ under: Socket; send: (chunk: Buffer, sent: () => void) => unknown }>;
const plainly = (socket: Socket): Sender => ({
  under: socket,
  send: (chunk, sent) => socket.write(chunk, () => sent()),
});

/**
 * Sends until something waits at the proxy that it does not read, and nothing here: then an end can arrive behind it.
 */
async function untilHeld(port: number, { under, send }: Sender, { sockets }: Deaf): Promise<void> {
  let pending = 0;
  const more = (bytes: number): void => {
    pending++;
    send(Buffer.alloc(bytes, 0x61), () => pending--);
  };
  more(3 * 1_048_576);
  let looks = 0;
  await waitFor(
    "something to wait at the proxy",
    () => {
      const { unread, unsent } = queues(port, under);
      looks = pending === 0 && unsent === 0 && unread > 0 ? looks + 1 : 0;
      if (looks === 5) return true;
      if (looks > 0) return undefined;
      if (pending === 0 && unsent === 0) more(262_144);
      else if (unread > 0) takeSome(sockets.at(-1));
      return undefined;
    },
    patience,
  );
}

/** What the upstream takes makes room for what cannot leave here. */
function takeSome(socket: Socket | undefined): void {
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
const isOver = (rig: Rig, kind: "http" | "websocket" | "tcp") => (): boolean =>
  rig.proxy.stats().exchanges[kind] === 0 && rig.proxy.stats().inFlight[kind] === 0;

describe("behind an upload that is held back", { skip }, () => {
  for (const [name, framing] of [
    ["of a known length", "Content-Length: 900000000"],
    ["in chunks", "Transfer-Encoding: chunked"],
  ] as const) {
    test(`HTTP/1.1, ${name}: an end that nobody had read kept the upstream at work until its time-out`, async (t) => {
      const upstream = await startDeaf(t);
      const rig = await rigTo(t, routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 }));
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => {});
      socket.write(head("POST / HTTP/1.1", framing));
      const chunked = (chunk: Buffer, sent: () => void): void => {
        const size = Buffer.from(`${chunk.length.toString(16)}\r\n`);
        socket.write(Buffer.concat([size, chunk, Buffer.from("\r\n")]), () => sent());
      };
      await untilHeld(rig.port, framing.startsWith("T") ? { under: socket, send: chunked } : plainly(socket), upstream);
      assert.equal(isOver(rig, "http")(), false);
      socket.end();
      await waitFor("the exchange to be over", isOver(rig, "http"), patience);
      for (const one of upstream.sockets) one.resume();
      await waitFor("the upstream to be told", () => upstream.gone() === 1, patience);
      socket.destroy();
    });
  }

  test("over TLS: the same", async (t) => {
    const pair = selfSigned("DNS:app.localhost");
    const upstream = await startDeaf(t);
    const route = routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 });
    const rig = await rigTo(t, route, { config: { insecureServer: false, certificates: [pair] } });
    const under = connect(rig.port, "127.0.0.1");
    const socket = connectTls({
      socket: under,
      servername: "app.localhost",
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.on("error", () => {});
    under.on("error", () => {});
    await once(socket, "secureConnect");
    socket.write(head("POST / HTTP/1.1", "Content-Length: 900000000"));
    await untilHeld(rig.port, { under, send: (chunk, sent) => socket.write(chunk, () => sent()) }, upstream);
    under.end();
    await waitFor("the exchange to be over", isOver(rig, "http"), patience);
    socket.destroy();
  });

  test("HTTP/2: an end of the connection, and a reset of it", async (t) => {
    for (const leave of [(socket: Socket) => socket.end(), (socket: Socket) => socket.resetAndDestroy()]) {
      const upstream = await startDeaf(t);
      const rig = await rigTo(t, routeTo(upstream.port, { timeoutMs: 0, idleTimeoutMs: 0 }));
      const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
      t.after(() => socket.destroy());
      const client = new RawHttp2(socket);
      client.send(headers(1, endHeaders, ...requestLines(cookieOf(1), "POST")));
      await waitFor("it to be forwarded", () => upstream.sockets.length === 1, patience);
      for (let i = 0; i < 3; i++) client.send(data(1, 0, "x".repeat(16_384)));
      leave(socket);
      await waitFor("the exchange to be over", isOver(rig, "http"), patience);
      await rig.close();
    }
  });

  test("WebSocket: an end, and a reset; nothing is left of it", async (t) => {
    for (const leave of [(socket: Socket) => socket.end(), (socket: Socket) => socket.resetAndDestroy()]) {
      const key = "dGhlIHNhbXBsZSBub25jZQ==";
      const upstream = await startDeaf(
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
      await untilHeld(rig.port, plainly(socket), upstream);
      leave(socket);
      await waitFor("the exchange to be over", isOver(rig, "websocket"), patience);
      await rig.close();
    }
  });

  test("CONNECT: a reset breaks the tunnel off; an end is an end, and comes behind what was said before it", async (t) => {
    const upstream = await startDeaf(t);
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
      await untilHeld(rig.port, plainly(socket), upstream);
      return socket;
    };
    (await open()).resetAndDestroy();
    await waitFor("the tunnel to be over", isOver(rig, "tcp"), patience);

    const ending = await open();
    ending.end();
    const there = upstream.sockets.at(-1);
    const ended = once(there ?? assert.fail(), "end");
    there?.resume();
    await ended;
    assert.equal(there?.bytesRead, ending.bytesWritten - head.length, "all of it");
  });
});
