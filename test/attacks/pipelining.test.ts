/** Requests that arrive before the previous one is answered cannot harm the node, its upstreams or each other. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { publicAccess, routeTo, signedIn, startRig, startUpstream } from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import { waitFor } from "../support/wait-for.ts";

const handshake = [
  "GET / HTTP/1.1",
  "Host: app.localhost",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  "\r\n",
].join("\r\n");
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n`;
/** Makes this request the last one of its connection; the tests read until the connection ends. */
const last = (request: string): string => request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
const readMsMax = 60_000;

for (const [name, second] of [
  ["an upgrade", handshake],
  ["a CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"],
] as const) {
  test(`${name} after an unanswered request closes the connection and not the process`, async (t) => {
    const upstream = await startUpstream(() => {}); // never answers
    const rig = await startRig([routeTo(upstream.port, { ...publicAccess, allowWebsockets: true })]);
    t.after(() => rig.close());
    t.after(() => upstream.close());

    const received = await rig.sendRaw(get("/") + second);

    assert.equal(received, "", "the connection is closed, and nothing is written in place of the first response");
    const answered = await rig.sendRaw(get("/.pomerium/") + last(get("/.pomerium/")), readMsMax);
    assert.equal(
      answered.match(/HTTP\/1\.1 200/g)?.length,
      2,
      "the node continues to serve, including pipelined requests",
    );
  });
}

test("pipelined requests of one connection reach the upstream one at a time, and too many close the connection", async (t) => {
  const upstream = await startUpstream(() => {}); // never answers
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const caller = connect(rig.port, "127.0.0.1");
  caller.write(get("/first") + get("/second").repeat(10));
  await waitFor("the first request to arrive", async () => upstream.seen.length > 0);
  await sleep(100);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/first"],
    "the others wait",
  );
  assert.equal(rig.proxy.stats().exchanges.http, 1);
  caller.destroy();

  assert.equal(await rig.sendRaw(get("/").repeat(3_000)), "", "more than may wait closes the connection");
  await waitFor("every exchange to end", async () => rig.proxy.stats().exchanges.http === 0);
});

test("waiting request heads above 64 KB close the connection", async (t) => {
  const upstream = await startUpstream(() => {}); // never answers
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const long = last(get("/"))
    .replace("\r\n\r\n", `\r\nX-Long: ${"x".repeat(30_000)}\r\n\r\n`)
    .replace("\r\nConnection: close", "");
  const socket = connect(rig.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write(get("/first") + long + long);
  await waitFor("the first request to arrive", async () => upstream.seen.length > 0);
  assert.equal(socket.destroyed, false, "two heads may wait");
  const ended = once(socket, "close");
  socket.resume().write(long);
  await ended;
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="pipelined"\} 1/);
});

test("pipelined requests are answered in order, each in full", async (t) => {
  const upstream = await startUpstream((req, res) => {
    setTimeout(() => res.end(`<${req.url}>`), req.url === "/a" ? 100 : 0);
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const received = await rig.sendRaw(["/a", "/b", "/c"].map(get).join("") + last(get("/d")), readMsMax);

  assert.deepEqual(received.match(/<\/.>/g), ["</a>", "</b>", "</c>", "</d>"]);
});

test("each pipelined request gets its own decision", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.apply(signedIn(1));
  const signedInRequest = "GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: _pomerium=s1\r\n\r\n";
  const anonymous = "GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\n\r\n";

  const received = await rig.sendRaw(signedInRequest + anonymous + last(signedInRequest), readMsMax);

  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200"]);
});

test("a request after the last one of its connection is ignored, and the last one is answered in full", async (t) => {
  const upstream = await startUpstream((_req, res) => void res.end("ok"));
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const received = await rig.sendRaw(last(get("/last")) + get("/after"), readMsMax);

  assert.match(received, /^HTTP\/1\.1 200 .*\r\n\r\nok$/s);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/last"],
  );
});

test("bytes after a refused CONNECT do not keep the connection open", async (t) => {
  const rig = await startRig([routeTo(1, publicAccess)]);
  t.after(() => rig.close());
  const socket = connect(rig.port, "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  const closed = once(socket, "close");
  socket.on("error", () => {});

  socket.write("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
  await once(socket, "data");
  socket.write("something");

  await closed; // by the proxy: this side has not ended it
  assert.match(received, /^HTTP\/1\.1 405 /);
  const drained = rig.proxy.drain().then(() => "drained");
  assert.equal(await Promise.race([drained, sleep(60_000, "stuck", { ref: false })]), "drained");
});

test("a request after the last response of its connection is not forwarded", async (t) => {
  const upstream = await startUpstream((_req, res) => void res.end("ok"));
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.request({ path: "/first" }); // opens a connection to the upstream

  const refused = "GET http://eng.localhost/ HTTP/1.1\r\nHost: app.localhost\r\n\r\n"; // closes its connection
  for (let i = 0; i < 50; i++) {
    const received = await rig.sendRaw(refused + get("/after"), readMsMax);
    assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 1, received);
  }

  await waitFor("every request to finish", () => rig.proxy.stats().inFlight.http === 0);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/first"],
  );
});

test("an unknown expectation is answered in its turn and ends the connection", async (t) => {
  const upstream = await startUpstream((req, res) => {
    setTimeout(() => res.end(`<${req.url}>`), 50);
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const unknownExpectation = "GET /odd HTTP/1.1\r\nHost: app.localhost\r\nExpect: the-unexpected\r\n\r\n";
  const received = await rig.sendRaw(get("/a") + unknownExpectation + get("/b"), readMsMax);

  assert.deepEqual(received.match(/HTTP\/1\.1 \d+|<\/[a-z]>/g), ["HTTP/1.1 200", "</a>", "HTTP/1.1 417"]);
});

test("after the body of a request whose upgrade is ignored, the next request is parsed in full, however its bytes are split", async (t) => {
  let seen = "";
  const upstream = await startUpstream((req, res) => {
    req.on("data", (chunk: Buffer) => {
      seen += chunk;
    });
    req.on("end", () => res.end(`<${req.url}>`));
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  let received = "";
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  const lines = ["POST /a HTTP/1.1", "Host: app.localhost", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 6"];
  socket.write(`${lines.join("\r\n")}\r\n\r\n12`);
  await waitFor("the first bytes of the body", async () => seen === "12");
  socket.write("34");
  await waitFor("more of the body", async () => seen === "1234");
  socket.write(`56${get("/b").slice(0, 9)}`);
  await waitFor("the first response", async () => received.includes("</a>"));
  socket.write(get("/b").slice(9) + get("/c"));
  await waitFor("the other responses", async () => received.includes("</c>"));
  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), new Array(3).fill("HTTP/1.1 200"));
  assert.deepEqual(received.match(/<\/.>/g), ["</a>", "</b>", "</c>"]);
});

test("requests that arrive together with the end of the body of an ignored upgrade are answered", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.setNoDelay(true);
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });

  // Sent in several parts, because the parser handles the first read differently.
  socket.write("POST /a HTTP/1.1\r\nHost: app.localhost\r\n");
  await sleep(50);
  socket.write("Connection: Upgrade\r\nUpgrade: nothing-known\r\nContent-Length: 10\r\n\r\n12345");
  await waitFor("the request to arrive", () => upstream.seen[0]?.body() === "12345");
  socket.write(`67890${get("/b")}${get("/c")}`);

  await waitFor("three responses", () => received.match(/HTTP\/1\.1 200/g)?.length === 3);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/a", "/b", "/c"],
  );
  assert.equal(upstream.seen[0]?.body(), "1234567890");
});

test("early bytes of an upgrade are not parsed as requests, even if its head had waited for a body", async (t) => {
  let accept = (): void => {};
  let upstreamReceived = "";
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("data", (chunk) => {
      upstreamReceived += chunk.toString("latin1");
    });
    accept = () =>
      void socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const tls = { insecureServer: false, certificates: [selfSigned("DNS:app.localhost")] };
  const rig = await startRig([routeTo(port, { ...publicAccess, allowUpgrades: ["spdy/3.1"] })], { config: tls });
  t.after(async () => {
    await rig.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  // Three TLS records in one write: TLS decrypts all of them before the parser receives the second.
  const plain = connect(rig.port, "127.0.0.1");
  let buffered: Buffer[] | null = null;
  const between = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      if (buffered === null) plain.write(chunk);
      else buffered.push(chunk);
      done();
    },
  });
  plain.on("data", (chunk) => between.push(chunk));
  const client = connectTls({ socket: between, servername: "app.localhost", rejectUnauthorized: false });
  t.after(() => plain.destroy());
  let received = "";
  client.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  await once(client, "secureConnect");
  buffered = [];
  const send = (text: string): Promise<void> => new Promise((resolve) => client.write(text, () => resolve()));
  await send("POST / HTTP/1.1\r\nHost: nowhere.localhost\r\nContent-Length: 10\r\n\r\n12345");
  await send("67890");
  await send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n");
  plain.write(Buffer.concat(buffered.splice(0)));
  buffered = null;
  await waitFor("the handshake to arrive", () => upstreamReceived.endsWith("\r\n\r\n"));
  upstreamReceived = "";
  await send(get("/early"));
  await sleep(50);
  accept();
  await waitFor("the upgrade to be accepted", () => received.includes("101 Switching"));
  await send("late");

  await waitFor("the last bytes", () => upstreamReceived.endsWith("late"));
  assert.equal(upstreamReceived, `${get("/early")}late`);
  assert.equal(rig.records.length, 2);
});
