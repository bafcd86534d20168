/**
 * Request lines that Node's parser accepts and HTTP/1 does not: other protocols, and runs of spaces (RFC 9112
 * §3).
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { PartialRequestLine } from "../../../src/proxy/http1/request-line.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream } from "../support.ts";

let rig: Rig;
let upstream: Upstream;
before(async () => {
  upstream = await startUpstream();
  rig = await startRig([routeTo(upstream.port, publicAccess)]);
});
after(async () => {
  await rig.close();
  await upstream.close();
});

const others = [
  ...["GET / RTSP/1.0", "OPTIONS / RTSP/1.0", "POST / RTSP/1.1", "SOURCE / ICE/1.0", "SOURCE / ICE/1.1"],
  ...["GET  / HTTP/1.1", "GET /  HTTP/1.1", "CONNECT  a:1 HTTP/1.1", "GET /  RTSP/1.0"],
];

test("the first line of a connection is checked byte by byte, however its reads are split", () => {
  const isAccepted = (text: string, pieceLength: number): boolean => {
    const line = new PartialRequestLine();
    const bytes = Buffer.from(text, "latin1");
    for (let at = 0; at < bytes.length; at += pieceLength)
      if (!line.accepts(bytes.subarray(at, at + pieceLength))) return false;
    assert.ok(line.isComplete, text);
    return true;
  };
  for (const pieceLength of [1, 3, 100]) {
    for (const other of others) assert.ok(!isAccepted(`${other}\r\nHost: a\r\n\r\n`, pieceLength), other);
    for (const good of ["GET / HTTP/1.1", "\r\n\r\nGET /RTSP/1.0 HTTP/1.0", "POST /?a=b HTTP/1.1"])
      assert.ok(isAccepted(`${good}\r\nX:  two spaces,  and RTSP/1.0\r\n\r\n`, pieceLength), good);
  }
  const spaces = new PartialRequestLine();
  assert.ok(!spaces.accepts(Buffer.from(`GET ${" ".repeat(100_000)}`)), "spaces without end");
});

test("other protocols and runs of spaces get 400, and reach no upstream", async () => {
  for (const other of others) {
    const seen = upstream.seen.length;
    const answer = await rig.sendRaw(`${other}\r\nHost: app.localhost\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 400 /, other);
    assert.equal(upstream.seen.length, seen, other);
  }
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="request-line"\} 9/);
});

const inside = "GET /x HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
const chunked = `Transfer-Encoding: chunked\r\n\r\n${inside.length.toString(16)}\r\n${inside}\r\n0\r\n`;
const host = "Host: app.localhost\r\n";
/** What may precede a request line on its connection. Each response contains /first. */
const predecessors = {
  "a request": `GET /first HTTP/1.1\r\n${host}\r\n`,
  "empty lines": `GET /first HTTP/1.1\r\n${host}\r\n\r\n\r\n`,
  "a body that looks like a request": `POST /first HTTP/1.1\r\n${host}Content-Length: ${inside.length}\r\n\r\n${inside}`,
  "an empty body": `POST /first HTTP/1.1\r\n${host}Content-Length: 0\r\n\r\n`,
  "chunks that look like a request": `POST /first HTTP/1.1\r\n${host}${chunked}\r\n`,
  trailers: `POST /first HTTP/1.1\r\n${host}${chunked}X: GET /x HTTP/1.1\r\n\r\n`,
  "a refused upgrade": `GET /first HTTP/1.1\r\n${host}Connection: upgrade\r\nUpgrade: other\r\n\r\n`,
  "a refused upgrade with chunks": `POST /first HTTP/1.1\r\n${host}Connection: upgrade\r\nUpgrade: other\r\n${chunked}\r\n`,
} as const;
const later = ["GET /x RTSP/1.0", "GET /x RTSP/1.1", "SOURCE /x ICE/1.0", "GET  /x HTTP/1.1", "GET /x   HTTP/1.1"];

async function write(socket: Socket, text: string, pieceLength: number): Promise<void> {
  for (let at = 0; at < text.length; at += pieceLength) {
    socket.write(text.slice(at, at + pieceLength), "latin1");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

for (const [name, first] of Object.entries(predecessors))
  test(`after ${name}, a request line is checked like the first one of a connection`, async () => {
    for (const pieceLength of [1_000, 37, 1])
      for (const line of [...later, "GET /x HTTP/1.1"]) {
        const isGood = line === "GET /x HTTP/1.1";
        const seen = upstream.seen.length;
        const [socket, read] = await dial();
        await write(socket, first, pieceLength);
        await waitFor("the first response", () => read().includes('"url":"/first"'), { everyMs: 1 });
        await write(socket, `${line}\r\n${host}\r\n`, pieceLength);
        await waitFor("the second response", () => read().includes(isGood ? '"url":"/x"' : "HTTP/1.1 400 "), {
          everyMs: 1,
        });
        assert.equal(upstream.seen.length - seen, isGood ? 2 : 1, line);
        socket.destroy();
      }
  });

test("pipelined request lines are checked like the first one of a connection", async () => {
  for (const [name, first] of Object.entries(predecessors))
    for (const line of [...later, "GET /x HTTP/1.1"]) {
      const isGood = line === "GET /x HTTP/1.1";
      const [socket, read] = await dial();
      socket.write("GET /zeroth HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
      await waitFor("a response", () => read().includes('"url":"/zeroth"'), { everyMs: 1 });
      const seen = upstream.seen.length;
      const behind = inside.replace("/x", "/last");
      socket.write(`${first}${line}\r\n${host}\r\n${behind}`);
      if (isGood) await waitFor(`the responses after ${name}`, () => read().includes('"url":"/last"'), { everyMs: 1 });
      else await waitFor(`the end after ${name}: ${line}`, () => socket.closed || read().includes("HTTP/1.1 400 "));
      const urls = upstream.seen.slice(seen).map(({ url }) => url);
      if (isGood) assert.deepEqual(urls, ["/first", "/x", "/last"], name);
      else assert.ok(!urls.includes("/x") && !urls.includes("/last"), `${name}: ${line}`);
      socket.destroy();
    }
});

test("bytes after the last request of a connection are ignored", async () => {
  const [socket, read] = await dial();
  socket.write(`GET /first HTTP/1.1\r\n${host}Connection: close\r\n\r\nGET  /x RTSP/1.0\r\n\r\n`);
  await waitFor("the response", () => read().includes('"url":"/first"'), { everyMs: 1 });
  assert.match(read(), /^HTTP\/1\.1 200 /);
  socket.destroy();
});

async function dial(): Promise<readonly [Socket, () => string]> {
  let text = "";
  const socket = connect(rig.port, "127.0.0.1");
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  return [socket, () => text];
}
