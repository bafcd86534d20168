/**
 * The limit of header lines applies while a head is read: 31,000 lines cost no more than the lines up to the limit.
 * These tests count work (lines that the proxy processed, bytes that a caller could send), not time.
 * bench/header-lines.ts measures time.
 */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { connect, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { createParser, freeParser, linesPerPart } from "../../../src/proxy/http1/parser.ts";
import { headerLinesMax } from "../../../src/proxy/message/canonical-request.ts";
import { endHeaders, endStream, headers, RawHttp2 } from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, sendRequest, startRig, startUpstream, type Upstream } from "../support.ts";

const { HTTPParser } = createRequire(import.meta.url)("node:_http_common") as {
  HTTPParser: Readonly<{ kOnHeaders: number }>;
};
const flood = 31_000;
const line = "a:\r\n";

let rig: Rig;
let upstream: Upstream;
let hostile: Readonly<{ port: number; close(): void }>;

before(async () => {
  upstream = await startUpstream();
  hostile = await startHostile();
  rig = await startRig([
    routeTo(hostile.port, { ...publicAccess, match: { kind: "prefix", value: "/hostile" } }),
    routeTo(upstream.port, publicAccess),
  ]);
});
after(async () => {
  await rig.close();
  hostile.close();
  await upstream.close();
});

/** An upstream whose response head grows without end. */
async function startHostile(): Promise<typeof hostile> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", () => socket.write(`HTTP/1.1 200 OK\r\n${line.repeat(3_000)}`));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { port, close };
}

/**
 * Feeds one message to the parser, in reads of a socket's size.
 * @returns the number of header lines that reached the proxy's own code
 */
function linesLookedAt(message: string): Readonly<{ looked: number; refused: number; heads: number }> {
  let [looked, refused, heads] = [0, 0, 0];
  const parser = createParser(
    "request",
    { bytesMax: 131_072, linesMax: headerLinesMax },
    {
      onHead(_major, _minor, lines) {
        heads++;
        looked += heads === 1 && looked === 0 ? (lines?.length ?? 0) / 2 : 0;
        return 0;
      },
      onBody() {},
      onComplete() {},
      onTrailers() {},
      onTooManyLines: () => void refused++,
    },
  );
  const onHeaders = parser[HTTPParser.kOnHeaders] as (lines: string[], url: string) => void;
  parser[HTTPParser.kOnHeaders] = (lines: string[], url: string) => {
    looked += lines.length / 2;
    onHeaders(lines, url);
  };
  const bytes = Buffer.from(message, "latin1");
  for (let at = 0; at < bytes.length; at += 65_536) parser.execute(bytes.subarray(at, at + 65_536));
  freeParser(parser);
  return { looked, refused, heads };
}

test("of 31,000 header lines, no more than the limit and one read are processed, in a head and in trailers", () => {
  const head = linesLookedAt(`GET / HTTP/1.1\r\nHost: a\r\n${line.repeat(flood)}\r\n`);
  assert.deepEqual([head.refused, head.heads], [1, 0]);
  assert.ok(head.looked <= headerLinesMax + linesPerPart, `${head.looked} lines`);
  const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
  const trailers = linesLookedAt(`${chunked}${line.repeat(flood)}\r\n`);
  assert.deepEqual([trailers.refused, trailers.heads], [1, 1]);
  assert.ok(trailers.looked <= headerLinesMax + linesPerPart + 2, `${trailers.looked} lines`);
  const allowed = linesLookedAt(`GET / HTTP/1.1\r\nHost: a\r\n${line.repeat(headerLinesMax - 1)}\r\n`);
  assert.deepEqual([allowed.refused, allowed.heads], [0, 1], "a head up to the limit is accepted");
});

test("HTTP/1.1: a head is refused at the limit, even if its end never arrives", async () => {
  const lines = headerLinesMax + linesPerPart;
  const sent = `GET / HTTP/1.1\r\nHost: app.localhost\r\n${line.repeat(lines)}`;
  const answer = await new Promise<string>((resolve) => {
    let text = "";
    const socket = connect(rig.port, "127.0.0.1", () => socket.write(sent));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.includes("\r\n\r\n")) socket.destroy();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(text));
  });
  assert.match(answer, /^HTTP\/1\.1 431 /);
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="too-many-headers"\} 1/);
  assert.equal(upstream.seen.length, 0);
});

test("HTTP/2: a stream is reset at the limit, even if the end of its head never arrives, and its lines reach none of the proxy's code", async () => {
  const records = rig.records.length;
  const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
  const request = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/"];
  const fields = Array.from({ length: 1_100 }, () => ["a", ""]).flat();
  client.send(headers(1, endStream, ...request, ...fields)); // no END_HEADERS
  await waitFor("the stream to be reset", () => client.isOver(1));
  assert.equal(client.stream(1).reset, 11, "ENHANCE_YOUR_CALM");
  client.socket.destroy();
  const other = new RawHttp2(connect(rig.port, "127.0.0.1"));
  other.send(headers(1, endStream | endHeaders, ...request, ...fields.slice(0, 2_040)));
  await waitFor("the response", () => other.isOver(1));
  assert.equal(other.stream(1).status, 431, "between the two limits, the stricter one refuses it");
  other.socket.destroy();
  assert.equal(rig.records.length, records + 1, "only the second request was decided");
  assert.equal(upstream.seen.length, 0);
});

test("an upstream whose head does not end is abandoned at the limit: 502", async () => {
  assert.equal((await sendRequest(rig.port, { path: "/hostile" })).status, 502);
});
