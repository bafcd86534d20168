/** Request lines that Node's parser accepts and HTTP/1 does not have: other protocols, and runs of spaces (RFC 9112 §3). */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { FirstLine } from "../../src/proxy/http1-head.ts";
import { waitFor } from "../support/wait-for.ts";
import { open, type Rig, routeTo, startRig, startUpstream, type Upstream } from "./support.ts";

let rig: Rig;
let upstream: Upstream;
before(async () => {
  upstream = await startUpstream();
  rig = await startRig([routeTo(upstream.port, open)]);
});
after(async () => {
  await rig.close();
  await upstream.close();
});

const others = [
  ...["GET / RTSP/1.0", "OPTIONS / RTSP/1.0", "POST / RTSP/1.1", "SOURCE / ICE/1.0", "SOURCE / ICE/1.1"],
  ...["GET  / HTTP/1.1", "GET /  HTTP/1.1", "CONNECT  a:1 HTTP/1.1", "GET /  RTSP/1.0"],
];

test("the first line of a connection is looked at byte by byte, in whatever reads it comes", () => {
  const judge = (text: string, pieceLength: number): boolean => {
    const line = new FirstLine();
    const bytes = Buffer.from(text, "latin1");
    for (let at = 0; at < bytes.length; at += pieceLength)
      if (!line.accepts(bytes.subarray(at, at + pieceLength))) return false;
    assert.ok(line.isComplete, text);
    return true;
  };
  for (const pieceLength of [1, 3, 100]) {
    for (const other of others) assert.ok(!judge(`${other}\r\nHost: a\r\n\r\n`, pieceLength), other);
    for (const good of ["GET / HTTP/1.1", "\r\n\r\nGET /RTSP/1.0 HTTP/1.0", "POST /?a=b HTTP/1.1"])
      assert.ok(judge(`${good}\r\nX:  two spaces,  and RTSP/1.0\r\n\r\n`, pieceLength), good);
  }
  const spaces = new FirstLine();
  assert.ok(!spaces.accepts(Buffer.from(`GET ${" ".repeat(100_000)}`)), "spaces without an end");
});

test("other protocols and runs of spaces get 400, and no upstream hears of them", async () => {
  for (const other of others) {
    const seen = upstream.seen.length;
    const answer = await rig.raw(`${other}\r\nHost: app.localhost\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 400 /, other);
    assert.equal(upstream.seen.length, seen, other);
  }
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="request-line"\} 9/);
});

test("RTSP/1.0 and ICE/1.0 are refused behind requests of the same connection too", async () => {
  for (const other of ["GET /x RTSP/1.0", "SOURCE /x ICE/1.0"]) {
    const [socket, read] = await dial();
    socket.write("GET /first HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
    await waitFor("the first answer", () => read().includes("/first"), { everyMs: 1 });
    const seen = upstream.seen.length;
    socket.write(`${other}\r\nHost: app.localhost\r\nConnection: keep-alive\r\n\r\n`);
    await waitFor("the second answer", () => read().includes("HTTP/1.1 400 "), { everyMs: 1 });
    assert.equal(upstream.seen.length, seen, other);
    socket.destroy();
  }
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
