/**
 * Callers that are slow on purpose: in asking, in sending and in reading. Each loses its connection in the end, and
 * nobody else does.
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
      res.end(Buffer.alloc(20_000_000, 97)); // more than the system takes for a reader
    else req.resume().on("end", () => res.end("ok"));
  });
  const page = { id: "page", host: "page.localhost", ...publicAccess, response: { status: 200, body: large } };
  const lasting = (value: string) => routeTo(upstream.port, { match: { kind: "prefix", value }, idleTimeoutMs: 3_000 });
  // As without a written bound: what is forwarded may move for as long as its route lets it, and nothing else may.
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
/** With a reset or without. */
const closeOf = (socket: Socket): Promise<unknown> =>
  new Promise((resolve) => (socket.destroyed ? resolve(null) : socket.once("close", resolve)));
const asked = (target: string, lines = ""): string =>
  `GET ${target} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n${lines}\r\n`;
const posted = (lines: string, body = ""): string => asked("/", lines).replace("GET", "POST") + body;
const askedFor2 = (host: string, path: string): string[] => [
  ...[":method", "GET", ":scheme", "http", ":authority", host, ":path", path],
  ...["cookie", cookieOf(1)],
];

/** Begins something, and goes on with a piece of it now and then. @returns what was said by the time it is over */
async function dribble(first: string, piece: string): Promise<string> {
  const socket = dial();
  let said = "";
  socket.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
  });
  socket.write(first, "latin1");
  const timer = setInterval(() => piece !== "" && socket.writable && socket.write(piece, "latin1"), 50);
  await closeOf(socket);
  clearInterval(timer);
  return said;
}

describe("HTTP/1: the connection ends", { concurrency: true }, () => {
  const cases: Readonly<Record<string, readonly [first: string, piece: string, said: RegExp]>> = {
    "of whoever says nothing": ["", "", /^HTTP\/1\.1 408 /],
    "of half a head": ["GET / HTTP/1.1\r\nHost: app", "", /^HTTP\/1\.1 408 /],
    "of a head that comes line by line": ["GET / HTTP/1.1\r\nHost: app.localhost\r\n", "X: y\r\n", /^HTTP\/1\.1 408 /],
    "of half a preface of HTTP/2": [preface.toString("latin1").slice(0, 18), "", /^(HTTP\/1\.1 4|$)/],
    "of a body that never comes": [posted("Content-Length: 10\r\n"), "", /^HTTP\/1\.1 408 /],
    "of a body that comes byte by byte": [posted("Content-Length: 100000\r\n"), "x", /^HTTP\/1\.1 408 /],
    "of a chunk that comes byte by byte": [
      posted("Transfer-Encoding: chunked\r\n", "FFFFF\r\n"),
      "x",
      /^HTTP\/1\.1 408 /,
    ],
    "of chunks that come one by one": [posted("Transfer-Encoding: chunked\r\n"), "1\r\nx\r\n", /^HTTP\/1\.1 408 /],
    "of a body that never comes, behind an answer": [
      "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 10\r\n\r\n",
      "",
      /^HTTP\/1\.1 401 [\s\S]*\}$/,
    ],
    "of a body that comes byte by byte, behind an answer": [
      "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 10000000\r\n\r\n",
      "x",
      /^HTTP\/1\.1 401 [\s\S]*\}$/,
    ],
    "of whoever asks nothing more": [asked("/"), "", /^HTTP\/1\.1 200 [\s\S]*ok$/],
    "of whoever begins to ask again": [`${asked("/")}GET /`, "", /^HTTP\/1\.1 200 [\s\S]*ok(?:HTTP\/1\.1 408 |$)/],
  };
  for (const [name, [first, piece, said]] of Object.entries(cases))
    test(name, async () => assert.match(await dribble(first, piece), said));

  test("of whoever reads nothing, be the answers ours or not", async () => {
    const page = asked("/").replace("app.localhost", "page.localhost");
    const sockets = [page.repeat(15), asked("/large")].map((bytes) => {
      const socket = dial();
      socket.pause();
      socket.write(bytes, "latin1");
      return socket;
    });
    await waitFor("both to be answered", () => rig.proxy.stats().inFlight.http >= 2);
    // A socket that is paused does not hear that it was closed: the other side is asked.
    await waitFor(
      "both to be let go",
      () => upstream.seen.some(({ url }) => url === "/large") && rig.proxy.stats().inFlight.http === 0,
    );
    for (const socket of sockets) socket.destroy();
  });
});

describe("HTTP/2: the connection or the stream ends", { concurrency: true }, () => {
  const client = (...pairs: readonly (readonly [number, number])[]): RawHttp2 => new RawHttp2(dial(), pairs);

  test("of whoever says nothing behind the preface", async () => {
    const socket = dial();
    socket.resume().write(preface);
    await closeOf(socket);
  });
  test("of whoever asks nothing", async () => {
    const idle = client();
    await waitFor("the end", () => idle.closed);
    assert.equal(idle.goAway?.code, 0);
  });
  test("of half a head, and of one that goes on with a frame now and then", async () => {
    const [half, more] = [client(), client()];
    for (const each of [half, more]) each.send(headers(1, endStream, ":method", "GET"));
    const timer = setInterval(() => more.send(frame(frameTypes.continuation, 0, 1, fields("x", "y"))), 100);
    await waitFor("both to end", () => half.closed && more.closed);
    clearInterval(timer);
  });
  test("of a body that never comes, and of one that comes byte by byte", async () => {
    const [never, slow] = [client(), client()];
    for (const each of [never, slow])
      each.send(headers(1, endHeaders, ...askedFor2("app.localhost", "/").with(1, "POST")));
    const timer = setInterval(() => slow.send(data(1, 0, "x")), 50);
    await waitFor("both to end", () => never.isOver(1) && slow.isOver(1));
    clearInterval(timer);
  });
  test("of whoever leaves no room for an answer of ours", async () => {
    const closed = client(initialWindow(0));
    closed.send(headers(1, endHeaders | endStream, ...askedFor2("page.localhost", "/")));
    await waitFor("the answer to begin", () => closed.stream(1).status === 200);
    await waitFor("the end", () => closed.isOver(1));
    await waitFor("the end of the connection", () => closed.closed);
  });
  test("of whoever reads nothing", async () => {
    const socket = dial();
    socket.pause();
    const window = Buffer.from([0x7f, 0, 0, 0]);
    const asks = Array.from({ length: 20 }, (_, i) =>
      headers(1 + 2 * i, endHeaders | endStream, ...askedFor2("page.localhost", "/")),
    );
    socket.write(
      Buffer.concat([
        preface,
        settings(initialWindow(2 ** 31 - 1)),
        frame(frameTypes.windowUpdate, 0, 0, window),
        ...asks,
      ]),
    );
    await waitFor("the answers to begin", () => rig.proxy.stats().inFlight.http > 0);
    await waitFor("the end", () => rig.proxy.stats().inFlight.http === 0);
    socket.destroy();
  });
});

describe("whoever is answered while they talk may go on for as long as they like", { concurrency: true }, () => {
  /** Longer than a request may take to come in, and than it takes until somebody looks. */
  const talkMs = 5_000;

  test("HTTP/1", async () => {
    const socket = dial();
    let said = "";
    socket.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
    });
    socket.write(posted("Transfer-Encoding: chunked\r\n").replace("POST /", "POST /echo"));
    const until = performance.now() + talkMs;
    for (let i = 1; performance.now() < until; i++) {
      socket.write(`5\r\n(${String(i).padStart(3, "0")})\r\n`);
      await waitFor(`word ${i} to come back`, () => said.includes(`(${String(i).padStart(3, "0")})`));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    socket.write("0\r\n\r\n");
    await waitFor("the end", () => said.endsWith("0\r\n\r\n"));
    socket.destroy();
  });

  test("HTTP/2, as a gRPC stream in both directions", async () => {
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    session.on("error", () => {});
    const stream = session.request(askedFor2("app.localhost", "/echo").with(1, "POST") as never, { endStream: false });
    let said = "";
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
    });
    const until = performance.now() + talkMs;
    for (let i = 1; performance.now() < until; i++) {
      stream.write(`(${i})`);
      await waitFor(`word ${i} to come back`, () => said.includes(`(${i})`));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    stream.end();
    await waitFor("the end", () => stream.closed);
    assert.equal(stream.rstCode, 0);
    session.destroy();
  });
});

test("while all that went on, whoever asks is answered", async () => {
  const attackers = Array.from({ length: 300 }, () => dial().resume());
  for (const [i, socket] of attackers.entries()) socket.write(i % 2 === 0 ? "GET / HTTP/1.1\r\nHost: a" : preface);
  assert.equal((await rig.request({ session: 1 })).status, 200);
  await Promise.all(attackers.map(closeOf));
});
