/**
 * WebSockets over HTTP/2 (RFC 8441): the same rules, records and ends as over HTTP/1.1, with clients of `node:http2`,
 * undici and Chromium, and with frames by hand.
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { after, before, beforeEach, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { Agent, WebSocket as UndiciWebSocket } from "undici";
import { type WebSocket as Accepted, WebSocket, WebSocketServer } from "ws";
import { selfSigned } from "../../support/certificate.ts";
import { findChromium } from "../../support/chromium.ts";
import { data, endHeaders, endStream, headers, initialWindow, RawHttp2, reset } from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "../support.ts";

type Received = Readonly<{ req: IncomingMessage; socket: Accepted; raw: Socket }>;

let upstream: Upstream;
/** Connections that get no response. */
const silent: Socket[] = [];
const received: Received[] = [];
const routes = () => [
  routeTo(upstream.port, { allowWebsockets: true, passIdentityHeaders: true }),
  routeTo(upstream.port, { host: "eng.localhost", allowWebsockets: true, ...engOnly }),
  routeTo(upstream.port, { host: "idle.localhost", allowWebsockets: true, idleTimeoutMs: 300 }),
  routeTo(upstream.port, { host: "plain.localhost" }),
  routeTo(upstream.port, { host: "brief.localhost", allowWebsockets: true, maxStreamLifetimeMs: 300 }),
];
before(async () => {
  upstream = await startUpstream((req, res) => {
    if (req.url === "/page") res.writeHead(200, { "content-type": "text/html" }).end("<p>page</p>");
    else res.writeHead(426, { "x-why": "not here" }).end("no sockets");
  });
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (all) => [...all][0] ?? false,
  });
  upstream.server.on("upgrade", (req, raw: Socket, head) => {
    if (req.url === "/silent") {
      raw.on("error", () => {}).on("end", () => raw.destroy());
      raw.resume();
      silent.push(raw);
      return;
    }
    if (req.url === "/refused") {
      raw.end("HTTP/1.1 426 Upgrade Required\r\nX-Why: not here\r\nContent-Length: 10\r\n\r\nno sockets");
      return;
    }
    if (req.url === "/page") {
      raw.end("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\x81\x04page");
      return;
    }
    sockets.handleUpgrade(req, raw, head, (socket) => {
      received.push({ req, socket, raw });
      socket.on("error", () => {});
      socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
    });
  });
});
after(() => upstream.close());
beforeEach(() => void received.splice(0));

async function start(config: Parameters<typeof startRig>[1] = {}): Promise<Rig> {
  const rig = await startRig(routes(), { ...config, config: { http2Connections: "cardea", ...config.config } });
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1, 2] }));
  return rig;
}

const handshake = (host = "app.localhost", session = 1): readonly string[] => [
  ...[":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", host, ":path", "/live"],
  ...["sec-websocket-version", "13", "cookie", cookieOf(session)],
];

type Opened = Readonly<{ stream: ClientHttp2Stream; head: Record<string, unknown>; socket: WebSocket }>;

/** The session of a client that has received the settings. */
async function sessionTo(rig: Rig): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
  session.on("error", () => {});
  await once(session, "remoteSettings");
  return session;
}

async function askFor(session: ClientHttp2Session, lines: readonly string[]): Promise<Omit<Opened, "socket">> {
  const stream = session.request(lines as never, { endStream: false });
  stream.on("error", () => {});
  const [head] = (await once(stream, "response")) as [Record<string, unknown>];
  return { stream, head };
}

/** A client's WebSocket on one stream. The library reads and writes its frames. */
async function open(session: ClientHttp2Session, lines: readonly string[] = handshake()): Promise<Opened> {
  const { stream, head } = await askFor(session, lines);
  assert.equal(head[":status"], 200);
  const Bare = WebSocket as unknown as new (address: null, protocols: undefined, options: object) => WebSocket;
  const socket = new Bare(null, undefined, {}) as WebSocket & {
    _isServer: boolean;
    _closeTimeout: number;
    setSocket(stream: Duplex, head: Buffer, options: object): void;
  };
  socket.on("error", () => {});
  socket._isServer = false;
  socket._closeTimeout = 30_000;
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 0, skipUTF8Validation: true, allowSynchronousEvents: true });
  return { stream, head, socket };
}

async function statusOf(session: ClientHttp2Session, lines: readonly string[]): Promise<unknown> {
  const { stream, head } = await askFor(session, lines);
  stream.close();
  return head[":status"];
}

const closeOf = async (socket: WebSocket): Promise<readonly [number, string]> => {
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  return [code, reason.toString()];
};
const noneOpen = (rig: Rig) => (): boolean => {
  const { inFlight, exchanges } = rig.proxy.stats();
  return inFlight.websocket + inFlight.udp + exchanges.websocket === 0;
};

describe("a WebSocket over HTTP/2", () => {
  let rig: Rig;
  let session: ClientHttp2Session;
  before(async () => {
    rig = await start();
    session = await sessionTo(rig);
  });
  after(async () => {
    session.destroy();
    await rig.close();
  });

  test("is announced, but not on connections of the library of Node, which refuse it", async () => {
    assert.equal(session.remoteSettings.enableConnectProtocol, true);
    const other = await startRig(routes(), { config: { http2Connections: "node" } });
    await other.apply(signedIn(1));
    const client = await sessionTo(other);
    assert.equal(client.remoteSettings.enableConnectProtocol, false);
    const raw = new RawHttp2(connect(other.port, "127.0.0.1"));
    raw.send(headers(1, endHeaders, ...handshake()));
    await waitFor("the refusal", () => raw.isOver(1));
    assert.equal(raw.stream(1).status, 0);
    client.destroy();
    await other.close();
  });

  test("carries messages of every length in both directions beside ordinary requests, and a side's close code", async () => {
    const { socket } = await open(session);
    for (const length of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
      const sent = Buffer.alloc(length, 7);
      socket.send(sent);
      const [answer] = (await once(socket, "message")) as [Buffer];
      assert.ok(sent.equals(answer), String(length));
    }
    const page = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/page"];
    assert.equal(await statusOf(session, [...page, "cookie", cookieOf(1)]), 200);
    socket.close(4_000, "bye");
    assert.deepEqual((await closeOf(socket))[0], 4_000);
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("reaches the upstream as an upgrade over HTTP/1.1 with a key of the proxy and the identity headers", async () => {
    const extra = ["sec-websocket-protocol", "chat", "x-pomerium-claim-email", "m@x"];
    const { head, socket } = await open(session, [...handshake(), ...extra]);
    const [{ req } = assert.fail("nothing was received")] = received;
    assert.deepEqual([req.method, req.url, req.httpVersion], ["GET", "/live", "1.1"]);
    const keys = valuesOf(req.rawHeaders, "sec-websocket-key");
    assert.ok(keys.length === 1 && /^[A-Za-z0-9+/]{22}==$/.test(keys[0] ?? ""), keys.join());
    assert.deepEqual(valuesOf(req.rawHeaders, "connection"), ["Upgrade"]);
    assert.deepEqual(valuesOf(req.rawHeaders, "upgrade"), ["websocket"]);
    assert.deepEqual(valuesOf(req.rawHeaders, "x-pomerium-claim-email"), ["user1@example.com"]);
    assert.deepEqual(valuesOf(req.rawHeaders, "cookie"), []);
    assert.equal(head["sec-websocket-protocol"], "chat");
    for (const name of ["sec-websocket-accept", "upgrade", "connection"]) assert.equal(head[name], undefined);
    assert.ok(String(head["x-request-id"]).length > 0);
    socket.terminate();
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("is registered, decided, recorded and counted as over HTTP/1.1", async () => {
    const before = rig.records.length;
    const { socket } = await open(session);
    assert.deepEqual(rig.proxy.stats().exchanges, { http: 0, websocket: 1, tcp: 0, udp: 0 });
    socket.send("hello");
    await once(socket, "message");
    socket.close();
    await waitFor("the exchange to end", noneOpen(rig));
    const [permit, end] = rig.records.slice(before);
    assert.deepEqual([permit?.result, permit?.method], ["permit", "GET"]);
    const { cause, bytes = 0, bytesReceived = 0 } = end?.closed ?? {};
    assert.equal(end?.occasion, "closed");
    assert.equal(cause, "ended");
    assert.ok(bytes > 5 && bytesReceived > 5);
    assert.match(await rig.metrics(), /cardea_proxy_requests_total\{route="app\.localhost\/",status="1xx"\} \d/);
  });

  test("is refused by the same rules", async () => {
    const at = (host: string) => handshake(host);
    const without = (name: string) => handshake().toSpliced(handshake().indexOf(name), 2);
    assert.equal(await statusOf(session, without("cookie")), 401);
    assert.equal(await statusOf(session, at("plain.localhost")), 403, "no allow_websockets");
    assert.equal(await statusOf(session, at("other.localhost")), 404);
    assert.equal(await statusOf(session, without("sec-websocket-version")), 400);
    assert.equal(await statusOf(session, handshake().with(11, "8")), 400);
    assert.equal(await statusOf(session, [...handshake(), "content-length", "5"]), 400);
    assert.equal(await statusOf(session, handshake().with(3, "h2c")), 400, "another protocol");
    assert.equal(await statusOf(session, handshake().with(3, "websocket, h2c")), 400);
    assert.equal(await statusOf(session, handshake().with(9, "/.pomerium/x")), 403);
    assert.equal(await statusOf(session, [...handshake(), "sec-websocket-key", "short"]), 400);
    const key = ["sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="];
    assert.equal(await statusOf(session, [...handshake(), ...key, ...key]), 400);
    assert.equal(received.length, 0);
    await waitFor("the requests to end", noneOpen(rig));
  });

  test("gets an ordinary response of the upstream instead of an upgrade", async () => {
    const { stream, head } = await askFor(session, handshake().with(9, "/refused"));
    const [body] = (await once(stream, "data")) as [Buffer];
    assert.deepEqual([head[":status"], head["x-why"], body.toString()], [426, "not here", "no sockets"]);
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("is not accepted by an upstream that answers 200, which would be the acceptance (RFC 8441 §5)", async () => {
    const { stream, head } = await askFor(session, handshake().with(9, "/page"));
    const [body] = (await once(stream, "data")) as [Buffer];
    assert.equal(head[":status"], 502);
    assert.equal(body.includes("\x04page", 0, "latin1"), false);
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("may get its first frames before it is accepted", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    client.send(headers(1, endHeaders, ...handshake()), data(1, 0, "\x82\x82\0\0\0\0hi"));
    await waitFor("the echo", () => client.stream(1).bytes === 4);
    assert.equal(client.stream(1).status, 200);
    client.socket.destroy();
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("is malformed with missing, doubled, late or misplaced pseudo-headers", async () => {
    const lines = handshake();
    const without = (at: number) => lines.toSpliced(at, 2);
    const cases: Readonly<Record<string, readonly string[]>> = {
      "without a path": without(8),
      "without a scheme": without(4),
      "two protocols": lines.toSpliced(2, 0, ":protocol", "websocket"),
      "of a GET": lines.with(1, "GET"),
      "after a field": [...without(2), ":protocol", "websocket"],
      "an Upgrade of its own": [...lines, "upgrade", "websocket"],
      "a Connection": [...lines, "connection", "upgrade"],
      "a path without a protocol": without(2),
    };
    for (const [name, bad] of Object.entries(cases)) {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
      client.send(headers(1, endHeaders, ...bad));
      await waitFor(name, () => client.isOver(1));
      assert.deepEqual([client.stream(1).status, client.stream(1).reset], [0, 1], name);
      client.socket.destroy();
    }
    const opened = new RawHttp2(connect(rig.port, "127.0.0.1"));
    opened.send(headers(1, endHeaders, ...lines));
    await waitFor("the response", () => opened.stream(1).status === 200);
    opened.send(headers(1, endHeaders | endStream, ":protocol", "websocket"));
    await waitFor("trailers with a pseudo-header", () => opened.stream(1).reset === 1);
    opened.socket.destroy();
    await waitFor("the exchanges to end", noneOpen(rig));
  });

  test("ends at the upstream when the caller resets or ends its stream, or leaves", async () => {
    const ends: Readonly<Record<string, (client: RawHttp2) => void>> = {
      reset: (client) => client.send(reset(1, 8)),
      end: (client) => client.send(data(1, endStream, "")),
      trailers: (client) => client.send(headers(1, endHeaders | endStream, "x-trailer", "1")),
      leave: (client) => client.socket.destroy(),
    };
    for (const [name, end] of Object.entries(ends)) {
      received.splice(0);
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
      client.send(headers(1, endHeaders, ...handshake()));
      await waitFor("the response", () => client.stream(1).status === 200);
      end(client);
      await waitFor(`${name}: the exchange to end`, noneOpen(rig));
      await waitFor(`${name}: the upstream's connection to end`, () => received[0]?.raw.destroyed === true);
      client.socket.destroy();
    }
  });

  test("ends at the caller with END_STREAM when the upstream leaves", async () => {
    const { stream, socket } = await open(session);
    received[0]?.raw.end();
    assert.equal((await closeOf(socket))[0], 1_006);
    await waitFor("the stream to end", () => stream.closed);
    assert.equal(stream.rstCode, 0);
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("holds back each side while the other does not read, within the windows", async () => {
    const { stream, socket } = await open(session);
    const [{ socket: behind, raw } = assert.fail("nothing was received")] = received;
    const chunk = Buffer.alloc(1_000_000, 1);
    const stalls = async (count: () => number): Promise<number> => {
      let last = -1;
      return waitFor(
        "the transfer to stall",
        () => {
          const now = count();
          const isSame = now === last && now > 0;
          last = now;
          return isSame ? now : undefined;
        },
        { everyMs: 200 },
      );
    };
    raw.pause();
    for (let n = 0; n < 30; n++) socket.send(chunk);
    // The rest of 30 MB waits in the client.
    await stalls(() => 30_000_000 - stream.writableLength + socket.bufferedAmount);
    assert.ok(stream.writableLength + socket.bufferedAmount > 10_000_000);
    raw.resume();
    let echoed = 0;
    await new Promise<void>((resolve) => {
      socket.on("message", () => ++echoed === 30 && resolve());
    });
    socket.removeAllListeners("message");
    socket.pause();
    let produced = 0;
    const more = (): void => {
      if (++produced < 60) behind.send(chunk, { compress: false }, more);
    };
    more();
    assert.ok((await stalls(() => produced)) < 40);
    const answers = new Promise<void>((resolve) => {
      let count = 0;
      socket.on("message", () => ++count === 59 && resolve());
    });
    socket.resume();
    await answers;
    socket.terminate();
    await waitFor("the exchange to end", noneOpen(rig));
  });

  test("may send no more than its window before it is accepted, and ends at the upstream then", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    client.send(headers(1, endHeaders, ...handshake().with(9, "/silent")));
    await waitFor("the upstream to be asked", () => silent.length === 1);
    for (let n = 0; n < 16; n++) client.send(data(1, 0, "x".repeat(16_384)));
    client.send(headers(3, endHeaders, ...handshake()));
    await waitFor("another stream to be accepted", () => client.stream(3).status === 200);
    assert.equal(client.isOver(1), false);
    client.send(data(1, 0, "x"));
    await waitFor("the reset", () => client.stream(1).reset === 3);
    await waitFor("the upstream's connection to end", () => silent[0]?.destroyed === true);
    client.socket.destroy();
    await waitFor("the exchanges to end", noneOpen(rig));
  });

  test("counts among the streams of its connection, and its resets among those that end a connection", async () => {
    const full = new RawHttp2(connect(rig.port, "127.0.0.1"));
    for (let n = 0; n < 129; n++) full.send(headers(2 * n + 1, endHeaders, ...handshake()));
    await waitFor("128 to be open", () => received.length === 128 && full.stream(255).status === 200);
    assert.equal(full.stream(257).reset, 7);
    assert.equal(rig.proxy.stats().exchanges.websocket, 128);
    full.socket.destroy();
    await waitFor("the exchanges to end", noneOpen(rig));
    const storm = new RawHttp2(connect(rig.port, "127.0.0.1"));
    for (let first = 1; first < 1_000 && !storm.closed; first += 200) {
      const ids = Array.from({ length: 100 }, (_, n) => first + 2 * n);
      storm.send(...ids.map((id) => headers(id, endHeaders, ...handshake())));
      await waitFor("the responses", () => storm.closed || ids.every((id) => storm.stream(id).status === 200));
      storm.send(...ids.map((id) => reset(id, 8)));
    }
    await waitFor("the connection to end", () => storm.closed);
    assert.equal(storm.goAway?.code, 11);
    await waitFor("the exchanges to end", noneOpen(rig));
  });

  test("ends after the idle time-out of its route, and at the lifetime with 4408", async () => {
    const idle = await open(session, handshake("idle.localhost"));
    const brief = await open(session, handshake("brief.localhost"));
    const [idleEnd, briefEnd] = [closeOf(idle.socket), closeOf(brief.socket)];
    assert.equal((await idleEnd)[0], 1_006);
    assert.equal((await briefEnd)[0], 4_408);
    await waitFor("the exchanges to end", noneOpen(rig));
  });
});

describe("a cut WebSocket over HTTP/2", () => {
  let rig: Rig;
  let session: ClientHttp2Session;
  const renew = async (): Promise<void> => {
    session?.destroy();
    await rig?.close();
    rig = await start();
    session = await sessionTo(rig);
  };
  beforeEach(renew);
  after(async () => {
    session.destroy();
    await rig.close();
  });

  test("gets a close frame with the code, then END_STREAM; other streams of the connection stay", async () => {
    const [mine, eng, other] = [
      await open(session),
      await open(session, handshake("eng.localhost", 2)),
      await open(session, handshake("app.localhost", 2)),
    ];
    const [mineEnds, engEnds] = [closeOf(mine.socket), closeOf(eng.socket)];
    assert.ok((await rig.apply(sessionRevoked(1))) < 1_000);
    assert.deepEqual(await mineEnds, [4_401, "session ended: sign in again"]);
    await rig.apply(groupChanged({ removed: [2] }));
    assert.deepEqual(await engEnds, [4_403, "no longer permitted"]);
    await waitFor("both streams to end", () => mine.stream.closed && eng.stream.closed);
    assert.deepEqual([mine.stream.rstCode, eng.stream.rstCode], [0, 0]);
    other.socket.send("still here");
    assert.equal(String((await once(other.socket, "message"))[0]), "still here");
    const cut = rig.records.find(({ closed }) => closed?.cause === "session-ended");
    assert.equal(cut?.occasion, "closed");
    assert.equal(await statusOf(session, handshake()), 401);
    rig.lease.overdueMs = 3_600_000;
    other.socket.send("now");
    assert.equal((await closeOf(other.socket))[0], 4_503);
    await waitFor("the exchanges to end", noneOpen(rig));
  });

  test("ends the frame that has begun first; what follows it is not sent", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    client.send(headers(1, endHeaders, ...handshake()));
    await waitFor("the response", () => client.stream(1).status === 200);
    const [{ raw } = assert.fail("nothing was received")] = received;
    raw.write(Buffer.from([0x82, 10, 1, 2, 3]));
    await waitFor("the first part", () => client.stream(1).bytes === 5);
    const cut = rig.apply(sessionRevoked(1));
    raw.write(Buffer.from([4, 5, 6, 7, 8, 9, 10, 0x82, 3, 1, 2, 3]));
    await waitFor("the end", () => client.stream(1).ended);
    client.send(data(1, endStream, ""));
    assert.ok((await cut) < 1_000);
    assert.equal(client.stream(1).bytes, 12 + 4 + "session ended: sign in again".length);
    client.socket.destroy();
  });

  test("is reset in time if its frame does not end, or if its caller takes nothing", async () => {
    const half = new RawHttp2(connect(rig.port, "127.0.0.1"));
    half.send(headers(1, endHeaders, ...handshake()));
    const slow = new RawHttp2(connect(rig.port, "127.0.0.1"), [initialWindow(0)]);
    await waitFor("the first response", () => half.stream(1).status === 200);
    received[0]?.raw.write(Buffer.from([0x82, 10, 1, 2, 3]));
    await waitFor("the first part", () => half.stream(1).bytes === 5);
    slow.send(headers(1, endHeaders, ...handshake()), headers(3, endHeaders, ...handshake()));
    await waitFor("the other responses", () => slow.stream(1).status === 200 && slow.stream(3).status === 200);
    received[1]?.socket.send("unread");
    await new Promise((resolve) => setTimeout(resolve, 50)); // for it to wait for a window
    const took = await rig.apply(sessionRevoked(1));
    await waitFor("the resets", () => half.isOver(1) && slow.isOver(1) && slow.isOver(3));
    assert.ok(took < 1_000, `${took} ms`);
    assert.deepEqual([half.stream(1).reset, slow.stream(1).reset], [8, 8]);
    assert.deepEqual([half.stream(1).bytes, slow.stream(1).bytes + slow.stream(3).bytes], [5, 0]);
    await waitFor("the exchanges to end", noneOpen(rig));
    half.socket.destroy();
    slow.socket.destroy();
  });

  test("with a caller whose stream stays half open gives up that stream, and the caller's connection lives", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    client.send(headers(1, endHeaders, ...handshake()));
    await waitFor("the response", () => client.stream(1).status === 200);
    await rig.apply(sessionRevoked(1));
    await waitFor("the end", () => client.stream(1).ended && client.stream(1).reset !== null);
    client.send(headers(3, endHeaders | endStream, ...handshake("app.localhost", 2)));
    await waitFor("the next response", () => client.stream(3).status === 200);
    client.socket.destroy();
  });

  test("gets 1001 when the node drains", async () => {
    const { socket } = await open(session);
    const ends = closeOf(socket);
    await rig.close();
    assert.deepEqual((await ends)[0], 1_001);
  });
});

test("a page of another site that opens one with the session cookie is refused under `cookie_same_site: none`", async () => {
  const cookie = { name: "_pomerium", domain: null, httpOnly: true, expireMs: 50_000_000, sameSite: "none" as const };
  const rig = await start({ config: { cookie } });
  const session = await sessionTo(rig);
  assert.equal(await statusOf(session, [...handshake(), "origin", "http://evil.example"]), 403);
  assert.equal(await statusOf(session, [...handshake(), "origin", "http://app.localhost"]), 200);
  session.destroy();
  await rig.close();
});

test("CONNECT-UDP is an extended CONNECT too (RFC 9298 §3.4)", async () => {
  const echo = createSocket("udp4");
  echo.on("message", (bytes, from) => echo.send(bytes, from.port, from.address));
  echo.bind(0, "127.0.0.1");
  await once(echo, "listening");
  const { port } = echo.address() as AddressInfo;
  const tunnel = { kind: "udp", targets: [{ host: "127.0.0.1", port }], behindProxy: false } as const;
  const to = [{ url: new URL(`udp://127.0.0.1:${port}`), weight: null }];
  const rig = await startRig([routeTo(port, { host: "127.0.0.1", tunnel, to })], {
    config: { http2Connections: "cardea" },
  });
  await rig.apply(signedIn(1));
  const session = await sessionTo(rig);
  const path = `/.well-known/masque/udp/127.0.0.1/${port}/`;
  const lines = [
    ...[":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "http", ":authority", `127.0.0.1:${port}`],
    ...[":path", path, "capsule-protocol", "?1", "cookie", cookieOf(1)],
  ];
  const { stream, head } = await askFor(session, lines);
  assert.deepEqual([head[":status"], head["capsule-protocol"], head["upgrade"]], [200, "?1", undefined]);
  stream.write(Buffer.from([0, 3, 0, 0x68, 0x69]));
  const [answer] = (await once(stream, "data")) as [Buffer];
  assert.deepEqual([...answer], [0, 3, 0, 0x68, 0x69]);
  session.destroy();
  await waitFor("the exchange to end", noneOpen(rig));
  await rig.close();
  echo.close();
});

/** Established connections to a port, of any caller on this machine (Linux). */
function connectionsAt(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = readFileSync("/proc/net/tcp", "utf8").split("\n");
  return lines.filter((line) => {
    const [, from = "", , state] = line.trim().split(/\s+/);
    return from.endsWith(local) && state === "01";
  }).length;
}

describe("other clients over TLS", () => {
  let rig: Rig;
  before(async () => {
    const certificates = [selfSigned("DNS:app.localhost") as never];
    rig = await start({ config: { insecureServer: false, certificates } });
  });
  after(() => rig.close());

  test("undici, with compression", async () => {
    const address = `wss://app.localhost:${rig.port}/live`;
    const lookup = (_name: string, _options: object, done: (error: null, found: object[]) => void): void =>
      done(null, [{ address: "127.0.0.1", family: 4 }]);
    const dispatcher = new Agent({ allowH2: true, connect: { rejectUnauthorized: false, lookup } as never });
    const socket = new UndiciWebSocket(address, { dispatcher, headers: { cookie: cookieOf(2) } });
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", (event) => reject(event.error));
    });
    assert.match(socket.extensions, /permessage-deflate/);
    const answer = new Promise((resolve) => socket.addEventListener("message", ({ data: text }) => resolve(text)));
    socket.send("hello ".repeat(1_000));
    assert.equal(await answer, "hello ".repeat(1_000));
    const closed = new Promise<number>((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)));
    await rig.apply(sessionRevoked(2));
    assert.equal(await closed, 4_401);
    await dispatcher.close();
    assert.equal(received[0]?.req.headers["sec-websocket-extensions"] !== undefined, true);
  });

  const executablePath = findChromium();
  test("Chromium: a page's WebSocket shares the page's connection, and sees the close code", {
    skip: executablePath === undefined && "no Chromium",
    timeout: 60_000,
  }, async (t) => {
    const args = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
    const browser = await chromium.launch({ executablePath: executablePath ?? "", args: args.split(" ") });
    t.after(() => browser.close());
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const url = `https://app.localhost:${rig.port}`;
    await context.addCookies([{ name: "_pomerium", value: "s1", url }]);
    const page = await context.newPage();
    const statuses: number[] = [];
    const protocolEvents = await context.newCDPSession(page);
    protocolEvents.on("Network.webSocketHandshakeResponseReceived", ({ response }) => statuses.push(response.status));
    await protocolEvents.send("Network.enable");
    await page.goto(`${url}/page`);
    const script = `new Promise((resolve, reject) => {
      const socket = new WebSocket("wss://app.localhost:${rig.port}/live", ["chat"]);
      const closed = new Promise((done) => socket.onclose = ({ code, reason }) => done([code, reason]));
      window.ended = closed;
      socket.onerror = () => reject(new Error("error"));
      socket.onopen = () => socket.send("x".repeat(100000));
      socket.onmessage = ({ data }) => resolve([data.length, socket.protocol, socket.extensions]);
    })`;
    const [length, protocol, extensions] = (await page.evaluate(script)) as [number, string, string];
    assert.deepEqual([length, protocol], [100_000, "chat"]);
    assert.match(extensions, /permessage-deflate/);
    const [{ req } = assert.fail("nothing was received")] = received;
    assert.equal(req.headers["origin"], url);
    const timing = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
    assert.equal(await page.evaluate(timing), "h2");
    // The node has no other connection, so both came over the same one.
    assert.deepEqual(statuses, [200]);
    assert.equal(existsSync("/proc/net/tcp") ? connectionsAt(rig.port) : 1, 1);
    await rig.apply(sessionRevoked(1));
    assert.deepEqual(await page.evaluate("window.ended"), [4_401, "session ended: sign in again"]);
  });
});
