/**
 * Forwarding of ordinary requests, through a real proxy to a real upstream: streaming, disconnects, failures and
 * retries.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from "node:http";
import { connect as connectHttp2, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, describe, type TestContext, test } from "node:test";
import type { RouteConfig } from "../../src/config/index.ts";
import type { ProxyDeps } from "../../src/proxy/index.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "./support.ts";

type Handler = (req: IncomingMessage, res: ServerResponse) => void;
const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

async function start(
  handler?: Handler,
  parts: Partial<RouteConfig> = {},
  options: Parameters<typeof startRig>[1] = {},
): Promise<{ rig: Rig; upstream: Upstream }> {
  const upstream = await startUpstream(handler);
  const rig = await startRig([routeTo(upstream.port, parts)], options);
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  return { rig, upstream };
}

function begin(
  rig: Rig,
  options: { path?: string; method?: string; headers?: Record<string, string> } = {},
): ClientRequest {
  const req = request({
    port: rig.port,
    host: "127.0.0.1",
    agent: false,
    path: options.path ?? "/",
    method: options.method ?? "GET",
    headers: { host: "app.localhost", cookie: cookieOf(1), ...options.headers },
  });
  req.on("error", () => {});
  return req;
}

describe("a request and its response", () => {
  test("the request arrives with the method, path, query, headers and body that were sent", async () => {
    const { rig } = await start();
    const answer = await rig.request({
      method: "PUT",
      path: "/a%20b//c?x=1&y=%zz&pomerium_session=q",
      session: 1,
      headers: { "x-own": ["1", "2"], cookie: `a=1; ${cookieOf(1)}; b=2` },
      body: "hello",
    });
    const seen = JSON.parse(answer.body);
    assert.equal(answer.status, 200);
    assert.deepEqual([seen.method, seen.url, seen.body], ["PUT", "/a%20b/c?x=1&y=%zz", "hello"]);
    assert.deepEqual(valuesOf(seen.rawHeaders, "x-own"), ["1", "2"]);
    assert.deepEqual(valuesOf(seen.rawHeaders, "cookie"), ["a=1; b=2"]);
    assert.deepEqual(valuesOf(seen.rawHeaders, "x-request-id"), [answer.headers["x-request-id"]]);
  });

  test("the response keeps its status, headers and cookies; session cookies of Cardea are dropped", async () => {
    const { rig } = await start((_req, res) => {
      res.writeHead(418, ["Set-Cookie", "a=1", "Set-Cookie", "_pomerium=evil", "X-Frame-Options", "DENY", "X-Up", "1"]);
      res.end("tea");
    });
    const answer = await rig.request({ session: 1 });
    assert.deepEqual([answer.status, answer.body], [418, "tea"]);
    assert.deepEqual(answer.headers["set-cookie"], ["a=1"]);
    assert.deepEqual([answer.headers["x-frame-options"], answer.headers["x-up"]], ["SAMEORIGIN", "1"]);
    assert.equal(answer.headers["x-pomerium-intercepted-response"], undefined);
  });

  test("a response to HEAD keeps its length and has no body; 204 and 304 have none", async () => {
    const { rig } = await start((req, res) => {
      if (req.url === "/204") res.writeHead(204).end();
      else if (req.url === "/304") res.writeHead(304, { etag: '"x"' }).end();
      else res.writeHead(200, { "content-length": "5" }).end("hello");
    });
    const head = await rig.request({ method: "HEAD", session: 1 });
    assert.deepEqual([head.status, head.headers["content-length"], head.body], [200, "5", ""]);
    assert.deepEqual((await rig.request({ path: "/204", session: 1 })).status, 204);
    assert.deepEqual((await rig.request({ path: "/304", session: 1 })).headers.etag, '"x"');
  });

  test("early hints are forwarded", async () => {
    const { rig } = await start((_req, res) => {
      res.writeEarlyHints({ link: "</style.css>; rel=preload" });
      res.end("ok");
    });
    const req = begin(rig);
    const hints: IncomingMessage["headers"][] = [];
    req.on("information", ({ statusCode, headers }) => statusCode === 103 && hints.push(headers));
    req.end();
    const [res] = (await once(req, "response")) as [IncomingMessage];
    res.resume();
    assert.equal(hints[0]?.["link"], "</style.css>; rel=preload");
  });

  test("response trailers are forwarded to a caller that sends TE: trailers", async () => {
    const { rig } = await start((_req, res) => {
      res.writeHead(200, { trailer: "x-sum" });
      res.write("a");
      res.addTrailers({ "x-sum": "1", "set-cookie": "_pomerium=evil" });
      res.end();
    });
    const lines = (te: string) =>
      `GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n${te}Connection: close\r\n\r\n`;
    assert.match(await rig.sendRaw(lines("TE: trailers\r\n")), /\r\n0\r\nx-sum: 1\r\n\r\n$/);
    assert.match(await rig.sendRaw(lines("")), /\r\n0\r\n\r\n$/);
  });

  test("request trailers are forwarded, except for fields that a trailer may not set", async () => {
    const seen: string[][] = [];
    const { rig } = await start((req, res) => {
      req.resume();
      req.on("end", () => {
        seen.push(req.rawTrailers);
        res.end("ok");
      });
    });
    const answer = await rig.sendRaw(
      `POST / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n` +
        "5\r\nhello\r\n0\r\nx-sum: 7\r\nX-Pomerium-Claim-Email: mallory\r\ncookie: _pomerium=s2\r\n\r\n",
      10_000,
    );
    assert.match(answer, /^HTTP\/1\.1 200 /);
    assert.deepEqual(seen, [["x-sum", "7"]]);
  });

  test("an HTTP/2 upstream gets request trailers too, and a plain end where there are none", async () => {
    const server = createHttp2Server();
    const seen: unknown[] = [];
    const sessions = new Set<{ destroy(): void }>();
    server.on("session", (session) => sessions.add(session));
    server.on("stream", (stream: ServerHttp2Stream) => {
      let trailers: readonly string[] = [];
      stream.on("trailers", (_headers, _flags, raw: readonly string[]) => {
        trailers = raw;
      });
      stream.resume();
      stream.on("end", () => {
        seen.push(trailers);
        stream.respond({ ":status": 200 });
        stream.end("ok");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const rig = await startRig([routeTo(0, { to: [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }] })]);
    cleanUps.push(
      () => rig.close(),
      async () => {
        for (const session of sessions) session.destroy();
        server.close();
      },
    );
    await rig.apply(signedIn(1));
    const chunked = (rest: string) =>
      `POST / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n${rest}\r\n`;
    assert.match(await rig.sendRaw(chunked("X-Sum: 7\r\n"), 10_000), /ok/);
    assert.match(await rig.sendRaw(chunked(""), 10_000), /ok/);
    assert.deepEqual(seen, [["x-sum", "7"], []]);
    // Node refuses some trailers in its own API. A caller that sends them must not cause an error.
    assert.match(await rig.sendRaw(chunked("Date: 1\r\nDate: 2\r\nConstructor: 3\r\n"), 10_000), /ok/);
    assert.deepEqual(seen.at(-1), ["date", "1", "date", "2", "constructor", "3"]);
  });

  test("100 Continue is sent only once the request is permitted and its upstream is reachable", async () => {
    const { rig } = await start();
    const head = (session: string) =>
      `POST / HTTP/1.1\r\nHost: app.localhost\r\n${session}Accept: application/json\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`;
    assert.match(await rig.sendRaw(head(`Cookie: ${cookieOf(1)}\r\n`)), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
    assert.match(await rig.sendRaw(head("")), /^HTTP\/1\.1 401 /);
  });

  test("an HTTP/1.0 request never gets 100 Continue", async () => {
    const { rig } = await start();
    const head = `POST / HTTP/1.0\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nExpect: 100-continue\r\n`;
    assert.match(await rig.sendRaw(`${head}Content-Length: 2\r\n\r\nhi`, 10_000), /^HTTP\/1\.1 200 /);
  });

  test("a request to a reserved path gets 100 Continue when its handler reads the body", async () => {
    const read: ProxyDeps["reserved"] = (req, res) => {
      let body = "";
      req.on("data", (chunk: Buffer) => {
        body += chunk.toString("latin1");
      });
      req.on("end", () => res.end(`read ${body}`));
    };
    const rig = await startRig([], { deps: { reserved: read } });
    const socket = connect(rig.port, "127.0.0.1");
    let received = "";
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
    });
    socket.write(
      "POST /.pomerium/x HTTP/1.1\r\nHost: app.localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    await waitFor("100 Continue", () => received === "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write("hello");
    await waitFor("the response", () => received.endsWith("read hello"));
    socket.destroy();
    await rig.close();
  });
});

describe("streaming", () => {
  test("the first part of a response arrives before the last exists", async () => {
    let finish = (): void => {};
    const { rig } = await start((_req, res) => {
      res.writeHead(200, { "content-type": "text/event-stream" });
      res.write("data: 1\n\n");
      finish = () => res.end("data: 2\n\n");
    });
    const req = begin(rig);
    req.end();
    const [res] = (await once(req, "response")) as [IncomingMessage];
    const [first] = (await once(res, "data")) as [Buffer];
    assert.equal(first.toString(), "data: 1\n\n");
    finish();
    const [second] = (await once(res, "data")) as [Buffer];
    assert.equal(second.toString(), "data: 2\n\n");
  });

  test("the head of a response arrives before its first body byte exists", async () => {
    const { rig } = await start((_req, res) => res.writeHead(200).flushHeaders());
    const req = begin(rig);
    req.end();
    const [res] = (await once(req, "response")) as [IncomingMessage];
    assert.equal(res.statusCode, 200);
    req.destroy();
  });

  test("the first part of a request body arrives before the last is sent", async () => {
    const { rig } = await start((req, res) => req.once("data", (chunk) => res.end(`got ${chunk}`)));
    const req = begin(rig, { method: "POST" });
    req.write("one");
    const [res] = (await once(req, "response")) as [IncomingMessage];
    const [answer] = (await once(res, "data")) as [Buffer];
    assert.equal(answer.toString(), "got one");
    req.destroy();
  });

  test("a slow caller slows down a fast upstream: 200 MB are not buffered", async (t) => {
    const total = 200 * 1_048_576;
    let sent = 0;
    const chunk = Buffer.alloc(65_536, 1);
    const { rig } = await start((_req, res) => {
      const sendMore = (): void => {
        while (sent < total) {
          sent += chunk.length;
          if (!res.write(chunk)) {
            res.once("drain", sendMore);
            return;
          }
        }
        res.end();
      };
      sendMore();
    });
    await assertBounded(t, { rig, total, moved: () => sent });
  });

  test("a slow upstream slows down a fast caller: 200 MB are not buffered", async (t) => {
    const total = 200 * 1_048_576;
    const { rig, upstream } = await start((req) => void req.socket.pause());
    const socket = connect(rig.port, "127.0.0.1");
    socket.write(
      `POST / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nContent-Length: ${total}\r\n\r\n`,
    );
    const before = memory();
    const chunk = Buffer.alloc(65_536, 1);
    let sent = 0;
    const sendMore = (): void => {
      while (sent < total) {
        sent += chunk.length;
        if (!socket.write(chunk)) {
          socket.once("drain", sendMore);
          return;
        }
      }
    };
    sendMore();
    await waitFor("the request to arrive", () => upstream.seen.length > 0);
    const stalledAt = await stalledValue(() => sent);
    t.diagnostic(`${stalledAt} bytes were accepted before the transfer stalled`);
    assert.ok(stalledAt < total / 4, `${stalledAt} of ${total} bytes were accepted`);
    assert.ok(memory() - before < 64 * 1_048_576, `${memory() - before} bytes grew`);
    socket.destroy();
  });
});

async function assertBounded(
  t: TestContext,
  { rig, total, moved: producedBytes }: { rig: Rig; total: number; moved: () => number },
): Promise<void> {
  const before = memory();
  const socket = connect(rig.port, "127.0.0.1");
  socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: close\r\n\r\n`);
  await once(socket, "readable"); // and reads nothing more
  const stalledAt = await stalledValue(producedBytes);
  t.diagnostic(`${stalledAt} bytes were produced before the transfer stalled`);
  assert.ok(stalledAt < total / 4, `${stalledAt} of ${total} bytes were produced`);
  assert.ok(memory() - before < 64 * 1_048_576, `${memory() - before} bytes grew`);
  let read = 0;
  socket.on("data", (chunk) => {
    read += chunk.length;
  });
  await once(socket, "close");
  assert.ok(read > total, "the whole response arrives once the caller reads");
}

const memory = (): number => process.memoryUsage().rss;
/** The value once it has stopped changing. */
async function stalledValue(value: () => number): Promise<number> {
  let last = -1;
  return waitFor(
    "the transfer to stall",
    () => {
      const now = value();
      const same = now === last && now > 0;
      last = now;
      return same ? now : undefined;
    },
    { everyMs: 200 },
  );
}

describe("a disconnect on one side ends the exchange on the other", () => {
  test("a caller that disconnects before the response", async () => {
    const disconnected = deferred<number>();
    const { rig, upstream } = await start((req) => void req.on("close", () => disconnected.resolve(performance.now())));
    const req = begin(rig);
    req.end();
    await waitFor("the request to arrive", () => upstream.seen.length === 1);
    const disconnectedAt = performance.now();
    req.destroy();
    assert.ok((await disconnected.promise) - disconnectedAt < 1_000);
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0);
  });

  test("a caller that disconnects in the middle of a response", async () => {
    const disconnected = deferred<void>();
    const { rig } = await start((_req, res) => {
      const timer = setInterval(() => res.write("x"), 5);
      res.on("close", () => {
        clearInterval(timer);
        disconnected.resolve();
      });
    });
    const req = begin(rig);
    req.end();
    const [res] = (await once(req, "response")) as [IncomingMessage];
    await once(res, "data");
    req.destroy();
    await disconnected.promise;
  });

  test("a caller that disconnects in the middle of its request", async () => {
    const disconnected = deferred<void>();
    const { rig, upstream } = await start((req) => {
      req.resume();
      req.on("close", () => disconnected.resolve());
    });
    const req = begin(rig, { method: "POST", headers: { "content-length": "100" } });
    req.write("part");
    await waitFor("the request to arrive", () => upstream.seen.length === 1);
    req.destroy();
    await disconnected.promise;
  });

  /** Fills all buffers between this test and an upstream that does not read. */
  async function stall(write: (chunk: Buffer) => boolean, onDrain: (sendMore: () => void) => void): Promise<void> {
    const chunk = Buffer.alloc(65_536, 1);
    let sent = 0;
    const sendMore = (): void => {
      while (sent < 200 * 1_048_576) {
        sent += chunk.length;
        if (!write(chunk)) {
          onDrain(sendMore);
          return;
        }
      }
    };
    sendMore();
    await stalledValue(() => sent);
  }

  test("a caller that resets its connection while its upload is stalled", async () => {
    const disconnected = deferred<void>();
    const { rig } = await start(
      (req) => {
        req.socket.pause();
        req.socket.on("error", () => {});
      },
      { timeoutMs: 0 },
    );
    const socket = connect(rig.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.on("close", () => disconnected.resolve());
    socket.write(
      `POST / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nContent-Length: 300000000\r\n\r\n`,
    );
    await stall(
      (chunk) => socket.write(chunk),
      (sendMore) => void socket.once("drain", sendMore),
    );
    assert.equal(rig.proxy.stats().exchanges.http, 1);
    socket.resetAndDestroy();
    await disconnected.promise;
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0, { withinMs: 5_000 });
  });

  test("an HTTP/2 caller that cancels its request while its upload is stalled", async () => {
    const { rig, upstream } = await start((req) => void req.socket.pause(), { timeoutMs: 0 });
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    session.on("error", () => {});
    const stream = session.request({ ":method": "POST", ":authority": "app.localhost", cookie: cookieOf(1) });
    stream.on("error", () => {});
    await stall(
      (chunk) => stream.write(chunk),
      (sendMore) => void stream.once("drain", sendMore),
    );
    assert.deepEqual([upstream.seen.length, rig.proxy.stats().exchanges.http], [1, 1]);
    stream.close(8);
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0, { withinMs: 5_000 });
    session.destroy();
  });

  test("1,000 callers that disconnect leave no exchange and no connection behind", async () => {
    const { rig, upstream } = await start(() => {});
    const callers = Array.from({ length: 1_000 }, () => begin(rig));
    for (const caller of callers) caller.end();
    await waitFor("all requests to arrive", () => upstream.seen.length >= 1_000);
    for (const caller of callers) caller.destroy();
    await waitFor("all exchanges to end", () => rig.proxy.stats().exchanges.http === 0, { withinMs: 3_000 });
    assert.deepEqual(rig.proxy.stats().inFlight, { http: 0, websocket: 0, tcp: 0, udp: 0 });
    const connections = () => new Promise<number>((resolve) => upstream.server.getConnections((_e, n) => resolve(n)));
    await waitFor("the upstream's connections to close", async () => (await connections()) === 0);
  });

  test("an upstream that disconnects in the middle of its response: the caller sees an aborted response, not a short one", async () => {
    const { rig } = await start((_req, res) => {
      res.writeHead(200, { "content-length": "100" });
      res.write("half");
      setImmediate(() => res.destroy());
    });
    await assert.rejects(rig.request({ session: 1 }), /aborted|ECONNRESET|socket hang up/);
  });

  test("an upstream that answers without reading the request: the response arrives, and the connection is still usable", async () => {
    const { rig } = await start((req, res) => {
      if (req.method === "POST") res.writeHead(413).end("too much");
      else res.end("fine");
    });
    const body = "x".repeat(300_000);
    const answer = await rig.sendRaw(
      `POST / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nContent-Length: ${body.length}\r\n\r\n${body}` +
        `GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: close\r\n\r\n`,
    );
    assert.deepEqual(
      [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => status),
      ["413", "200"],
    );
  });
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  const { promise, resolve } = Promise.withResolvers<T>();
  return { promise, resolve };
}

describe("failures", () => {
  test("an upstream that refuses connections: 503, as a page or as JSON", async () => {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port)]);
    cleanUps.push(() => rig.close());
    await upstream.close();
    await rig.apply(signedIn(1));
    const page = await rig.request({ session: 1, headers: { accept: "text/html" } });
    assert.equal(page.status, 503);
    assert.match(page.body, /<html>/);
    assert.equal(page.headers["x-pomerium-intercepted-response"], "true");
    const json = await rig.request({
      session: 1,
      method: "POST",
      body: "x".repeat(100_000),
      headers: { accept: "application/json" },
    });
    assert.equal(json.status, 503);
    assert.deepEqual(JSON.parse(json.body), {
      status: 503,
      statusText: "Service unavailable",
      requestId: json.headers["x-request-id"],
    });
    assert.ok(!json.body.includes(String(upstream.port)), "the upstream's port is not revealed");
  });

  test("an upstream that does not speak HTTP: 502", async () => {
    const { port, close } = await startRaw((socket) => socket.end("SSH-2.0-OpenSSH\r\n"));
    const rig = await startRig([routeTo(port)]);
    cleanUps.push(() => rig.close(), close);
    await rig.apply(signedIn(1));
    assert.equal((await rig.request({ session: 1 })).status, 502);
  });

  test("a body that does not end within the route's timeout: 408", async () => {
    const { rig } = await start((req, res) => void req.resume().on("end", () => res.end("all of it")), {
      timeoutMs: 200,
    });
    const headers = { host: "app.localhost", cookie: cookieOf(1), "transfer-encoding": "chunked" };
    const sent = request({ port: rig.port, host: "127.0.0.1", method: "POST", headers });
    sent.on("error", () => {});
    const response = once(sent, "response");
    const trickle = setInterval(() => sent.write("x"), 20); // never idle, and never complete
    const [res] = await response;
    clearInterval(trickle);
    sent.destroy();
    assert.equal(res.statusCode, 408, "the proxy waits for the caller, not for the upstream");
  });
  test("a lifetime that ends before the response begins: 504, without a word of a shutdown", async () => {
    const { rig } = await start(() => {}, { maxStreamLifetimeMs: 200 });
    const answer = await rig.request({ session: 1, headers: { accept: "application/json" } });
    assert.deepEqual([answer.status, JSON.parse(answer.body).statusText], [504, "Gateway timeout"]);
  });
  test("an upstream that does not answer in time: 504, and its request is aborted", async () => {
    const disconnected = deferred<void>();
    const { rig } = await start((req) => void req.on("close", () => disconnected.resolve()), { timeoutMs: 50 });
    const answer = await rig.request({ session: 1 });
    assert.equal(answer.status, 504);
    await disconnected.promise;
  });

  test("a response that takes longer than the route's timeout is cut off", async () => {
    const { rig } = await start((_req, res) => void res.write("x"), { timeoutMs: 50 });
    await assert.rejects(rig.request({ session: 1 }), /aborted|ECONNRESET|socket hang up/);
  });

  test("the exchange of a caller that stops reading ends after the route's idle timeout", async () => {
    const chunk = Buffer.alloc(16 * 1_048_576);
    const { rig } = await start((_req, res) => res.end(chunk), { timeoutMs: 0, idleTimeoutMs: 200 });
    const socket = connect(rig.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`);
    await once(socket, "readable");
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.http === 0, { withinMs: 3_000 });
    socket.destroy();
  });

  test("a response that stalls is cut off after the route's idle timeout", async () => {
    const { rig } = await start((_req, res) => void res.write("x"), { timeoutMs: 0, idleTimeoutMs: 200 });
    await assert.rejects(rig.request({ session: 1 }), /aborted|ECONNRESET|socket hang up/);
  });

  test("an unknown host and an unknown path: 404", async () => {
    const { rig } = await start(undefined, { match: { kind: "prefix", value: "/x" } });
    assert.equal((await rig.request({ host: "other.localhost" })).status, 404);
    assert.equal((await rig.request({ session: 1 })).status, 404);
    const json = await rig.request({ headers: { accept: "application/json" } });
    assert.deepEqual(JSON.parse(json.body).statusText, "Not found");
  });

  test("a rewrite that does not produce a path: 400 without details", async () => {
    const { rig, upstream } = await start(undefined, { regexRewrite: { pattern: "^/x", substitution: "oops" } });
    const answer = await rig.request({ path: "/x", session: 1, headers: { accept: "application/json" } });
    assert.equal(answer.status, 400);
    assert.deepEqual(Object.keys(JSON.parse(answer.body)).sort(), ["requestId", "status", "statusText"]);
    assert.equal(upstream.seen.length, 0);
  });

  test("a decision that throws: 500, and nothing reaches the upstream", async () => {
    const { rig, upstream } = await start(
      undefined,
      {},
      {
        deps: {
          decide: () => {
            throw new Error("secret detail");
          },
        },
      },
    );
    const answer = await rig.request({ session: 1, headers: { accept: "application/json" } });
    assert.equal(answer.status, 500);
    assert.ok(!answer.body.includes("secret"));
    assert.equal(upstream.seen.length, 0);
  });
});

type Raw = Readonly<{ port: number; close: () => Promise<void> }>;
async function startRaw(onConnection: (socket: Socket, nth: number) => void): Promise<Raw> {
  let n = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket, ++n);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    port: address.port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

describe("retries on another connection", () => {
  /** The first connection answers once, then resets on its second request. */
  const flaky = (heads: string[]) => (socket: Socket, nth: number) => {
    let requests = 0;
    socket.on("data", (chunk) => {
      heads.push(chunk.toString("latin1").split("\r\n", 1)[0] ?? "");
      if (nth === 1 && ++requests === 2) socket.resetAndDestroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
  };

  test("a GET on a reused connection that broke before any response byte is sent again once", async () => {
    const heads: string[] = [];
    const { port, close } = await startRaw(flaky(heads));
    const rig = await startRig([routeTo(port)]);
    cleanUps.push(() => rig.close(), close);
    await rig.apply(signedIn(1));
    assert.equal((await rig.request({ path: "/1", session: 1 })).status, 200);
    assert.equal((await rig.request({ path: "/2", session: 1 })).status, 200);
    assert.deepEqual(heads, ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /2 HTTP/1.1"]);
  });

  test("PUT and DELETE are sent again too, unless some of their body was read", async () => {
    for (const [method, body, repeated] of [
      ["DELETE", "", true],
      ["PUT", "", true],
      ["PUT", "x", false],
      ["DELETE", "x", false],
    ] as const) {
      const heads: string[] = [];
      const { port, close } = await startRaw(flaky(heads));
      const rig = await startRig([routeTo(port)]);
      cleanUps.push(() => rig.close(), close);
      await rig.apply(signedIn(1));
      assert.equal((await rig.request({ path: "/1", session: 1 })).status, 200);
      const headers = { "content-length": String(body.length) };
      const { status } = await rig.request({ path: "/2", method, body, headers, session: 1 });
      const sent = heads.filter((head) => head.startsWith(`${method} /2`)).length;
      assert.deepEqual([method, body, status, sent], [method, body, repeated ? 200 : 502, repeated ? 2 : 1]);
    }
  });

  test("a POST is not sent again, because the upstream may have acted on it", async () => {
    const heads: string[] = [];
    const { port, close } = await startRaw(flaky(heads));
    const rig = await startRig([routeTo(port)]);
    cleanUps.push(() => rig.close(), close);
    await rig.apply(signedIn(1));
    assert.equal((await rig.request({ path: "/1", session: 1 })).status, 200);
    assert.equal((await rig.request({ path: "/2", method: "POST", session: 1 })).status, 502);
    assert.deepEqual(heads, ["GET /1 HTTP/1.1", "POST /2 HTTP/1.1"]);
  });

  test("a GET on a fresh connection that broke is not sent again, nor is one that got a 503", async () => {
    const heads: string[] = [];
    const { port, close } = await startRaw((socket) => {
      socket.on("data", (chunk) => {
        heads.push(chunk.toString("latin1").split("\r\n", 1)[0] ?? "");
        if (heads.length === 1) socket.resetAndDestroy();
        else socket.end("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n");
      });
    });
    const rig = await startRig([routeTo(port)]);
    cleanUps.push(() => rig.close(), close);
    await rig.apply(signedIn(1));
    assert.equal((await rig.request({ session: 1 })).status, 502);
    assert.equal((await rig.request({ session: 1 })).status, 503);
    assert.equal(heads.length, 2);
  });
});

describe("routes", () => {
  test("policy is evaluated before a redirect or a fixed response is sent", async () => {
    const rig = await startRig([
      routeTo(0, {
        ...engOnly,
        host: "r.localhost",
        redirect: {
          httpsRedirect: null,
          schemeRedirect: null,
          hostRedirect: "secret.internal",
          portRedirect: null,
          pathRedirect: null,
          prefixRewrite: null,
          responseCode: 302,
          stripQuery: true,
        },
      }),
      routeTo(0, { ...engOnly, host: "s.localhost", response: { status: 200, body: "secret" } }),
    ]);
    cleanUps.push(() => rig.close());
    await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
    const redirected = await rig.request({ host: "r.localhost", path: "/a?b", session: 1 });
    assert.deepEqual([redirected.status, redirected.headers.location], [302, "http://secret.internal/a"]);
    assert.equal((await rig.request({ host: "s.localhost", session: 1 })).body, "secret");
    for (const host of ["r.localhost", "s.localhost"]) {
      const denied = await rig.request({ host, session: 2 });
      assert.equal(denied.status, 403);
      assert.ok(!`${denied.body}${denied.headers.location}`.includes("secret"));
    }
  });

  test("several upstreams share the requests by weight", async () => {
    const [a, b] = [await startUpstream(), await startUpstream()];
    const url = (port: number) => new URL(`http://127.0.0.1:${port}`);
    const rig = await startRig([
      routeTo(0, {
        to: [
          { url: url(a.port), weight: 3 },
          { url: url(b.port), weight: 1 },
        ],
      }),
    ]);
    cleanUps.push(() => rig.close(), a.close, b.close);
    await rig.apply(signedIn(1));
    for (let i = 0; i < 8; i++) await rig.request({ session: 1 });
    assert.deepEqual([a.seen.length, b.seen.length], [6, 2]);
  });

  test("reserved paths are handled by the proxy on every host, in any spelling", async () => {
    const { rig, upstream } = await start(undefined, {
      allowAnyAuthenticatedUser: false,
      allowPublicUnauthenticatedAccess: true,
    });
    for (const path of [
      "/ping",
      "/healthz",
      "/.pomerium",
      "/.pomerium/x?y=1",
      "//.pomerium/x",
      "/%2epomerium/x",
      "/.well-known/pomerium/jwks.json",
    ]) {
      for (const host of ["app.localhost", "unknown.localhost"]) {
        const answer = await rig.request({ path, host });
        assert.equal(answer.status, 200, path);
        assert.match(JSON.parse(answer.body).reserved, /^\/(ping|healthz|\.pomerium|\.well-known\/pomerium)/);
        assert.ok(answer.headers["x-request-id"]);
      }
    }
    assert.equal(upstream.seen.length, 0);
    assert.equal(JSON.parse((await rig.request({ path: "/.pomeriumx" })).body).url, "/.pomeriumx");
  });

  test("every path of the authenticate host goes to the authenticate service", async () => {
    const { rig } = await start();
    const answer = await rig.request({ host: "authenticate.localhost", path: "//oauth2/callback?code=1" });
    assert.equal(answer.body, "authenticate /oauth2/callback?code=1");
  });

  test("a denied caller learns the reason; the decision record holds the same, without the query", async () => {
    const { rig, upstream } = await start(undefined, engOnly);
    const denied = await rig.request({ path: "/x?secret=1", session: 2, headers: { accept: "text/html" } });
    assert.equal(denied.status, 403);
    assert.match(denied.body, /groups-unauthorized/);
    assert.match(denied.body, /user2@example\.com/);
    assert.equal((await rig.request({ session: 1 })).status, 200);
    assert.equal(upstream.seen.length, 1);
    const [first, second] = rig.records;
    assert.deepEqual(
      [first?.result, first?.status, first?.path, first?.reasons, first?.userId],
      ["deny", 403, "/x", ["groups-unauthorized"], "user-2"],
    );
    assert.deepEqual([second?.result, second?.routeId, second?.occasion], ["permit", "app.localhost/", "request"]);
    assert.ok(!JSON.stringify(rig.records).includes("secret"));
  });

  test("the record of a denial lists met and unmet criteria; the page shows them only with show_error_details", async () => {
    const { rig } = await start(undefined, { ...engOnly, showErrorDetails: true });
    const page = (await rig.request({ session: 2, headers: { accept: "text/html" } })).body;
    await rig.request({ session: 1 });
    const [denied, permitted] = rig.records;
    const rule = "policy.allow.and";
    assert.deepEqual(denied?.trace, {
      rule: null,
      rules: [{ rule, met: false, criteriaMet: [], criteriaUnmet: ["groups"], criteriaMore: 0 }],
      more: 0,
      facts: [
        { fact: "session:session-2", criteria: [], position: 2, exact: true },
        { fact: "user:user-2", criteria: [], position: 0, exact: true },
        { fact: "group:eng", criteria: ["groups"], member: false, position: 0, exact: true },
        { fact: "configuration:node-1", criteria: [], position: 0, exact: true },
      ],
      factsMore: 0,
    });
    assert.ok(permitted !== undefined && !("trace" in permitted), "a permit has no trace by default");
    assert.match(page, /{"type":"decided-by","rule":null}/);
    assert.ok(page.includes(JSON.stringify({ type: "rule", rule, met: false, criteria: ["-groups"] })));
    assert.ok(page.includes(JSON.stringify({ type: "fact", fact: "session", position: 2, exact: true })));
    assert.doesNotMatch(page.slice(page.indexOf('"details"')), /eng/, "the page does not name the required group");
    const { rig: silent } = await start(undefined, engOnly);
    const plain = (await silent.request({ session: 2, headers: { accept: "text/html" } })).body;
    assert.doesNotMatch(plain, /decided-by/);
    assert.ok(silent.records[0]?.trace, "the record always has the trace");
  });
});

describe("the session credential", () => {
  test("is accepted in a cookie, a header or the query; a bad one, or one of another host, leads to sign-in", async () => {
    const { rig } = await start();
    for (const headers of [
      { cookie: cookieOf(1) },
      { authorization: "Pomerium s1" },
      { authorization: "Bearer Pomerium-s1" },
      { "x-pomerium-authorization": "s1" },
    ]) {
      assert.equal((await rig.request({ headers })).status, 200, JSON.stringify(headers));
    }
    assert.equal((await rig.request({ path: "/?pomerium_session=s1" })).status, 200);
    assert.equal((await rig.request({ headers: { cookie: "_pomerium=forged" } })).status, 302);
    assert.equal((await rig.request({ headers: { authorization: "Pomerium forged" } })).status, 401);
    assert.equal((await rig.request({ session: 99 })).status, 302);
  });

  test("that needs a link which is not applied yet waits for it; a late link is 503 and never sign-in; a lost link is no session", async () => {
    const needs = { epoch: 1, position: 50, hash: "0".repeat(64) } as never;
    const { rig } = await start(undefined, {}, { needs });
    rig.catchUp.answer = "behind";
    const behind = await rig.request({ session: 1 });
    assert.equal(behind.status, 503);
    assert.equal(behind.headers["retry-after"], "1");
    rig.catchUp.answer = "lost";
    assert.equal((await rig.request({ session: 1 })).status, 302);
    rig.catchUp.answer = "reached";
    assert.equal((await rig.request({ session: 1 })).status, 200);
    rig.catchUp.answer = "behind";
    assert.equal((await rig.request({ session: 1 })).status, 200, "a link that was reached once is not checked again");
  });
});
