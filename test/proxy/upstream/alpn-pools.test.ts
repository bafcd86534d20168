/** Pool of an upstream that chooses HTTP/2 or HTTP/1.1 by ALPN, on real TLS sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { constants, createSecureServer, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { after, before, type TestContext, test } from "node:test";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { CallFailure, UpstreamCall, UpstreamPool } from "../../../src/proxy/message/upstream-call.ts";
import { AlpnPools } from "../../../src/proxy/upstream/alpn-pools.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";

let authority: Authority;
let issued: Issued;
before(async () => {
  authority = await Authority.root();
  issued = await authority.issue({ hosts: ["upstream.localhost"] });
});
const sockets = new Set<Socket>();
after(() => {
  for (const socket of sockets) socket.destroy();
});

type Upstream = Readonly<{ port: number; handshakes: string[]; stop(): Promise<void> }>;

/** @param server `handshakes` gets what each connection chose, `false` for nothing */
async function listen(server: TlsServer, port = 0): Promise<Upstream> {
  const own = new Set<Socket>();
  const handshakes: string[] = [];
  const keep = (socket: Socket): void => {
    own.add(socket);
    sockets.add(socket);
  };
  server.on("connection", keep);
  server.on("secureConnection", (socket: TLSSocket) => {
    handshakes.push(String(socket.alpnProtocol));
    keep(socket);
  });
  server.on("tlsClientError", () => {});
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    handshakes,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of own) socket.destroy();
      await closed;
    },
  };
}

/** Answers with its protocol. Streams of `/held` wait until `answer` is called. */
const speaks = {
  both: (held?: (stream: ServerHttp2Stream) => void) =>
    createSecureServer({ ...issued, allowHTTP1: true }, (req, res) => {
      if (req.url === "/held") held?.(req.stream);
      else res.end(`${req.url} by ${req.httpVersion}`);
    }),
  http1: () => createHttpsServer(issued, (req, res) => void res.end(`${req.url} by ${req.httpVersion}`)),
};

function poolTo(t: TestContext, port: number, connectionsMax = 100): AlpnPools {
  const lookup = () => assert.fail("an address needs no look-up");
  const tls = { ca: authority.pem, servername: "upstream.localhost", ALPNProtocols: ["http/1.1"] };
  const address = { secure: true, path: null, hostname: "127.0.0.1", port, lookup, tls };
  const pool = new AlpnPools(address, { connectionsMax, connectTimeoutMs: 10_000, idleMs: 60_000 });
  t.after(() => pool.close());
  return pool;
}

type Sent = Readonly<{ call: UpstreamCall; answer: Promise<string>; failure: () => CallFailure | undefined }>;

function send(pool: UpstreamPool, path: string, lines: readonly string[] = []): Sent {
  let failure: CallFailure | undefined;
  let sent: UpstreamCall | undefined;
  const answer = new Promise<string>((resolve, reject) => {
    let body = "";
    const headers = new HeaderLines(["host", "upstream", ...lines]);
    const request = { method: "GET", path, headers, requestId: null, hasBody: false, idleTimeoutMs: 0 };
    const call = pool.call(request, {
      maySend(begun) {
        sent = begun;
        return true;
      },
      onWritable() {},
      onInformational() {},
      onHead() {},
      onData(chunk) {
        body += chunk.toString("latin1");
        return true;
      },
      onEnd: () => resolve(body),
      onError(error, reason) {
        failure = reason;
        reject(error);
      },
    });
    sent ??= call;
  });
  answer.catch(() => {}); // the test awaits it
  return { call: sent as UpstreamCall, answer, failure: () => failure };
}

const paths = Array.from({ length: 30 }, (_, n) => `/${n}`);
const sendAll = (pool: UpstreamPool): Promise<string[]> => Promise.all(paths.map((path) => send(pool, path).answer));
const answersBy = (version: string): string[] => paths.map((path) => `${path} by ${version}`);

test("calls share one attempt until the protocol is known: HTTP/2 then needs no other connection", async (t) => {
  const upstream = await listen(speaks.both());
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  const all = sendAll(pool);
  assert.deepEqual([pool.busy, pool.waiting, pool.isFull], [30, 0, false]);
  assert.deepEqual(await all, answersBy("2.0"));
  assert.deepEqual(upstream.handshakes, ["h2"]);
  assert.equal(pool.busy, 0);
  await sendAll(pool);
  assert.deepEqual(upstream.handshakes, ["h2"]);
});

test("an upstream without HTTP/2 gets HTTP/1.1, also on the connection that showed it", async (t) => {
  for (const server of [speaks.http1(), silentAboutProtocols()]) {
    const upstream = await listen(server);
    t.after(upstream.stop);
    const pool = poolTo(t, upstream.port, 5);
    const all = sendAll(pool);
    assert.deepEqual([pool.busy, pool.waiting, pool.isFull], [30, 25, true]);
    assert.deepEqual(await all, answersBy("1.1"));
    assert.ok(upstream.handshakes.length <= 5, String(upstream.handshakes));
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  }
});

/** Knows no ALPN at all. */
function silentAboutProtocols(): TlsServer {
  const server = createTlsServer({ ...issued, ALPNProtocols: [] }, (socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const text = `${/^GET (\S+)/.exec(String(bytes))?.[1]} by 1.1`;
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
    });
  });
  return server;
}

for (const [from, to] of [
  ["2.0", "1.1"],
  ["1.1", "2.0"],
] as const)
  test(`an upstream that restarts with HTTP/${to} instead of HTTP/${from} loses no request`, async (t) => {
    const start = (version: string) => (version === "2.0" ? speaks.both() : speaks.http1());
    const first = await listen(start(from));
    const pool = poolTo(t, first.port, 10);
    assert.deepEqual(await sendAll(pool), answersBy(from));
    await first.stop();
    const second = await listen(start(to), first.port);
    t.after(second.stop);
    await waitFor("the pool to notice that its connections are closed", async () => {
      const answer = await send(pool, "/").answer.catch(() => "");
      return answer === `/ by ${to}`;
    });
    assert.deepEqual(await sendAll(pool), answersBy(to));
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

for (const [was, is] of [
  ["2.0", "1.1"],
  ["1.1", "2.0"],
] as const)
  test(`calls that wait for a connection move from HTTP/${was} to HTTP/${is} together; an aborted one is not sent`, async (t) => {
    const start = (version: string) => (version === "2.0" ? speaks.both() : speaks.http1());
    const first = await listen(start(was));
    const pool = poolTo(t, first.port, 2);
    await send(pool, "/").answer;
    await first.stop();
    const second = await listen(start(is), first.port);
    t.after(second.stop);
    await new Promise((resolve) => setTimeout(resolve, 50)); // the end of the old connection has been read
    const sent = paths.map((path) => send(pool, path));
    sent[3]?.call.abort();
    const answers = await Promise.all(sent.filter((_, n) => n !== 3).map(({ answer }) => answer));
    assert.deepEqual(
      answers,
      answersBy(is).filter((_, n) => n !== 3),
    );
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

test("when the attempt fails, all calls that wait for it fail, and the next one tries again", async (t) => {
  const upstream = await listen(speaks.both());
  await upstream.stop();
  const pool = poolTo(t, upstream.port);
  const failed = paths.map((path) => send(pool, path));
  for (const { answer } of failed) await assert.rejects(answer, { code: "ECONNREFUSED" });
  assert.equal(pool.busy, 0);
  const again = await listen(speaks.both(), upstream.port);
  t.after(again.stop);
  assert.equal(await send(pool, "/").answer, "/ by 2.0");
});

test("a call that is aborted while the protocol is unknown is not sent, and the others are", async (t) => {
  const upstream = await listen(speaks.both());
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  const [first, second] = [send(pool, "/1"), send(pool, "/2")];
  first.call.abort();
  assert.equal(pool.busy, 1);
  assert.equal(await second.answer, "/2 by 2.0");
  const alone = poolTo(t, upstream.port);
  send(alone, "/").call.abort();
  assert.equal(alone.busy, 0);
  assert.equal(await send(alone, "/3").answer, "/3 by 2.0");
});

test("a certificate that does not verify fails every call", async (t) => {
  const stranger = await (await Authority.root()).issue({ hosts: ["upstream.localhost"] });
  const upstream = await listen(createSecureServer({ ...stranger, allowHTTP1: true }, (_req, res) => void res.end()));
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  for (const { answer } of [send(pool, "/"), send(pool, "/")])
    await assert.rejects(answer, { code: "CERT_SIGNATURE_FAILURE" });
});

test("HTTP_1_1_REQUIRED: the request was not processed, and from then on the upstream gets HTTP/1.1", async (t) => {
  const upstream = await listen(speaks.both((stream) => stream.close(constants.NGHTTP2_HTTP_1_1_REQUIRED)));
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  const refused = send(pool, "/held");
  await assert.rejects(refused.answer);
  assert.deepEqual(refused.failure(), { staleConnection: false, unprocessed: true });
  assert.equal(await send(pool, "/a").answer, "/a by 1.1");
});

test("gRPC shares the connection of an upstream with HTTP/2, and has its own elsewhere", async (t) => {
  const grpc = ["content-type", "application/grpc"];
  const upstream = await listen(speaks.both());
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  assert.equal(await send(pool, "/a").answer, "/a by 2.0");
  assert.equal(await send(pool.grpcPool, "/b", grpc).answer, "/b by 2.0");
  assert.deepEqual(upstream.handshakes, ["h2"]);
  const unknown = poolTo(t, upstream.port);
  assert.equal(await send(unknown.grpcPool, "/b", grpc).answer, "/b by 2.0");
  const old = await listen(speaks.http1());
  t.after(old.stop);
  const without = poolTo(t, old.port);
  assert.equal(await send(without, "/a").answer, "/a by 1.1");
  await assert.rejects(send(without.grpcPool, "/b", grpc).answer);
  assert.equal(without.busy, 0);
});

test("a call goes to the connection with the fewest streams; a new connection is opened when all are full", async (t) => {
  const held: ServerHttp2Stream[] = [];
  const server = createSecureServer({ ...issued, settings: { maxConcurrentStreams: 3 } }, (req) =>
    held.push(req.stream),
  );
  const upstream = await listen(server);
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port, 3);
  const perSession = () => {
    const counts = new Map<object, number>();
    for (const { session } of held) if (session) counts.set(session, (counts.get(session) ?? 0) + 1);
    return [...counts.values()];
  };
  const answer = (stream: ServerHttp2Stream | undefined): void => {
    assert.ok(stream !== undefined);
    held.splice(held.indexOf(stream), 1);
    stream.respond({ ":status": 200 });
    stream.end("fine");
  };
  const warm = send(pool, "/");
  await waitFor("the first request to arrive", () => held.length === 1);
  answer(held[0]);
  await warm.answer;
  const sent = Array.from({ length: 8 }, () => send(pool, "/"));
  await waitFor("all requests to arrive", () => held.length === 8);
  assert.deepEqual(perSession(), [3, 3, 2]);
  const first = held[0]?.session;
  for (const stream of held.filter(({ session }) => session === first).slice(0, 2)) answer(stream);
  await waitFor("two calls to end", () => pool.busy === 6);
  sent.push(send(pool, "/next"));
  await waitFor("the request to arrive", () => held.length === 7);
  assert.equal(held.at(-1)?.session, first);
  for (const stream of [...held]) answer(stream);
  await Promise.all(sent.map((each) => each.answer));
  assert.deepEqual(upstream.handshakes, ["h2", "h2", "h2"]);
});

test("an upstream that accepts fewer streams than it was sent gets the rest when it has room", async (t) => {
  const held: ServerHttp2Stream[] = [];
  const server = createSecureServer({ ...issued, settings: { maxConcurrentStreams: 20 } }, (req) =>
    held.push(req.stream),
  );
  const upstream = await listen(server);
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port, 1);
  const sent = paths.map((path) => send(pool, path));
  await waitFor("as many requests as it allows", () => held.length === 20);
  await waitFor("the others to wait", () => pool.waiting === 10);
  for (const stream of held) {
    stream.respond({ ":status": 200 });
    stream.end("fine");
  }
  await waitFor("the others to arrive", () => held.length === 30);
  for (const stream of held.slice(20)) {
    stream.respond({ ":status": 200 });
    stream.end("fine");
  }
  assert.deepEqual(new Set(await Promise.all(sent.map(({ answer }) => answer))), new Set(["fine"]));
});

test("closing the pool fails the calls that wait for the protocol", async (t) => {
  const deaf = createTlsServer(issued).on("error", () => {});
  deaf.removeAllListeners("connection"); // no handshake
  const upstream = await listen(deaf);
  t.after(upstream.stop);
  const pool = poolTo(t, upstream.port);
  const sent = send(pool, "/");
  pool.close();
  await assert.rejects(sent.answer, { code: "ERR_PROXY_UPSTREAM_CLOSED" });
});
