/**
 * Request bodies longer than the route accepts: the answer is 413 however their length is declared, and the upstream
 * never receives a whole one.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "../proxy/support.ts";
import { data, endHeaders, endStream, headers, RawHttp2 } from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

const bytesMax = 1_000;

async function start(t: TestContext): Promise<Readonly<{ rig: Rig; upstream: Upstream; wholeBodies: () => number }>> {
  let wholeBodies = 0;
  const upstream = await startUpstream((req, res) => {
    let bytes = 0;
    req.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    req.on("end", () => {
      wholeBodies++;
      res.end(String(bytes));
    });
  });
  const rig = await startRig([
    routeTo(upstream.port, { maxRequestBodyBytes: bytesMax }),
    routeTo(upstream.port, { host: "free.localhost" }),
  ]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.apply(signedIn(1));
  return { rig, upstream, wholeBodies: () => wholeBodies };
}

const head = (...lines: readonly string[]): string =>
  [
    "POST / HTTP/1.1",
    "Host: app.localhost",
    `Cookie: ${cookieOf(1)}`,
    "Accept: application/json",
    ...lines,
    "\r\n",
  ].join("\r\n");
const chunk = (size: number): string => `${size.toString(16)}\r\n${"x".repeat(size)}\r\n`;

async function statusesOf(rig: Rig, bytes: string): Promise<readonly string[]> {
  const socket = connect(rig.port, "127.0.0.1");
  socket.on("error", () => {});
  let received = "";
  socket.on("data", (text: Buffer) => {
    received += text.toString("latin1");
  });
  socket.write(bytes, "latin1");
  await once(socket, "close");
  return [...received.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => status ?? "");
}

test("a body of the maximum length is forwarded; one byte more is 413, before anything is forwarded if the length is declared", async (t) => {
  const { rig, upstream, wholeBodies } = await start(t);
  for (const body of ["", "x".repeat(bytesMax)]) {
    const answer = await rig.request({ session: 1, method: "POST", body });
    assert.deepEqual([answer.status, answer.body], [200, String(body.length)]);
  }
  assert.deepEqual(
    await statusesOf(
      rig,
      `${head("Transfer-Encoding: chunked", "Connection: close")}${chunk(600)}${chunk(400)}0\r\n\r\n`,
    ),
    ["200"],
  );
  const [wholeBefore, startedBefore] = [wholeBodies(), upstream.seen.length];

  const long = await rig.request({
    session: 1,
    method: "POST",
    body: "x".repeat(bytesMax + 1),
    headers: { accept: "application/json" },
  });
  assert.equal(long.status, 413);
  assert.match(long.body, /413/);
  assert.equal(upstream.seen.length, startedBefore, "no part of it was forwarded");
  const chunked = head("Transfer-Encoding: chunked");
  assert.deepEqual(await statusesOf(rig, `${chunked}${chunk(600)}${chunk(401)}0\r\n\r\n`), ["413"]);
  assert.deepEqual(
    await statusesOf(rig, `${chunked}${chunk(600)}${chunk(600)}`),
    ["413"],
    "the answer does not wait for the end",
  );
  const tiny = "1\r\nx\r\n".repeat(bytesMax + 1);
  assert.deepEqual(await statusesOf(rig, `${chunked}${tiny}`), ["413"]);
  assert.equal(wholeBodies(), wholeBefore, "the upstream received none of them whole");
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="body-too-large"\} 4/);
  assert.equal(
    (await rig.request({ session: 1, method: "POST", host: "free.localhost", body: "x".repeat(50_000) })).body,
    "50000",
  );
});

test("a body that is too long is not parsed for requests, and a caller that expects 100 Continue receives 413 instead", async (t) => {
  const { rig, upstream } = await start(t);
  const startedBefore = upstream.seen.length;
  const hidden = `GET /hidden HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`;
  assert.deepEqual(await statusesOf(rig, `${head("Content-Length: 5000")}${hidden}${"x".repeat(5_000)}${hidden}`), [
    "413",
  ]);
  assert.deepEqual(await statusesOf(rig, head("Content-Length: 5000", "Expect: 100-continue")), ["413"]);
  assert.equal(upstream.seen.length, startedBefore);
});

test("HTTP/2: a body that is too long is 413, with a declared length and without", async (t) => {
  const { rig, wholeBodies } = await start(t);
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  const client = new RawHttp2(socket);
  const requestFields = (...more: readonly string[]): string[] => [
    ...[":method", "POST", ":scheme", "http", ":authority", "app.localhost", ":path", "/", "cookie", cookieOf(1)],
    ...more,
  ];
  client.send(headers(1, endHeaders, ...requestFields("content-length", "1001")));
  client.send(headers(3, endHeaders, ...requestFields()));
  client.send(data(3, 0, "x".repeat(600)));
  client.send(data(3, endStream, "x".repeat(401)));
  client.send(headers(5, endHeaders, ...requestFields()));
  client.send(data(5, endStream, "x".repeat(1_000)));
  for (const [stream, status] of [
    [1, 413],
    [3, 413],
    [5, 200],
  ] as const)
    await waitFor(`stream ${stream}`, () => client.stream(stream).status === status || undefined, { withinMs: 30_000 });
  assert.equal(wholeBodies(), 1);
});
