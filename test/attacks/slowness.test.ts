/**
 * Callers that are deliberately slow to request, to send and to read. Each eventually loses its connection, and no
 * other caller does.
 */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import {
  cookieOf,
  publicAccess,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "../proxy/support.ts";
import {
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  initialWindow,
  preface,
  RawHttp2,
  settings,
} from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

const large = "x".repeat(2_000_000);
let upstream: Upstream;
let rig: Rig;
before(async () => {
  upstream = await startUpstream((req, res) => {
    if (req.url === "/echo") req.pipe(res);
    else if (req.url === "/large")
      res.end(Buffer.alloc(20_000_000, 97)); // more than the kernels buffer
    else req.resume().on("end", () => res.end("ok"));
  });
  const page = { id: "page", host: "page.localhost", ...publicAccess, response: { status: 200, body: large } };
  const lasting = (value: string) => routeTo(upstream.port, { match: { kind: "prefix", value }, idleTimeoutMs: 3_000 });
  // The defaults: only forwarded traffic may continue for as long as its route allows.
  rig = await startRig(
    [
      ...["/echo", "/large"].map(lasting),
      routeTo(upstream.port, { idleTimeoutMs: 3_000, timeoutMs: 1_500 }),
      routeTo(upstream.port, page),
    ],
    { config: { timeouts: { readMs: 1_500, readLimit: "silence", writeMs: 0, idleMs: 3_000 } } },
  );
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});

const dial = (): Socket => {
  const socket = connect(rig.port, "127.0.0.1");
  socket.on("error", () => {});
  return socket;
};
/** Settles when the socket closes, with or without a reset. */
const closeOf = (socket: Socket): Promise<unknown> =>
  new Promise((resolve) => (socket.destroyed ? resolve(null) : socket.once("close", resolve)));
const getRequest = (target: string, lines = ""): string =>
  `GET ${target} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n${lines}\r\n`;
const postRequest = (lines: string, body = ""): string => getRequest("/", lines).replace("GET", "POST") + body;
const http2Fields = (host: string, path: string): string[] => [
  ...[":method", "GET", ":scheme", "http", ":authority", host, ":path", path],
  ...["cookie", cookieOf(1)],
];

/** Sends the first part and then one piece every 50 ms. @returns everything received until the connection closed */
async function dribble(first: string, piece: string): Promise<string> {
  const socket = dial();
  let received = "";
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  socket.write(first, "latin1");
  const timer = setInterval(() => piece !== "" && socket.writable && socket.write(piece, "latin1"), 50);
  await closeOf(socket);
  clearInterval(timer);
  return received;
}

describe("HTTP/1: the connection closes", { concurrency: true }, () => {
  const cases: Readonly<Record<string, readonly [first: string, piece: string, received: RegExp]>> = {
    "without any bytes": ["", "", /^HTTP\/1\.1 408 /],
    "after half a head": ["GET / HTTP/1.1\r\nHost: app", "", /^HTTP\/1\.1 408 /],
    "during a head that arrives line by line": [
      "GET / HTTP/1.1\r\nHost: app.localhost\r\n",
      "X: y\r\n",
      /^HTTP\/1\.1 408 /,
    ],
    "after half an HTTP/2 preface": [preface.toString("latin1").slice(0, 18), "", /^(HTTP\/1\.1 4|$)/],
    "when a body never arrives": [postRequest("Content-Length: 10\r\n"), "", /^HTTP\/1\.1 408 /],
    "when a body arrives byte by byte": [postRequest("Content-Length: 100000\r\n"), "x", /^HTTP\/1\.1 408 /],
    "when a chunk arrives byte by byte": [
      postRequest("Transfer-Encoding: chunked\r\n", "FFFFF\r\n"),
      "x",
      /^HTTP\/1\.1 408 /,
    ],
    "when tiny chunks arrive one by one": [
      postRequest("Transfer-Encoding: chunked\r\n"),
      "1\r\nx\r\n",
      /^HTTP\/1\.1 408 /,
    ],
    "when a body never arrives, after a response": [
      "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 10\r\n\r\n",
      "",
      /^HTTP\/1\.1 401 [\s\S]*\}$/,
    ],
    "when a body arrives byte by byte, after a response": [
      "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 10000000\r\n\r\n",
      "x",
      /^HTTP\/1\.1 401 [\s\S]*\}$/,
    ],
    "without a next request": [getRequest("/"), "", /^HTTP\/1\.1 200 [\s\S]*ok$/],
    "after the beginning of a next request": [
      `${getRequest("/")}GET /`,
      "",
      /^HTTP\/1\.1 200 [\s\S]*ok(?:HTTP\/1\.1 408 |$)/,
    ],
  };
  for (const [name, [first, piece, received]] of Object.entries(cases))
    test(name, async () => assert.match(await dribble(first, piece), received));

  test("when the caller reads nothing, be it local replies or forwarded responses", async () => {
    const page = getRequest("/").replace("app.localhost", "page.localhost");
    const sockets = [page.repeat(15), getRequest("/large")].map((bytes) => {
      const socket = dial();
      socket.pause();
      socket.write(bytes, "latin1");
      return socket;
    });
    await waitFor("both to receive a response", () => rig.proxy.stats().inFlight.http >= 2);
    // A paused socket does not notice that it was closed, so the proxy's counters are checked.
    await waitFor(
      "both exchanges to end",
      () => upstream.seen.some(({ url }) => url === "/large") && rig.proxy.stats().inFlight.http === 0,
    );
    for (const socket of sockets) socket.destroy();
  });
});

describe("HTTP/2: the connection or the stream closes", { concurrency: true }, () => {
  const client = (...pairs: readonly (readonly [number, number])[]): RawHttp2 => new RawHttp2(dial(), pairs);

  test("without any bytes after the preface", async () => {
    const socket = dial();
    socket.resume().write(preface);
    await closeOf(socket);
  });
  test("without a request", async () => {
    const idle = client();
    await waitFor("the stream to close", () => idle.closed);
    assert.equal(idle.goAway?.code, 0);
  });
  test("after half a head, and during one that continues with a frame now and then", async () => {
    const [half, more] = [client(), client()];
    for (const each of [half, more]) each.send(headers(1, endStream, ":method", "GET"));
    const timer = setInterval(() => more.send(frame(frameTypes.continuation, 0, 1, fields("x", "y"))), 100);
    await waitFor("both to close", () => half.closed && more.closed);
    clearInterval(timer);
  });
  test("when a body never arrives, and when one arrives byte by byte", async () => {
    const [never, slow] = [client(), client()];
    for (const each of [never, slow])
      each.send(headers(1, endHeaders, ...http2Fields("app.localhost", "/").with(1, "POST")));
    const timer = setInterval(() => slow.send(data(1, 0, "x")), 50);
    await waitFor("both to close", () => never.isOver(1) && slow.isOver(1));
    clearInterval(timer);
  });
  test("when the caller grants no window for a local reply", async () => {
    const closed = client(initialWindow(0));
    closed.send(headers(1, endHeaders | endStream, ...http2Fields("page.localhost", "/")));
    await waitFor("the response to begin", () => closed.stream(1).status === 200);
    await waitFor("the stream to close", () => closed.isOver(1));
    await waitFor("the connection to close", () => closed.closed);
  });
  test("when the caller reads nothing", async () => {
    const socket = dial();
    socket.pause();
    const window = Buffer.from([0x7f, 0, 0, 0]);
    const requests = Array.from({ length: 20 }, (_, i) =>
      headers(1 + 2 * i, endHeaders | endStream, ...http2Fields("page.localhost", "/")),
    );
    socket.write(
      Buffer.concat([
        preface,
        settings(initialWindow(2 ** 31 - 1)),
        frame(frameTypes.windowUpdate, 0, 0, window),
        ...requests,
      ]),
    );
    await waitFor("the responses to begin", () => rig.proxy.stats().inFlight.http > 0);
    await waitFor("the stream to close", () => rig.proxy.stats().inFlight.http === 0);
    socket.destroy();
  });
});

describe("an exchange that moves in both directions may continue beyond every time-out", { concurrency: true }, () => {
  /** Longer than a request may take to arrive, plus the interval of the time-out check. */
  const exchangeMs = 5_000;

  test("HTTP/1", async () => {
    const socket = dial();
    let received = "";
    socket.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
    });
    socket.write(postRequest("Transfer-Encoding: chunked\r\n").replace("POST /", "POST /echo"));
    const until = performance.now() + exchangeMs;
    for (let i = 1; performance.now() < until; i++) {
      socket.write(`5\r\n(${String(i).padStart(3, "0")})\r\n`);
      await waitFor(`word ${i} to be echoed`, () => received.includes(`(${String(i).padStart(3, "0")})`));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    socket.write("0\r\n\r\n");
    await waitFor("the stream to close", () => received.endsWith("0\r\n\r\n"));
    socket.destroy();
  });

  test("HTTP/2, as a gRPC stream in both directions", async () => {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    session.on("error", () => {});
    const stream = session.request(http2Fields("app.localhost", "/echo").with(1, "POST") as never, {
      endStream: false,
    });
    let received = "";
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      received += chunk.toString("latin1");
    });
    const until = performance.now() + exchangeMs;
    for (let i = 1; performance.now() < until; i++) {
      stream.write(`(${i})`);
      await waitFor(`word ${i} to be echoed`, () => received.includes(`(${i})`));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    stream.end();
    await waitFor("the stream to close", () => stream.closed);
    assert.equal(stream.rstCode, 0);
    session.destroy();
  });
});

test("during an attack by slow callers, other callers are answered", async () => {
  const attackers = Array.from({ length: 300 }, () => dial().resume());
  for (const [i, socket] of attackers.entries()) socket.write(i % 2 === 0 ? "GET / HTTP/1.1\r\nHost: a" : preface);
  assert.equal((await rig.request({ session: 1 })).status, 200);
  await Promise.all(attackers.map(closeOf));
});
