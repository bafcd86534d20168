/**
 * Requests that come before the one in front of them is answered: they may not harm the node, its upstreams or each
 * other.
 */
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
/** What comes is waited for until the connection ends, which it does behind this one. */
const last = (request: string): string => request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
const untilItEnds = 60_000;

for (const [name, second] of [
  ["an upgrade", handshake],
  ["a CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"],
] as const) {
  test(`${name} sent behind an unanswered request ended the process`, async (t) => {
    const upstream = await startUpstream(() => {}); // never answers
    const rig = await startRig([routeTo(upstream.port, { ...publicAccess, allowWebsockets: true })]);
    t.after(() => rig.close());
    t.after(() => upstream.close());

    const said = await rig.sendRaw(get("/") + second);

    assert.equal(said, "", "the connection is closed, and nothing is written where the first answer belongs");
    const answered = await rig.sendRaw(get("/.pomerium/") + last(get("/.pomerium/")), untilItEnds);
    assert.equal(answered.match(/HTTP\/1\.1 200/g)?.length, 2, "the node serves on, also what is pipelined");
  });
}

test("one connection with thousands of pipelined requests took every place at an upstream", async (t) => {
  const upstream = await startUpstream(() => {}); // never answers
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const polite = connect(rig.port, "127.0.0.1");
  polite.write(get("/first") + get("/second").repeat(10));
  await waitFor("the first request to arrive", async () => upstream.seen.length > 0);
  await sleep(100);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/first"],
    "the others wait for their turn",
  );
  assert.equal(rig.proxy.stats().exchanges.http, 1);
  polite.destroy();

  assert.equal(await rig.sendRaw(get("/").repeat(3_000)), "", "more than may wait ends the connection");
  await waitFor("everything to be let go", async () => rig.proxy.stats().exchanges.http === 0);
});

test("heads that wait for their turn on one connection took 2 MB: above 64 KB the connection ends", async (t) => {
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
  assert.equal(socket.destroyed, false, "two of them wait");
  const ended = once(socket, "close");
  socket.resume().write(long);
  await ended;
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="pipelined"\} 1/);
});

test("pipelined requests are answered in their order, each in full", async (t) => {
  const upstream = await startUpstream((req, res) => {
    setTimeout(() => res.end(`<${req.url}>`), req.url === "/a" ? 100 : 0);
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const said = await rig.sendRaw(["/a", "/b", "/c"].map(get).join("") + last(get("/d")), untilItEnds);

  assert.deepEqual(said.match(/<\/.>/g), ["</a>", "</b>", "</c>", "</d>"]);
});

test("pipelined requests are answered each with its own decision", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.apply(signedIn(1));
  const mine = "GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: _pomerium=s1\r\n\r\n";
  const anonymous = "GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\n\r\n";

  const said = await rig.sendRaw(mine + anonymous + last(mine), untilItEnds);

  assert.deepEqual(said.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200"]);
});

test("a request behind the last one of its connection took the answer of that one away", async (t) => {
  const upstream = await startUpstream((_req, res) => void res.end("ok"));
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const said = await rig.sendRaw(last(get("/last")) + get("/behind"), untilItEnds);

  assert.match(said, /^HTTP\/1\.1 200 .*\r\n\r\nok$/s);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/last"],
  );
});

test("a caller that sent anything behind a refused CONNECT left its connection with us for ever", async (t) => {
  const rig = await startRig([routeTo(1, publicAccess)]);
  t.after(() => rig.close());
  const socket = connect(rig.port, "127.0.0.1");
  let said = "";
  socket.on("data", (chunk) => {
    said += chunk.toString("latin1");
  });
  const closed = once(socket, "close");
  socket.on("error", () => {});

  socket.write("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
  await once(socket, "data");
  socket.write("something");

  await closed; // by the proxy: we have not ended it
  assert.match(said, /^HTTP\/1\.1 405 /);
  const drained = rig.proxy.drain().then(() => "drained");
  assert.equal(await Promise.race([drained, sleep(60_000, "stuck", { ref: false })]), "drained");
});

test("a request behind the last answer of its connection went to the upstream, and was never over", async (t) => {
  const upstream = await startUpstream((_req, res) => void res.end("ok"));
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.request({ path: "/first" }); // from now on there is a connection to the upstream

  const refused = "GET http://eng.localhost/ HTTP/1.1\r\nHost: app.localhost\r\n\r\n"; // and its connection ended
  for (let i = 0; i < 50; i++) {
    const said = await rig.sendRaw(refused + get("/behind"), untilItEnds);
    assert.equal(said.match(/HTTP\/1\.1 /g)?.length, 1, said);
  }

  await waitFor("everything to be over", () => rig.proxy.stats().inFlight.http === 0);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/first"],
  );
});

test("an expectation that nobody knows was answered past the requests that waited", async (t) => {
  const upstream = await startUpstream((req, res) => {
    setTimeout(() => res.end(`<${req.url}>`), 50);
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const odd = "GET /odd HTTP/1.1\r\nHost: app.localhost\r\nExpect: the-unexpected\r\n\r\n";
  const said = await rig.sendRaw(get("/a") + odd + get("/b"), untilItEnds);

  assert.deepEqual(said.match(/HTTP\/1\.1 \d+|<\/[a-z]>/g), ["HTTP/1.1 200", "</a>", "HTTP/1.1 417"]);
});

test("behind the body of a request that asked for an upgrade and gets none, the next request is read in full, however it comes", async (t) => {
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
  let said = "";
  socket.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
  });
  const lines = ["POST /a HTTP/1.1", "Host: app.localhost", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 6"];
  socket.write(`${lines.join("\r\n")}\r\n\r\n12`);
  await waitFor("the beginning of the body", async () => seen === "12");
  socket.write("34");
  await waitFor("more of it", async () => seen === "1234");
  socket.write(`56${get("/b").slice(0, 9)}`);
  await waitFor("the first answer", async () => said.includes("</a>"));
  socket.write(get("/b").slice(9) + get("/c"));
  await waitFor("the others", async () => said.includes("</c>"));
  assert.deepEqual(said.match(/HTTP\/1\.1 \d+/g), new Array(3).fill("HTTP/1.1 200"));
  assert.deepEqual(said.match(/<\/.>/g), ["</a>", "</b>", "</c>"]);
});

test("what came behind the body of a request that asks for an upgrade it does not get was thrown away", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.setNoDelay(true);
  let said = "";
  socket.on("data", (chunk) => {
    said += chunk.toString("latin1");
  });

  // In several reads: the first is not read in the way of the others.
  socket.write("POST /a HTTP/1.1\r\nHost: app.localhost\r\n");
  await sleep(50);
  socket.write("Connection: Upgrade\r\nUpgrade: nothing-known\r\nContent-Length: 10\r\n\r\n12345");
  await waitFor("the request to arrive", () => upstream.seen[0]?.body() === "12345");
  socket.write(`67890${get("/b")}${get("/c")}`);

  await waitFor("three answers", () => said.match(/HTTP\/1\.1 200/g)?.length === 3);
  assert.deepEqual(
    upstream.seen.map(({ url }) => url),
    ["/a", "/b", "/c"],
  );
  assert.equal(upstream.seen[0]?.body(), "1234567890");
});

test("what was said early in an upgrade was taken for requests, when its head had waited behind a body", async (t) => {
  let accept = (): void => {};
  let got = "";
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
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

  // Three records in one flight: TLS reads them all before anybody is given the second.
  const plain = connect(rig.port, "127.0.0.1");
  let held: Buffer[] | null = null;
  const between = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      if (held === null) plain.write(chunk);
      else held.push(chunk);
      done();
    },
  });
  plain.on("data", (chunk) => between.push(chunk));
  const client = connectTls({ socket: between, servername: "app.localhost", rejectUnauthorized: false });
  t.after(() => plain.destroy());
  let said = "";
  client.on("data", (chunk) => {
    said += chunk.toString("latin1");
  });
  await once(client, "secureConnect");
  held = [];
  const send = (text: string): Promise<void> => new Promise((resolve) => client.write(text, () => resolve()));
  await send("POST / HTTP/1.1\r\nHost: nowhere.localhost\r\nContent-Length: 10\r\n\r\n12345");
  await send("67890");
  await send("GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n");
  plain.write(Buffer.concat(held.splice(0)));
  held = null;
  await waitFor("the handshake to arrive", () => got.endsWith("\r\n\r\n"));
  got = "";
  await send(get("/early"));
  await sleep(50);
  accept();
  await waitFor("it to be accepted", () => said.includes("101 Switching"));
  await send("late");

  await waitFor("the last of it", () => got.endsWith("late"));
  assert.equal(got, `${get("/early")}late`);
  assert.equal(rig.records.length, 2);
});
