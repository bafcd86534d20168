/**
 * Cutting open exchanges: an exchange is cut when its permit no longer holds, and no other exchange is. All tests use
 * real sockets.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, type IncomingMessage, request, ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { after, describe, test } from "node:test";
import { type WebSocket as Client, WebSocket, WebSocketServer } from "ws";
import { compilePolicies, decide } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import { sessionStream, userStream } from "../../src/events/index.ts";
import { sessionId, userId } from "../events/support.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  userRecorded,
} from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

/**
 * Streams a line every 5 ms on `/stream`, opens a WebSocket that does the same, and answers everything else at once.
 */
async function start(parts: Partial<RouteConfig> = {}, onSocket?: (socket: Client) => void, writeMs = 0): Promise<Rig> {
  const upstream = await startUpstream((req, res) => {
    if (!req.url?.startsWith("/stream")) {
      res.end("ok");
      return;
    }
    res.writeHead(200, { "content-type": "text/event-stream" });
    const timer = setInterval(() => res.write("data: tick\n\n"), 5);
    res.on("close", () => clearInterval(timer));
  });
  const sockets = new WebSocketServer({ server: upstream.server });
  sockets.on("connection", (socket) => {
    socket.on("error", () => {});
    if (onSocket !== undefined) {
      onSocket(socket);
      return;
    }
    const timer = setInterval(() => socket.send("tick"), 5);
    socket.on("close", () => clearInterval(timer));
  });
  const rig = await startRig([routeTo(upstream.port, { allowWebsockets: true, timeoutMs: 0, ...parts })], {
    config: { timeouts: { readMs: 30_000, readLimit: "request", writeMs, idleMs: 300_000 } },
  });
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1, 2] }));
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  return rig;
}

function socketTo(rig: Rig, session: number | null = 1): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/live`, {
    headers: { host: "app.localhost", ...(session === null ? {} : { cookie: cookieOf(session) }) },
  });
  socket.on("error", () => {});
  return socket;
}
async function openSocket(rig: Rig, session: number | null = 1): Promise<WebSocket> {
  const socket = socketTo(rig, session);
  await once(socket, "message");
  return socket;
}
async function closeOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  return { code, reason: reason.toString() };
}

async function openStream(
  rig: Rig,
  session = 1,
  path = "/stream",
): Promise<{ res: IncomingMessage; ended: Promise<string> }> {
  const req = request({
    port: rig.port,
    host: "127.0.0.1",
    agent: false,
    path,
    headers: { host: "app.localhost", cookie: cookieOf(session) },
  });
  req.on("error", () => {});
  req.end();
  const [res] = (await once(req, "response")) as [IncomingMessage];
  await once(res, "data");
  res.resume();
  const ended = new Promise<string>((resolve) => {
    res.on("end", () => resolve("end"));
    res.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.name));
  });
  return { res, ended };
}

describe("a revoked session", () => {
  test("is refused on the next request of a connection already open", async () => {
    const rig = await start();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const send = () =>
      new Promise<{ status: number; port: number }>((resolve, reject) => {
        const headers = { host: "app.localhost", cookie: cookieOf(1), accept: "application/json" };
        request({ port: rig.port, host: "127.0.0.1", agent, headers }, (res) => {
          const port = res.socket.localPort ?? 0;
          res.resume().on("end", () => resolve({ status: res.statusCode ?? 0, port }));
        })
          .on("error", reject)
          .end();
      });
    const before = await send();
    await rig.apply(sessionRevoked(1));
    const after_ = await send();
    agent.destroy();
    assert.deepEqual([before.status, after_.status], [200, 401]);
    assert.equal(before.port, after_.port, "both requests used the same connection");
  });

  test("loses its streaming response, and no other session loses theirs", async () => {
    const rig = await start();
    const [mine, other] = [await openStream(rig, 1), await openStream(rig, 2)];
    await rig.apply(sessionRevoked(1));
    assert.equal(await mine.ended, "ECONNRESET");
    await once(other.res, "data");
    assert.deepEqual(rig.proxy.stats().cuts["session-ended"], 1);
    assert.equal(rig.proxy.stats().exchanges.http, 1);
    other.res.destroy();
  });

  test("loses its WebSocket with close code 4401", async () => {
    const rig = await start();
    const [mine, other] = [await openSocket(rig, 1), await openSocket(rig, 2)];
    const closed = closeOf(mine);
    await rig.apply(sessionRevoked(1));
    assert.deepEqual(await closed, { code: 4_401, reason: "session ended: sign in again" });
    await once(other, "message");
    other.terminate();
  });

  test("loses its WebSocket on a public route too, because its identity was sent to the upstream", async () => {
    const rig = await start(publicAccess);
    const [mine, anonymous] = [await openSocket(rig, 1), await openSocket(rig, null)];
    const closed = closeOf(mine);
    await rig.apply(sessionRevoked(1));
    assert.equal((await closed).code, 4_401);
    await once(anonymous, "message");
    anonymous.terminate();
  });

  test("gets 401 for a request whose response has not begun", async () => {
    const waiting = await startUpstream(() => {});
    const rig = await startRig([routeTo(waiting.port)]);
    cleanUps.push(() => rig.close(), waiting.close);
    await rig.apply(signedIn(1));
    const answer = rig.request({ session: 1, headers: { accept: "application/json" } });
    await waitFor("the request to arrive", () => waiting.seen.length === 1);
    await rig.apply(sessionRevoked(1));
    assert.equal((await answer).status, 401);
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0);
  });

  test("has a permitted request refused before it is sent: not a byte reaches the upstream", async () => {
    const upstream = await startUpstream();
    let release = (): void => {};
    const signing = new Promise<void>((resolve) => {
      release = resolve;
    });
    const introduction = { assertion: "a", claimHeaders: [], email: "", groups: [] };
    const rig = await startRig([routeTo(upstream.port, { passIdentityHeaders: true })], {
      deps: { assertions: { issue: () => signing.then(() => introduction) } },
    });
    cleanUps.push(() => rig.close(), upstream.close);
    await rig.apply(signedIn(1));
    const answer = rig.request({ session: 1, headers: { accept: "application/json" } });
    await waitFor("the permit", () => rig.records.length === 1);
    assert.equal(rig.records[0]?.result, "permit");
    await rig.apply(sessionRevoked(1));
    release();
    assert.equal((await answer).status, 401);
    assert.equal(upstream.seen.length, 0);
  });

  test("stays denied on the node that had applied the revocation, even if the log lost it", async () => {
    const rig = await start();
    rig.deniedLocally.add(sessionStream(sessionId(1)));
    assert.equal((await rig.request({ session: 1 })).status, 302);
    assert.equal((await rig.request({ session: 2 })).status, 200);
  });

  test("of a user stays denied for all sessions of that user, on the node that had applied the revocation, even if the log lost it", async () => {
    const rig = await start();
    rig.deniedLocally.add(userStream(userId(1)));
    assert.equal((await rig.request({ session: 1 })).status, 302);
    assert.equal((await rig.request({ session: 2 })).status, 200);
  });
});

describe("a person who leaves a group", () => {
  test("loses what only members may access, and keeps everything else", async () => {
    const rig = await start(engOnly);
    const [stream, socket, other] = [await openStream(rig, 1), await openSocket(rig, 1), await openSocket(rig, 2)];
    const closed = closeOf(socket);
    await rig.apply(groupChanged({ removed: [1] }));
    assert.deepEqual(await closed, { code: 4_403, reason: "no longer permitted" });
    assert.equal(await stream.ended, "ECONNRESET");
    assert.equal((await rig.request({ session: 1 })).status, 403);
    await once(other, "message");
    other.terminate();
    const again = rig.records.filter(({ occasion }) => occasion === "redecision");
    const cuts = again.filter(({ result }) => result !== "permit");
    assert.ok(
      cuts.length > 0 && cuts.every(({ cutMs }) => cutMs !== undefined && cutMs >= 40),
      "the time since the commit",
    );
    assert.ok(again.every(({ latencyMs }) => latencyMs === undefined));
    const requests = rig.records.filter(({ occasion }) => occasion === "request");
    assert.ok(requests.every(({ latencyMs, cutMs }) => Number(latencyMs) >= 0 && cutMs === undefined));
    assert.deepEqual(
      again.map(({ result, status }) => [result, status]),
      [
        ["deny", 403],
        ["deny", 403],
      ],
    );
  });

  test("keeps a stream whose facts changed but which policy still permits", async () => {
    const rig = await start();
    const socket = await openSocket(rig, 1);
    await rig.apply(groupChanged({ removed: [1] }));
    await once(socket, "message");
    assert.deepEqual(rig.records.at(-1)?.occasion, "redecision");
    assert.deepEqual(rig.records.at(-1)?.result, "permit");
    const closed = closeOf(socket);
    await rig.apply(sessionRevoked(1));
    assert.equal((await closed).code, 4_401, "the exchange is still indexed by its facts");
  });
});

describe("a cut WebSocket", () => {
  /** Sends the first half of a frame and holds back the other half. */
  const halfFrame = (finish: { now?: () => void }) => (client: Client) => {
    client.send("tick");
    const raw = (client as unknown as { _socket: Socket })._socket;
    const frame = Buffer.concat([Buffer.from([0x82, 126, 0x10, 0x00]), Buffer.alloc(4_096, 7)]);
    raw.write(frame.subarray(0, 1_000));
    finish.now = () => raw.write(Buffer.concat([frame.subarray(1_000), Buffer.from([0x81, 1, 65])]));
  };

  test("gets the rest of the frame in progress, then its close frame, and nothing after it", async () => {
    const finish: { now?: () => void } = {};
    const rig = await start({}, halfFrame(finish));
    const socket = socketTo(rig);
    const received: Buffer[] = [];
    socket.on("message", (data: Buffer) => received.push(data));
    await waitFor(
      "the first message and half a frame",
      () => received.length === 1 && rig.proxy.stats().exchanges.websocket === 1,
    );
    await waitFor("half of the frame", () => bytesTo(socket) > 1_000);
    const closed = closeOf(socket);
    const cut = rig.apply(sessionRevoked(1));
    finish.now?.();
    assert.equal((await closed).code, 4_401);
    await cut;
    assert.deepEqual(
      received.map(({ length }) => length),
      [4, 4_096],
    );
  });

  test("is destroyed when the frame does not end in time", async () => {
    const rig = await start({}, halfFrame({}));
    const socket = socketTo(rig);
    await once(socket, "message");
    await waitFor("half of the frame", () => bytesTo(socket) > 1_000);
    const closed = closeOf(socket);
    const tookMs = await rig.apply(sessionRevoked(1));
    assert.equal((await closed).code, 1_006);
    assert.ok(tookMs >= 40, `the frame had its time to end: ${tookMs} ms`);
    assert.equal(rig.proxy.stats().exchanges.websocket, 0);
  });

  test("is reset at once when its caller does not read", async () => {
    let sentBytes = 0;
    const rig = await start({}, (client) => {
      const chunk = Buffer.alloc(1_048_576);
      const sendMore = (): void => {
        sentBytes += chunk.length;
        client.send(chunk, () => client.readyState === client.OPEN && sendMore());
      };
      sendMore();
    });
    const caller = connect(rig.port, "127.0.0.1");
    caller.on("error", () => {});
    caller.write(handshake(cookieOf(1)));
    await once(caller, "readable"); // and reads nothing more
    let before = 0;
    await waitFor(
      "the transfer to stall",
      () => {
        const still = sentBytes === before;
        before = sentBytes;
        return still;
      },
      { everyMs: 200 },
    );
    const unread = caller.bytesRead;
    await rig.apply(sessionRevoked(1));
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.websocket === 0);
    caller.resume();
    await waitFor("the reset", () => caller.destroyed);
    assert.ok(caller.bytesRead - unread < 8_000_000, "the caller receives only what its own kernel had received");
  });

  test("forwards nothing more from its caller", async () => {
    const messages: string[] = [];
    const rig = await start({}, (client) => {
      client.on("message", (data: Buffer) => messages.push(data.toString()));
      client.send("hello");
    });
    const socket = await openSocket(rig);
    socket.send("before");
    await waitFor("the first message", () => messages.length === 1);
    const closed = closeOf(socket);
    const cut = rig.apply(sessionRevoked(1));
    socket.send("after");
    await cut;
    await closed;
    assert.deepEqual(messages, ["before"]);
  });
});

const bytesTo = (socket: WebSocket): number => (socket as unknown as { _socket: Socket })._socket.bytesRead;

function handshake(cookie: string): string {
  return `GET /live HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookie}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
}

describe("without a fresh lease", () => {
  test("a deny route answers 503 at once and sends no further chunk; a serve route continues within its grace", async () => {
    const strict = await start({ onStale: "deny", staleGraceMs: 0 });
    const lenient = await start({ onStale: "serve", staleGraceMs: 1_000 });
    const [cut, lenientStream] = [await openStream(strict), await openStream(lenient)];
    strict.lease.overdueMs = lenient.lease.overdueMs = 1;
    assert.equal(await cut.ended, "ECONNRESET");
    await once(lenientStream.res, "data");
    const refused = await strict.request({ session: 1, headers: { accept: "text/html" } });
    assert.deepEqual([refused.status, refused.headers["retry-after"]], [503, "1"]);
    assert.equal((await lenient.request({ session: 1 })).status, 200);
    lenient.lease.overdueMs = 1_001;
    assert.equal(await lenientStream.ended, "ECONNRESET");
    assert.equal((await lenient.request({ session: 1 })).status, 503);
    assert.equal(strict.proxy.stats().cuts.stale, 1);
  });

  test("no caller is sent to sign-in, with a session or without", async () => {
    const rig = await start({ onStale: "deny", staleGraceMs: 0 });
    rig.lease.overdueMs = 5;
    for (const headers of [{ accept: "text/html" }, { "sec-fetch-mode": "navigate" }, { "sec-fetch-mode": "cors" }]) {
      assert.equal((await rig.request({ headers })).status, 503);
    }
    assert.ok(rig.records.every(({ result }) => result === "unavailable"));
  });

  test("after a pause of the process nothing is permitted, on any route", async () => {
    const rig = await start({ onStale: "serve", staleGraceMs: 60_000, ...publicAccess });
    rig.lease.overdueMs = Infinity;
    assert.equal((await rig.request({})).status, 503);
    rig.lease.overdueMs = -1;
    assert.equal((await rig.request({})).status, 200);
  });

  test("a WebSocket is closed with 4503, even an idle one", async () => {
    const rig = await start({ onStale: "deny", staleGraceMs: 0 }, (client) => client.send("hello"));
    const socket = await openSocket(rig);
    const closed = closeOf(socket);
    rig.lease.overdueMs = 1;
    assert.equal((await closed).code, 4_503);
  });

  test("not even the rest of a frame is forwarded: the process that fenced this node has not waited for it", async () => {
    const finish: { now?: () => void } = {};
    const rig = await start({ onStale: "deny", staleGraceMs: 0 }, (client) => {
      client.send("tick");
      const raw = (client as unknown as { _socket: Socket })._socket;
      raw.write(Buffer.concat([Buffer.from([0x82, 126, 0x10, 0x00]), Buffer.alloc(996)]));
      finish.now = () => raw.write(Buffer.alloc(3_100));
    });
    const socket = socketTo(rig);
    await once(socket, "message");
    await waitFor("half of the frame", () => bytesTo(socket) > 1_000);
    const before = bytesTo(socket);
    const closed = closeOf(socket);
    rig.lease.overdueMs = 1;
    finish.now?.();
    assert.equal((await closed).code, 1_006);
    assert.equal(bytesTo(socket), before);
  });

  describe("a response that arrives after the lease has expired is not forwarded", () => {
    /** An upstream that responds once the lease has expired. The caller gets the proxy's own response. */
    async function responseAfterLease(
      answer: (res: ServerResponse, socket: Duplex) => void,
      headers: Record<string, string> = {},
    ) {
      let rig: Rig | undefined;
      const expireLease = (): void => {
        if (rig !== undefined) rig.lease.overdueMs = 1;
      };
      const upstream = await startUpstream((req, res) => {
        expireLease();
        answer(res, req.socket);
      });
      upstream.server.on("upgrade", (req: IncomingMessage, socket: Duplex) => {
        expireLease();
        answer(new ServerResponse(req), socket);
      });
      rig = await startRig([routeTo(upstream.port, { allowWebsockets: true, staleGraceMs: 0 })]);
      const { close, port } = rig;
      cleanUps.push(close, upstream.close);
      await rig.apply(signedIn(1));
      const req = request({
        ...{ port, host: "127.0.0.1", agent: false, path: "/" },
        headers: { host: "app.localhost", cookie: cookieOf(1), ...headers },
      });
      req.on("error", () => {});
      req.end();
      return Promise.race([
        once(req, "response").then(([res]: IncomingMessage[]) => res?.resume().statusCode),
        once(req, "upgrade").then(([res]: IncomingMessage[]) => res?.statusCode),
      ]);
    }
    const handshake = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    };
    test("a head without a body", async () => {
      assert.equal(await responseAfterLease((res) => res.writeHead(204, { "x-secret": "s" }).end()), 503);
    });
    test("an accepted upgrade", async () => {
      const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
      const proof = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
      assert.equal(await responseAfterLease((_res, socket) => socket.write(accepted + proof), handshake), 503);
    });
    test("a refused upgrade", async () => {
      const refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
      assert.equal(await responseAfterLease((_res, socket) => socket.write(refused), handshake), 503);
    });
  });

  test("the caller's request body stops too", async () => {
    const upstream = await startUpstream((req) => void req.resume());
    const rig = await startRig([routeTo(upstream.port, { onStale: "deny", staleGraceMs: 0, timeoutMs: 0 })]);
    cleanUps.push(() => rig.close(), upstream.close);
    await rig.apply(signedIn(1));
    const req = request({
      port: rig.port,
      host: "127.0.0.1",
      agent: false,
      method: "POST",
      headers: { host: "app.localhost", cookie: cookieOf(1), accept: "application/json" },
    });
    req.write("one");
    await waitFor("the request to arrive", () => upstream.seen.length === 1);
    rig.lease.overdueMs = 1;
    req.write("two");
    const [res] = (await once(req, "response")) as [IncomingMessage];
    assert.equal(res.statusCode, 503);
    req.on("error", () => {});
    req.destroy();
  });
});

describe("time", () => {
  test("an expired session loses its streams, even idle ones", async () => {
    const rig = await start({}, (client) => client.send("hello"));
    await rig.apply(signedIn(7, { expiresAt: Date.now() + 400 }));
    const socket = await openSocket(rig, 7);
    assert.equal((await closeOf(socket)).code, 4_401);
    assert.equal((await rig.request({ session: 7 })).status, 302);
  });

  test("a stream whose membership ends by itself is cut at the end, also an idle one, and new requests are refused", async () => {
    const rig = await start(engOnly, (client) => client.send("hello"));
    const end = Date.now() + 700;
    await rig.apply(groupChanged({ added: [2] }), groupChanged({ added: [1], until: end }));
    const [socket, other] = [await openSocket(rig, 1), await openSocket(rig, 2)];
    const { code } = await closeOf(socket);
    assert.ok(Date.now() >= end, "not before the end");
    assert.ok(Date.now() < end + 1_000, `cut ${Date.now() - end} ms after the end`);
    assert.equal(code, 4_403);
    assert.equal((await rig.request({ session: 1 })).status, 403);
    assert.equal((await rig.request({ session: 2 })).status, 200);
    assert.equal(other.readyState, WebSocket.OPEN, "a membership without an end stays");
    const facts = rig.records.at(-2)?.trace?.facts ?? [];
    const group = facts.find(({ fact }) => fact === "group:eng");
    assert.deepEqual([group?.member, group?.until, group?.reason], [false, end, "on call"]);
  });

  test("a membership that is renewed in time keeps its streams open", async () => {
    const rig = await start(engOnly);
    const end = Date.now() + 500;
    await rig.apply(groupChanged({ added: [1], until: end }));
    const socket = await openSocket(rig, 1);
    await rig.apply(groupChanged({ added: [1], until: end + 3_600_000 }));
    await waitFor("the first end to pass", () => Date.now() > end + 400);
    assert.equal(socket.readyState, WebSocket.OPEN);
    assert.equal((await rig.request({ session: 1 })).status, 200);
  });

  test("session_lifetime of a route ends its streams and refuses the session there, however long it lasts", async () => {
    const rig = await start({ sessionLifetimeMs: Date.now() + 1_500 }); // the sessions of the rig began at 0
    const socket = await openSocket(rig);
    assert.equal((await rig.request({ session: 1 })).status, 200);
    assert.equal((await closeOf(socket)).code, 4_401);
    assert.equal((await rig.request({ session: 1 })).status, 302, "to the sign-in");
    assert.equal(rig.proxy.stats().cuts["session-ended"], 1);
  });

  test("max_stream_lifetime ends a stream that is otherwise permitted", async () => {
    const rig = await start({ maxStreamLifetimeMs: 1_500 });
    const socket = await openSocket(rig);
    assert.deepEqual(await closeOf(socket), { code: 4_408, reason: "stream lifetime over: connect again" });
    assert.equal(rig.proxy.stats().cuts.lifetime, 1);
  });

  test("timeout_write ends any open exchange on any route; the shorter of the two limits applies", async () => {
    for (const [lifetimeMs, writeMs] of [
      [0, 1_500],
      [3_600_000, 1_500],
      [1_500, 3_600_000],
    ] as const) {
      const rig = await start({ maxStreamLifetimeMs: lifetimeMs }, undefined, writeMs);
      const [stream, socket] = await Promise.all([openStream(rig), openSocket(rig)]);
      assert.equal((await closeOf(socket)).code, 4_408);
      assert.notEqual(await stream.ended, "end", "the response does not look complete");
      assert.equal(rig.proxy.stats().cuts.lifetime, 2);
    }
  });

  test("a WebSocket is closed after the route's idle timeout without a byte", async () => {
    const rig = await start({ idleTimeoutMs: 100 }, (client) => client.send("hello"));
    const socket = await openSocket(rig);
    assert.equal((await closeOf(socket)).code, 1_006);
  });
});

test("exchanges whose decision fails again are cut, counted and logged with the cause", async () => {
  const upstream = await startUpstream((_, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write("data: begun\n\n");
  });
  const route = routeTo(upstream.port, { timeoutMs: 0 });
  const compiled = compilePolicies([route]);
  assert.ok(compiled.ok);
  const fault = { cause: undefined as Error | undefined };
  const logged: (readonly [fields: object, message: string | undefined])[] = [];
  const rig = await startRig([route], {
    deps: {
      decide(question) {
        if (fault.cause !== undefined) throw fault.cause;
        return decide({ policies: compiled.policies, ...question });
      },
      logger: { debug() {}, info() {}, warn() {}, error: (fields, message) => void logged.push([fields, message]) },
    },
  });
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  await rig.apply(signedIn(1));
  const [one, two] = [await openStream(rig), await openStream(rig)];
  fault.cause = new Error("the policy cannot be evaluated");
  await rig.apply(userRecorded(1));
  assert.deepEqual(await Promise.all([one.ended, two.ended]), ["ECONNRESET", "ECONNRESET"]);
  assert.match(await rig.metrics(), /^cardea_proxy_redecision_failures_total 2$/m);
  const [fields] = logged.find(([, text]) => text?.startsWith("could not re-decide") === true) ?? [];
  assert.match(JSON.stringify(fields), /the policy cannot be evaluated/);
});

test("a cut of 1,000 WebSockets of one session is reported when all of them are gone, and 1,000 others stay open", async () => {
  const rig = await start({}, (client) => client.send("hello"));
  /**
   * 100 at a time: the backlog of a busy listener holds 511 connections, and the kernel drops the rest without a word
   * for up to a minute.
   */
  const openSockets = async (session: number): Promise<WebSocket[]> => {
    const sockets: WebSocket[] = [];
    while (sockets.length < 1_000)
      sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => openSocket(rig, session)))));
    return sockets;
  };
  const mine = await openSockets(1);
  const others = await openSockets(2);
  const codes = Promise.all(mine.map(closeOf));
  await rig.apply(sessionRevoked(1));
  assert.ok((await codes).every(({ code }) => code === 4_401));
  await waitFor("the last of them to end", () => rig.proxy.stats().exchanges.websocket === 1_000);
  for (const socket of others) socket.terminate();
  await waitFor("the other sockets to close", () => rig.proxy.stats().exchanges.websocket === 0);
});
