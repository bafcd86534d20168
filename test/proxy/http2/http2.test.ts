/** HTTP/2 on both sides: the same requests, decisions, headers and cuts as with HTTP/1, and what only HTTP/2 has. */
import assert from "node:assert/strict";
import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer as createNetServer } from "node:net";
import { after, before, describe, test } from "node:test";
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
} from "../support.ts";

type Reply = Readonly<{
  status: number;
  headers: readonly string[];
  body: string;
  trailers: readonly string[];
  rstCode: number;
  hints: readonly (readonly string[])[];
}>;

/** Sends header lines unchanged, pseudo-headers included. */
function send(session: ClientHttp2Session, lines: readonly string[], body?: string | Buffer): Promise<Reply> {
  const stream = session.request(lines as never, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  return reply(stream);
}

function reply(stream: ClientHttp2Stream): Promise<Reply> {
  return new Promise((resolve) => {
    let headers: string[] = [];
    let trailers: string[] = [];
    const hints: string[][] = [];
    const chunks: Buffer[] = [];
    stream.on("headers", (_h: object, _f: number, raw: string[]) => hints.push(raw));
    stream.on("response", (_h: object, _f: number, raw: string[]) => {
      headers = raw;
    });
    stream.on("trailers", (_h: object, _f: number, raw: string[]) => {
      trailers = raw;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", () => {});
    stream.on("close", () =>
      resolve({
        status: Number(headers[headers.indexOf(":status") + 1] ?? 0),
        headers,
        body: Buffer.concat(chunks).toString("latin1"),
        trailers,
        rstCode: stream.rstCode,
        hints,
      }),
    );
  });
}

const get = (path: string, ...more: string[]): string[] => [
  ...[":method", "GET", ":path", path, ":authority", "app.localhost", ":scheme", "http"],
  ...more,
];
const post = (path: string, ...more: string[]): string[] => get(path, ...more).with(1, "POST");
const mine = ["cookie", cookieOf(1)];

async function open(port: number): Promise<ClientHttp2Session> {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  await once(session, "connect");
  return session;
}

describe("HTTP/2 from the caller", () => {
  let upstream: Upstream;
  let rig: Rig;
  let session: ClientHttp2Session;
  before(async () => {
    upstream = await startUpstream();
    rig = await startRig([
      routeTo(upstream.port, { passIdentityHeaders: true }),
      routeTo(upstream.port, { ...engOnly, host: "eng.localhost" }),
    ]);
    await rig.apply(signedIn(1), signedIn(2));
    session = await open(rig.port);
  });
  after(async () => {
    session.destroy();
    await rig.close();
    await upstream.close();
  });

  test("a request is forwarded as HTTP/1.1 with the same headers, and its response returns", async () => {
    const answer = await send(session, get("/a?b=c", ...mine, "accept", "x/y", "te", "trailers"));
    assert.equal(answer.status, 200);
    const received = JSON.parse(answer.body) as { url: string; rawHeaders: string[] };
    assert.equal(received.url, "/a?b=c");
    assert.ok(received.rawHeaders.includes("x/y"));
    assert.ok(received.rawHeaders.some((line) => /^x-pomerium-jwt-assertion$/i.test(line)));
    // The proxy accepts trailers for its caller, with lines of its own connection (RFC 9110 §10.1.4).
    const own = received.rawHeaders.filter((line, i) => /^(te$|connection$|:)/i.test(line) || i % 2 === 1);
    const connectionLines = own.filter((line) => /^(te|connection|trailers|keep-alive|:.*)$/i.test(line));
    assert.deepEqual(connectionLines, ["te", "trailers", "connection", "te"], answer.body);
    assert.ok(answer.headers.includes("x-request-id"));
    assert.ok(!answer.headers.includes("connection") && !answer.headers.includes("transfer-encoding"));
  });

  test("an upstream that sends a header name twice, in trailers too, ends only its own response", async () => {
    const server = createNetServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () =>
        socket.end(
          "HTTP/1.1 200 OK\r\nDate: 1\r\nDate: 2\r\nETag: a\r\nETag: b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" +
            "2\r\nok\r\n0\r\nAge: 1\r\nAge: 2\r\nConstructor: 3\r\n\r\n",
        ),
      );
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const two = await startRig([routeTo((server.address() as AddressInfo).port)]);
    await two.apply(signedIn(1));
    const other = await open(two.port);
    try {
      const answer = await send(other, get("/", ...mine, "te", "trailers"));
      assert.deepEqual([answer.status, answer.body], [200, "ok"]);
      assert.equal(answer.headers.filter((line) => line === "date").length, 2);
      assert.deepEqual(answer.trailers, ["age", "1", "age", "2", "constructor", "3"]);
    } finally {
      other.destroy();
      await two.close();
      server.close();
    }
  });

  test("a body is forwarded with its announced length", async () => {
    const answer = await send(session, post("/", ...mine, "content-length", "5"), "hello");
    assert.match(answer.body, /"body":"hello"/);
    const chunked = await send(session, post("/", ...mine), "without a length");
    assert.match(chunked.body, /"body":"without a length"/);
    assert.match(chunked.body, /"transfer-encoding","chunked"/);
    const lying = await send(session, post("/", ...mine, "content-length", "50"), "hello");
    assert.notEqual(lying.status, 200);
  });

  test("the flow-control window of a connection is bounded, like that of each stream", async () => {
    await send(session, get("/", ...mine)); // a response follows what a connection begins with
    const { remoteWindowSize = 0 } = session.state;
    assert.ok(remoteWindowSize > 1_000_000, `${remoteWindowSize}`); // less what was just sent
    assert.equal(session.remoteSettings.initialWindowSize, 262_144);
  });

  test("several cookie lines become one, without the proxy's own cookie", async () => {
    const answer = await send(session, get("/", "cookie", "a=1", ...mine, "cookie", "b=2"));
    const { rawHeaders } = JSON.parse(answer.body) as { rawHeaders: string[] };
    assert.deepEqual(
      rawHeaders.filter((_, i) => rawHeaders[i - 1] === "cookie"),
      ["a=1; b=2"],
    );
  });

  test("many requests at once on one connection, each with its own decision", async () => {
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        send(
          session,
          n % 2 === 0 ? get(`/${n}`, ...mine) : get(`/${n}`, "accept", "application/json", "sec-fetch-mode", "cors"),
        ),
      ),
    );
    answers.forEach(({ status, body }, n) => {
      assert.equal(status, n % 2 === 0 ? 200 : 401);
      if (n % 2 === 0) assert.match(body, new RegExp(`"url":"/${n}"`));
    });
  });

  test("without a session: redirected to sign-in; reserved paths are handled by the proxy", async () => {
    const page = await send(session, get("/", "accept", "text/html"));
    assert.equal(page.status, 302);
    const reserved = await send(session, get("/.pomerium/"));
    assert.match(reserved.body, /"reserved":"\/.pomerium\/"/);
    const probe = await send(session, post("/.pomerium/x"), "a body");
    assert.equal(probe.status, 200);
  });

  const refused: Readonly<Record<string, string[]>> = {
    "a different Host header": get("/", "host", "other.localhost", ...mine),
    "an invalid path": get("*", ...mine),
    "dot segments": get("/a/../b", ...mine),
    "an encoded slash": get("/a%2fb", ...mine),
    "a name with an underscore": get("/", "x_pomerium_claim_email", "m", ...mine),
    "userinfo in the authority": get("/", ...mine).with(5, "a@app.localhost"),
  };
  for (const [name, lines] of Object.entries(refused)) {
    test(`${name}: refused`, async () => {
      const before = upstream.seen.length;
      const answer = await send(session, lines);
      // nghttp2 itself resets what HTTP/2 does not permit.
      const reset = answer.status === 0 && answer.rstCode === constants.NGHTTP2_PROTOCOL_ERROR;
      assert.ok(answer.status === 400 || reset, JSON.stringify(answer));
      assert.equal(upstream.seen.length, before);
    });
  }

  test("CONNECT: 405", async () => {
    const stream = session.request({ ":method": "CONNECT", ":authority": "app.localhost:80" });
    assert.equal((await reply(stream)).status, 405);
  });

  test("a caller that cancels its request cancels the upstream's request", async () => {
    const slow = await startUpstream(() => {});
    const other = await startRig([routeTo(slow.port)]);
    await other.apply(signedIn(1));
    const mySession = await open(other.port);
    const stream = mySession.request(get("/", ...mine) as never, { endStream: true });
    stream.on("error", () => {});
    await waitFor("the request to arrive", () => slow.seen.length === 1);
    assert.equal(other.proxy.stats().exchanges.http, 1);
    stream.close(constants.NGHTTP2_CANCEL);
    await waitFor("the exchange to end", () => other.proxy.stats().exchanges.http === 0);
    mySession.destroy();
    await other.close();
    await slow.close();
  });

  test("a caller that keeps sending and cancelling requests loses the connection", async () => {
    const attacker = await open(rig.port);
    let closed = false;
    attacker.on("close", () => {
      closed = true;
    });
    for (let n = 0; n < 2_000 && !closed; n++) {
      try {
        const stream = attacker.request(get("/", ...mine) as never, { endStream: true });
        stream.on("error", () => {});
        stream.close(constants.NGHTTP2_CANCEL);
      } catch {
        break;
      }
      if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor("the connection to end", () => closed);
    assert.equal((await send(session, get("/", ...mine))).status, 200, "other callers are served");
  });

  test("draining: requests in progress are finished, then the connection ends", async () => {
    const slow = await startUpstream((_req, res) => void setTimeout(() => res.end("late"), 150));
    const other = await startRig([routeTo(slow.port)], { config: { drainTimeoutMs: 5_000 } });
    await other.apply(signedIn(1));
    const mySession = await open(other.port);
    let goaway = false;
    mySession.on("goaway", () => {
      goaway = true;
    });
    const answer = send(mySession, get("/", ...mine));
    await waitFor("the request to arrive", () => slow.seen.length === 1);
    const closed = other.close();
    assert.equal((await answer).body, "late");
    await closed;
    await waitFor("the connection to end", () => mySession.closed || mySession.destroyed);
    assert.ok(goaway);
    await slow.close();
  });
});

describe("HTTP/2 to the upstream", () => {
  let upstream: Http2Server;
  let port = 0;
  let rig: Rig;
  let session: ClientHttp2Session;
  const seen: string[][] = [];
  before(async () => {
    upstream = createServer();
    upstream.on("stream", (stream: ServerHttp2Stream, _headers: object, _flags: number, raw: string[]) => {
      seen.push(raw);
      stream.on("error", () => {});
      const path = raw[raw.indexOf(":path") + 1];
      if (path === "/refused" && seen.filter((r) => r.includes("/refused")).length === 1) {
        stream.close(constants.NGHTTP2_REFUSED_STREAM);
        return;
      }
      if (path === "/forever") {
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.write("first");
        return;
      }
      stream.additionalHeaders({ ":status": 103, link: "</style.css>" });
      stream.respond(
        { ":status": 200, "content-type": "application/grpc", "set-cookie": ["a=1", "b=2"] },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "grpc-message": "fine" }));
      stream.on("data", (chunk: Buffer) => stream.write(chunk));
      stream.on("end", () => stream.end());
    });
    upstream.listen(0, "127.0.0.1");
    await once(upstream, "listening");
    port = (upstream.address() as AddressInfo).port;
    rig = await startRig([
      routeTo(port, { to: [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }], passIdentityHeaders: true }),
      routeTo(port, {
        ...engOnly,
        host: "eng.localhost",
        to: [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }],
      }),
    ]);
    await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
    session = await open(rig.port);
  });
  after(async () => {
    session.destroy();
    await rig.close();
    upstream.close();
  });

  test("a gRPC call: both directions stream, trailers and hints arrive", async () => {
    const stream = session.request(
      post("/pkg.Service/Call", ...mine, "content-type", "application/grpc", "te", "trailers") as never,
    );
    const response = reply(stream);
    const received: string[] = [];
    stream.on("data", (chunk: Buffer) => received.push(chunk.toString()));
    for (const text of ["one", "two", "three"]) {
      stream.write(text);
      await waitFor(`${text} to be echoed`, () => received.join("").endsWith(text));
    }
    stream.end();
    const answer = await response;
    assert.deepEqual(answer.trailers, ["grpc-status", "0", "grpc-message", "fine"]);
    assert.equal(answer.hints.length, 1);
    assert.equal(answer.headers.filter((name) => name === "set-cookie").length, 2);
    const raw = seen.at(-1) ?? [];
    assert.equal(raw[raw.indexOf("te") + 1], "trailers");
    assert.ok(raw.includes("x-pomerium-jwt-assertion"));
  });

  test("the request of an HTTP/1.1 caller reaches the upstream too", async () => {
    const answer = await rig.request({ method: "POST", session: 1, body: "hello", headers: { te: "trailers" } });
    assert.equal(answer.status, 200);
    assert.equal(answer.body, "hello");
  });

  test("a GET that the upstream refused unprocessed is sent again once", async () => {
    const answer = await send(session, get("/refused", ...mine));
    assert.equal(answer.status, 200);
    assert.equal(seen.filter((raw) => raw.includes("/refused")).length, 2);
  });

  test("an open gRPC stream that is denied ends with a gRPC status; no other caller's stream ends", async () => {
    await rig.apply(groupChanged({ added: [2] }));
    const lines = (n: number): string[] =>
      post("/forever", "cookie", cookieOf(n), "content-type", "application/grpc", "te", "trailers").with(
        5,
        "eng.localhost",
      );
    const streams = [1, 2].map((n) => session.request(lines(n) as never));
    const answers = streams.map(reply);
    const responses = Promise.all(streams.map((stream) => once(stream, "response")));
    await waitFor("both streams to be open", () => rig.proxy.stats().exchanges.http === 2);
    await responses;
    await rig.apply(groupChanged({ removed: [2] }));
    const cut = await answers[1];
    assert.deepEqual(cut?.trailers.slice(0, 2), ["grpc-status", "7"], JSON.stringify(cut));
    assert.equal(cut?.body, "first");
    assert.equal(rig.proxy.stats().exchanges.http, 1);
    await rig.apply(sessionRevoked(1));
    assert.deepEqual((await answers[0])?.trailers.slice(0, 2), ["grpc-status", "16"]);
  });

  test("an unreachable upstream: 503; for gRPC, status 14", async () => {
    const unreachable = await startRig([routeTo(1, { to: [{ url: new URL("h2c://127.0.0.1:1"), weight: null }] })]);
    await unreachable.apply(signedIn(1));
    assert.equal((await unreachable.request({ session: 1 })).status, 503);
    const other = await open(unreachable.port);
    const answer = await send(other, post("/a/b", ...mine, "content-type", "application/grpc"), "x");
    assert.equal(answer.status, 503);
    assert.equal(answer.headers[answer.headers.indexOf("grpc-status") + 1], "14");
    other.destroy();
    await unreachable.close();
  });
});
