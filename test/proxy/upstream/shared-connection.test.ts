/** One HTTP/2 connection to an https upstream carries the requests of many people. None of them affects another. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { constants, createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { endHeaders, endStream, frame, frameTypes, headers, serveFrames } from "../../support/http2-frames.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, publicAccess, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../support.ts";

let root: Authority;
let issued: Issued;
let rig: Rig;
const sessions = new Set<ServerHttp2Session>();
let opened = 0;
/** The upstream's end of the last connection. */
let wire: Socket | undefined;
/** Open streams, by path. */
const streams = new Map<string, ServerHttp2Stream>();
/** How streams ended, by path. */
const ended = new Map<string, number>();
const cleanUps: (() => unknown)[] = [];
const bigBytes = 8 * 1_048_576;

before(async () => {
  root = await Authority.root();
  issued = await root.issue({ hosts: ["upstream.localhost"] });
  const server = createSecureServer({ ...issued, maxSessionMemory: 1_000 });
  server.on("secureConnection", (socket: Socket) => {
    wire = socket;
  });
  server.on("session", (session) => {
    opened++;
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  server.on("stream", (stream: ServerHttp2Stream, { ":path": path = "" }) => {
    stream.on("error", () => {});
    streams.set(path, stream);
    for (const end of ["aborted", "close"]) stream.on(end, () => ended.set(path, stream.rstCode));
    stream.respond({ ":status": 200 });
    if (path.startsWith("/live")) stream.write("begun");
    else if (path.startsWith("/big")) stream.end(Buffer.alloc(bigBytes, "x"));
    else if (path.startsWith("/deaf"))
      stream.write("begun"); // reads nothing of the request
    else stream.end(`fine ${path}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  rig = await startRig([routeOf((server.address() as AddressInfo).port)]);
  await rig.apply(...[1, 2, 3, 4, 5].map((n) => signedIn(n)));
  cleanUps.push(() => rig.close());
  cleanUps.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
});
after(async () => {
  for (const cleanUp of cleanUps) await cleanUp();
});

function routeOf(port: number, parts: Parameters<typeof routeTo>[1] = {}) {
  const to = [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null, allowRenegotiation: false };
  return routeTo(0, { to, tls: { ...tls, customCa: root.pem }, timeoutMs: 0, ...parts });
}

async function begin(path: string, session: number): Promise<IncomingMessage> {
  const asked = request({
    host: "127.0.0.1",
    port: rig.port,
    path,
    headers: { host: "app.localhost", cookie: cookieOf(session) },
  });
  asked.on("error", () => {});
  asked.end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  answer.on("error", () => {});
  return answer;
}

/** Waits until a count does not grow any more. */
function standstill(what: string, count: () => number): Promise<number> {
  return waitFor(what, async () => {
    const before = count();
    await new Promise((resolve) => setTimeout(resolve, 250));
    return before > 0 && count() === before ? before : undefined;
  });
}

test("a revocation resets the streams of the session and nothing else", async () => {
  const answers = await Promise.all([1, 2, 1].map((n, i) => begin(`/live/${i}`, n)));
  const closed = answers.map(() => false);
  answers.forEach((answer, i) => {
    answer.resume();
    answer.on("close", () => {
      closed[i] = true;
    });
  });
  await waitFor("all streams to be open", () => ["/live/0", "/live/1", "/live/2"].every((path) => streams.has(path)));
  assert.equal(opened, 1);
  await rig.apply(sessionRevoked(1));
  await waitFor("the streams of the session to end", () => ended.has("/live/0") && ended.has("/live/2"));
  assert.deepEqual([ended.get("/live/0"), ended.get("/live/2")], [constants.NGHTTP2_CANCEL, constants.NGHTTP2_CANCEL]);
  await waitFor("its callers to be cut", () => closed[0] === true && closed[2] === true);
  assert.deepEqual([closed[1], ended.has("/live/1"), opened, sessions.size], [false, false, 1, 1]);
  streams.get("/live/1")?.end();
  await waitFor("the other stream to end in order", () => closed[1] === true);
  assert.equal(answers[1]?.complete, true);
});

test("callers that do not read hold back their own responses, within a bound, and no others", async () => {
  const slow = await Promise.all(Array.from({ length: 60 }, (_, i) => begin(`/big/${i}`, 2)));
  for (const answer of slow) answer.pause();
  const sent = await standstill("the upstream to wait for all of them", () => wire?.bytesWritten ?? 0);
  assert.ok(sent < 60 * 2_097_152, `${sent} of ${60 * bigBytes}`);
  const { body } = await rig.request({ path: "/fast", session: 3 });
  assert.equal(body, "fine /fast");
  assert.equal(opened, 1);
  let bytes = 0;
  slow[0]?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  slow[0]?.resume();
  await waitFor("a response to arrive once its caller reads", () => bytes === bigBytes);
  for (const answer of slow) answer.destroy();
  await waitFor("the rest to be cancelled", () => slow.every((_, i) => ended.has(`/big/${i}`)));
  assert.equal((await rig.request({ path: "/after", session: 3 })).body, "fine /after");
  assert.equal(opened, 1);
});

test("an upstream that does not read one body holds back its caller, within a bound, and no other", async () => {
  const upload = request({
    ...{ host: "127.0.0.1", port: rig.port, path: "/deaf", method: "POST" },
    headers: { host: "app.localhost", cookie: cookieOf(4), "transfer-encoding": "chunked" },
  });
  upload.on("error", () => {});
  const chunk = Buffer.alloc(65_536);
  let written = 0;
  const write = (): void => {
    while (written < 64 * 1_048_576) {
      written += chunk.length;
      if (!upload.write(chunk)) return void upload.once("drain", write);
    }
  };
  write();
  await waitFor("the upload to begin", () => streams.has("/deaf"));
  await standstill("the upload to stand", () => written);
  assert.ok(written < 16 * 1_048_576, `${written}`);
  assert.equal(
    (await rig.request({ path: "/beside", session: 5, method: "POST", body: "hello" })).body,
    "fine /beside",
  );
  assert.equal(opened, 1);
  await rig.apply(sessionRevoked(4));
  await waitFor("the upload to be cut", () => ended.has("/deaf"));
  assert.equal((await rig.request({ path: "/later", session: 5 })).body, "fine /later");
  upload.destroy();
});

test("an upstream that has fallen silent gets a PING, and without an answer its connection is replaced", async () => {
  const sockets: Socket[] = [];
  const pings: number[] = [];
  let answersPings = true;
  const server = createTlsServer({ ...issued, ALPNProtocols: ["h2"] }, (socket) => {
    const nth = sockets.push(socket);
    serveFrames(socket, ({ type, flags, stream, payload }) => {
      if (type === frameTypes.ping && (flags & 1) === 0) {
        pings.push(nth);
        if (answersPings) socket.write(frame(frameTypes.ping, 1, 0, payload));
      }
      if (type === frameTypes.headers && nth > 1)
        socket.write(headers(stream, endHeaders | endStream, ":status", "204"));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const own = await startRig([routeOf((server.address() as AddressInfo).port, { ...publicAccess, timeoutMs: 1_200 })]);
  cleanUps.push(() => own.close());
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  assert.equal((await own.request({})).status, 504); // the upstream's settings have arrived meanwhile
  assert.equal((await own.request({})).status, 504);
  await waitFor("a PING", () => pings.length === 1);
  answersPings = false;
  assert.equal((await own.request({})).status, 504); // a live connection is used again
  await waitFor("the next PING", () => pings.length === 2);
  assert.equal((await own.request({})).status, 204);
  assert.deepEqual([sockets.length, pings], [2, [1, 1]]);
  await waitFor("the silent connection to end", () => sockets[0]?.destroyed === true);
});

test("an upstream that shuts down in order loses none of many requests, with or without bodies", async () => {
  const sockets: Socket[] = [];
  const seen: number[] = [];
  const server = createTlsServer({ ...issued, ALPNProtocols: ["h2"] }, (socket) => {
    const nth = sockets.push(socket);
    serveFrames(socket, ({ type, stream }) => {
      if (type !== frameTypes.headers) return;
      if (seen.length === 0)
        socket.write(headers(stream, endHeaders | endStream, ":status", "204")); // a warm-up
      else if (nth > 1) socket.write(headers(stream, endHeaders | endStream, ":status", "200"));
      // The first request is processed, the others are not. The answer and GOAWAY arrive in one read.
      else if (seen.length === 10)
        socket.write(
          Buffer.concat([headers(3, endHeaders | endStream, ":status", "201"), frame(frameTypes.goAway, 0, 0, goAway)]),
        );
      seen.push(nth);
    });
  });
  const goAway = Buffer.from([0, 0, 0, 3, 0, 0, 0, 0]);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const breakers = { connections: 10, pending: 100, requests: 100, retries: 0, streams: 100 };
  const route = routeOf((server.address() as AddressInfo).port, { ...publicAccess, circuitBreakers: breakers });
  const own = await startRig([route]);
  cleanUps.push(() => own.close());
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  assert.equal((await own.request({})).status, 204);
  const first = own.request({});
  await waitFor("the first request to arrive", () => seen.length === 2);
  const others = Array.from({ length: 9 }, (_, i) => own.request(i % 2 === 0 ? {} : { method: "POST", body: "hello" }));
  const statuses = (await Promise.all(others)).map(({ status }) => status);
  assert.deepEqual(new Set(statuses), new Set([200]));
  assert.equal((await first).status, 201);
  assert.equal(sockets.length, 2);
});

test("a request that arrives together with the upstream's GOAWAY gets another connection", async () => {
  const sockets: Socket[] = [];
  const server = createTlsServer({ ...issued, ALPNProtocols: ["h2"] }, (socket) => {
    sockets.push(socket);
    serveFrames(socket, ({ type, stream }) => {
      if (type === frameTypes.headers) socket.write(headers(stream, endHeaders | endStream, ":status", "204"));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const own = await startRig([routeOf((server.address() as AddressInfo).port, publicAccess)]);
  const caller = connect(own.port, "127.0.0.1");
  cleanUps.push(() => own.close());
  cleanUps.push(() => {
    for (const socket of [...sockets, caller]) socket.destroy();
    server.close();
  });
  let received = "";
  caller.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  const responses = (): number => received.split("HTTP/1.1 204").length - 1;
  const post = "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 2\r\n\r\nhi";
  for (let n = 1; n <= 5; n++) {
    caller.write(post);
    await waitFor("the response", () => responses() === 2 * n - 1);
    // Both are in the kernel when the proxy next reads: first the request, then the end of its connection.
    caller.write(post);
    sockets.at(-1)?.write(frame(frameTypes.goAway, 0, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])));
    await waitFor("the response", () => responses() === 2 * n);
  }
  assert.doesNotMatch(received, /HTTP\/1\.1 5/);
});
