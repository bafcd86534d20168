/** HTTP/2 connection pool of an upstream, on real sockets. */
import assert from "node:assert/strict";
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createRawServer, type Server, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { Http2Pool } from "../../../src/proxy/http2/upstream-pool.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { UpstreamCall } from "../../../src/proxy/message/upstream-call.ts";
import { endHeaders, endStream, frame, frameTypes, serveFrames } from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";

type Upstream = Readonly<{
  pool: Http2Pool;
  server: Http2Server;
  /** Open sessions, in the order in which they arrived. */
  sessions: readonly ServerHttp2Session[];
  /** Number of sessions ever opened. */
  opened: () => number;
  /** Requests without a response yet, by path. */
  held: ReadonlyMap<string, ServerHttp2Stream>;
  answer(path: string): void;
}>;

function poolTo(
  server: Http2Server | Server,
  parts: Readonly<{ connectionsMax: number; callsMax?: number; idleMs?: number }>,
): Http2Pool {
  const { port } = server.address() as AddressInfo;
  const lookup = () => assert.fail("an address needs no look-up");
  return new Http2Pool(
    { secure: false, path: null, hostname: "127.0.0.1", port, lookup, tls: {} },
    { connectionsMax: parts.connectionsMax, connectTimeoutMs: 10_000, idleMs: parts.idleMs ?? 60_000 },
    parts.callsMax === undefined ? {} : { callsMax: parts.callsMax },
  );
}

/** Responds with the number of the connection, on request. */
async function startUpstream(
  t: TestContext,
  parts: Readonly<{ connectionsMax: number; streamsMax?: number; callsMax?: number }>,
): Promise<Upstream> {
  const sessions: ServerHttp2Session[] = [];
  const held = new Map<string, ServerHttp2Stream>();
  const numbers = new Map<ServerHttp2Session, number>();
  const server = createServer({ settings: { maxConcurrentStreams: parts.streamsMax ?? 100 } });
  server.on("session", (session) => {
    sessions.push(session);
    numbers.set(session, numbers.size + 1);
    session.on("close", () => sessions.splice(sessions.indexOf(session), 1));
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const { ":path": path = "" } = headers;
    stream.on("close", () => held.delete(path));
    held.set(path, stream as ServerHttp2Stream);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const pool = poolTo(server, parts);
  t.after(() => {
    pool.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  return {
    ...{ pool, server, sessions, held },
    opened: () => numbers.size,
    answer(path) {
      const stream = held.get(path);
      assert.ok(stream?.session, path);
      stream.respond({ ":status": 200 });
      stream.end(String(numbers.get(stream.session as ServerHttp2Session)));
    },
  };
}

type SentCall = Readonly<{ call: UpstreamCall; answer: Promise<string> }>;

function sendRequest(pool: Http2Pool, path: string, refused?: UpstreamCall): SentCall {
  let call: UpstreamCall | undefined;
  const answer = new Promise<string>((resolve, reject) => {
    let body = "";
    const headers = new HeaderLines(["host", "upstream"]);
    const request = { method: "GET", path, headers, requestId: null, hasBody: false, idleTimeoutMs: 0 };
    call = pool.call(
      request,
      {
        maySend: () => true,
        onWritable() {},
        onInformational() {},
        onHead() {},
        onData(chunk) {
          body += chunk.toString("latin1");
          return true;
        },
        onEnd: () => resolve(body),
        onError: reject,
      },
      refused,
    );
  });
  answer.catch(() => {}); // the caller of this helper awaits it
  return { call: call as UpstreamCall, answer };
}

test("with no more connections than allowed, further calls wait in order and are sent when there is room", async (t) => {
  const { pool, held, opened, answer } = await startUpstream(t, { connectionsMax: 2, streamsMax: 2 });
  const first = sendRequest(pool, "/warm");
  await waitFor("the request to arrive", () => held.has("/warm"));
  answer("/warm");
  await first.answer;
  const calls = [1, 2, 3, 4, 5, 6, 7].map((n) => sendRequest(pool, `/${n}`));
  await waitFor("four requests to arrive", () => held.size === 4);
  assert.deepEqual([pool.busy, pool.waiting, pool.isFull], [7, 3, true]);
  calls[5]?.call.abort();
  assert.deepEqual([pool.busy, pool.waiting], [6, 2]);
  answer("/1");
  await waitFor("the fifth request to arrive", () => held.has("/5"));
  assert.deepEqual([held.has("/7"), pool.waiting], [false, 1]);
  answer("/2");
  await waitFor("the seventh request to arrive", () => held.has("/7"));
  for (const path of ["/3", "/4", "/5", "/7"]) answer(path);
  await Promise.all(calls.filter((_, i) => i !== 5).map(({ answer: each }) => each));
  assert.deepEqual([opened(), pool.busy, pool.waiting, pool.isFull], [2, 0, 0, false]);
});

test("a waiting call gets the next connection when one breaks, or fails if there is none", async (t) => {
  const { pool, held, sessions, server, answer } = await startUpstream(t, { connectionsMax: 1, streamsMax: 1 });
  const broken = sendRequest(pool, "/broken");
  await waitFor("the request to arrive", () => held.has("/broken"));
  const waits = sendRequest(pool, "/waits");
  assert.equal(pool.waiting, 1);
  sessions[0]?.destroy();
  await assert.rejects(broken.answer);
  await waitFor("the waiting request to arrive", () => held.has("/waits"));
  const inVain = sendRequest(pool, "/in-vain");
  assert.equal(pool.waiting, 1);
  answer("/waits");
  assert.equal(await waits.answer, "2");
  await waitFor("the request to arrive", () => held.has("/in-vain"));
  const last = sendRequest(pool, "/last");
  server.close();
  sessions[0]?.destroy();
  await assert.rejects(inVain.answer);
  await assert.rejects(last.answer, { code: "ECONNREFUSED" });
  assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
});

test("a connection that has carried its maximum of calls accepts no more, and ends after the last one", async (t) => {
  const { pool, held, sessions, opened, answer } = await startUpstream(t, { connectionsMax: 10, callsMax: 3 });
  const long = sendRequest(pool, "/long");
  for (const [path, connection] of [
    ["/2", "1"],
    ["/3", "1"],
    ["/4", "2"],
    ["/5", "2"],
  ] as const) {
    const calls = sendRequest(pool, path);
    await waitFor(`${path} to arrive`, () => held.has(path));
    answer(path);
    assert.equal(await calls.answer, connection, path);
  }
  assert.deepEqual([sessions.length, opened()], [2, 2]);
  answer("/long");
  assert.equal(await long.answer, "1");
  await waitFor("the first connection to end", () => sessions.length === 1);
  const sixth = sendRequest(pool, "/6");
  await waitFor("the request to arrive", () => held.has("/6"));
  answer("/6");
  assert.equal(await sixth.answer, "2");
  await waitFor("the second connection to end, which has no calls left", () => sessions.length === 0);
  assert.equal(pool.busy, 0);
});

test("the flow-control window is bounded for a connection and for several of its streams", async (t) => {
  const { pool, held, sessions, answer } = await startUpstream(t, { connectionsMax: 1 });
  const calls = sendRequest(pool, "/");
  await waitFor("the request to arrive", () => held.has("/"));
  assert.equal(sessions[0]?.state.remoteWindowSize, 100 * 262_144);
  assert.equal(sessions[0]?.remoteSettings.initialWindowSize, 262_144);
  answer("/");
  await calls.answer;
});

test("many calls at once are spread over connections that are not yet established", async (t) => {
  const { pool, held, opened, answer } = await startUpstream(t, { connectionsMax: 10, callsMax: 3 });
  const calls = [1, 2, 3, 4, 5, 6, 7].map((n) => sendRequest(pool, `/${n}`));
  calls[1]?.call.abort();
  await waitFor("all requests to arrive", () => held.size === 6);
  assert.equal(opened(), 3);
  for (const path of [...held.keys()]) answer(path);
  await Promise.all(calls.filter((_, i) => i !== 1).map(({ answer: each }) => each));
});

test("a long stream on a connection that accepts no calls does not prevent a new connection", async (t) => {
  const { pool, held, sessions, answer } = await startUpstream(t, { connectionsMax: 1, streamsMax: 1 });
  const long = sendRequest(pool, "/long");
  await waitFor("the request to arrive", () => held.has("/long"));
  await waitFor("the stream limit of the upstream", () => pool.isFull);
  sessions[0]?.goaway(0);
  await waitFor("the GOAWAY of the upstream", () => !pool.isFull);
  const next = sendRequest(pool, "/next");
  await waitFor("the next request to arrive", () => held.has("/next"));
  answer("/next");
  assert.equal(await next.answer, "2");
  answer("/long");
  assert.equal(await long.answer, "1");
});

for (const [name, farewell] of [
  ["was idle for long", false],
  ["receives GOAWAY", true],
] as const)
  test(`a connection that ${name} is closed, even if the upstream never ends its side`, async (t) => {
    const sockets: Socket[] = [];
    let closed = false;
    const server = createRawServer({ allowHalfOpen: true }, (socket) => {
      sockets.push(socket);
      socket.on("close", () => {
        closed = true;
      });
      serveFrames(socket, ({ type, stream }) => {
        if (type !== frameTypes.headers) return;
        socket.write(frame(frameTypes.headers, endHeaders | endStream, stream, Buffer.from([0x88])));
        if (farewell) socket.write(frame(frameTypes.goAway, 0, 0, Buffer.from([0, 0, 0, stream, 0, 0, 0, 0])));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const pool = poolTo(server, { connectionsMax: 1, idleMs: farewell ? 60_000 : 50 });
    t.after(() => {
      pool.close();
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    assert.equal(await sendRequest(pool, "/").answer, "");
    const [socket] = sockets;
    await waitFor(
      "the connection to close, which only a write reveals",
      () => {
        if (socket?.readableEnded) socket.write(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
        return closed;
      },
      { withinMs: 30_000 },
    );
    assert.equal(pool.isFull, false);
  });

test("a call that the only connection refused unprocessed is sent on it again if there can be no other", async (t) => {
  const { pool, held, opened, answer } = await startUpstream(t, { connectionsMax: 1 });
  const refused = sendRequest(pool, "/refused");
  await waitFor("the request to arrive", () => held.has("/refused"));
  held.get("/refused")?.close(7); // REFUSED_STREAM
  await assert.rejects(refused.answer);
  const again = sendRequest(pool, "/again", refused.call);
  await waitFor("the request to arrive again", () => held.has("/again"));
  answer("/again");
  assert.equal(await again.answer, "1");
  assert.equal(opened(), 1);
});
