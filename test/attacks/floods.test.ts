/**
 * HTTP/2 floods: frames that are cheap for the caller and costly for the proxy. Either the connection ends or the cost
 * is bounded, and other callers are served.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "../proxy/support.ts";
import {
  continuationOf,
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  integer,
  RawHttp2,
  reset,
  settings,
  windowUpdate,
} from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

let upstream: Upstream;
let rig: Rig;
before(async () => {
  upstream = await startUpstream((req, res) => void req.resume().on("end", () => res.end("ok")));
  rig = await startRig([routeTo(upstream.port)]);
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});
afterEach(async () => assert.equal((await rig.request({ session: 1 })).status, 200, "other callers are served"));

const whole = endHeaders | endStream;
const requestFields = (method = "GET"): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/"],
  ...["cookie", cookieOf(1)],
];

/** Sends until the connection ends. @returns how many bursts that took; undefined: it did not end */
async function flood(
  burst: (n: number) => readonly Buffer[],
  { bursts = 2_000, reads = true }: Readonly<{ bursts?: number; reads?: boolean }> = {},
): Promise<number | undefined> {
  const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
  if (!reads) client.socket.pause();
  try {
    for (let n = 0; n < bursts; n++) {
      client.send(...burst(n));
      await client.drained();
      await new Promise((resolve) => setImmediate(resolve));
      if (client.closed) return n;
    }
    // The proxy may not have read everything yet: a fast caller finishes before the proxy starts.
    const closed = await waitFor("the connection to close", () => client.closed, {
      withinMs: reads ? 10_000 : 0,
    }).catch(() => false);
    return closed ? bursts : undefined;
  } finally {
    client.socket.destroy();
  }
}

describe("the connection ends", () => {
  test("rapid reset: requests that are cancelled at once", async () => {
    const ended = await flood((n) =>
      [0, 1, 2, 3].flatMap((i) => [headers(1 + 8 * n + 2 * i, whole, ...requestFields()), reset(1 + 8 * n + 2 * i, 8)]),
    );
    assert.ok(ended !== undefined);
    await waitFor("every request to finish", () => rig.proxy.stats().inFlight.http === 0);
  });
  test("rapid reset by the proxy: bodies longer than their content-length", async () => {
    const ended = await flood((n) => [
      headers(1 + 2 * n, endHeaders, ...requestFields("POST"), "content-length", "1"),
      data(1 + 2 * n, 0, "too long"),
    ]);
    assert.ok(ended !== undefined);
  });
  test("endless CONTINUATION frames", async () => {
    const ended = await flood((n) =>
      n === 0 ? [headers(1, endStream, ...requestFields())] : [continuationOf(1, 0, "x", "y".repeat(1_000))],
    );
    assert.ok(ended !== undefined);
  });
  test("endless empty CONTINUATION frames", async () => {
    const ended = await flood((n) => [
      n === 0 ? headers(1, endStream, ...requestFields()) : frame(frameTypes.continuation, 0, 1),
    ]);
    assert.ok(ended !== undefined);
  });
  test("endless empty DATA frames", async () => {
    const ended = await flood((n) => [n === 0 ? headers(1, endHeaders, ...requestFields("POST")) : data(1, 0, "")]);
    assert.ok(ended !== undefined);
  });
  test("flow-control windows that overflow", async () => {
    const ended = await flood(() => [windowUpdate(0, 0x7fff_ffff), windowUpdate(0, 0x7fff_ffff)]);
    assert.ok(ended !== undefined);
  });
  test("SETTINGS with far more entries than there are settings", async () => {
    const ended = await flood(() => [settings(...Array.from({ length: 500 }, () => [0x4, 65_535] as const))]);
    assert.ok(ended !== undefined);
  });
});

/** Puts `x: y…` into the HPACK table once and then refers to it, one byte each, `times` times. */
function bomb(valueBytes: number, times: number): Buffer {
  const value = Buffer.alloc(valueBytes, 121);
  const inTable = Buffer.concat([Buffer.from([0x40, 1, 120]), integer(valueBytes, 7, 0), value]);
  return Buffer.concat([fields(...requestFields()), inTable, Buffer.alloc(times, 0x80 | 62)]);
}

describe("the cost is bounded", () => {
  test("an HPACK bomb: a head of a few bytes that expands to megabytes", async () => {
    for (const [bytes, times] of [
      [4_000, 9_000],
      [1, 12_000],
    ] as const) {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
      const before = upstream.seen.length;
      client.send(frame(frameTypes.headers, whole, 1, bomb(bytes, times)));
      await waitFor("the request to be refused", () => client.isOver(1));
      const { status } = client.stream(1);
      assert.ok(status === 0 || (status >= 400 && status < 500), String(status));
      assert.equal(upstream.seen.length, before);
      client.socket.destroy();
    }
  });
  test("more concurrent streams than the proxy allows", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    for (let i = 0; i < 400; i++) client.send(headers(1 + 2 * i, endHeaders, ...requestFields("POST")));
    await waitFor("some streams or all to be refused", () => client.closed || client.isOver(799));
    assert.ok(rig.proxy.stats().inFlight.http <= 128, JSON.stringify(rig.proxy.stats().inFlight));
    client.socket.destroy();
    await waitFor("every request to finish", () => rig.proxy.stats().inFlight.http === 0);
  });
  for (const [name, one] of [
    ["PING", frame(frameTypes.ping, 0, 0, Buffer.alloc(8))],
    ["SETTINGS", settings([0x4, 65_535])],
  ] as const)
    test(`endless ${name} from a caller that does not read`, async () => {
      const many = Buffer.concat(Array.from({ length: 1_000 }, () => one));
      const before = process.memoryUsage().rss;
      await flood(() => [many], { bursts: 300, reads: false });
      assert.ok(process.memoryUsage().rss - before < 150_000_000, "pending replies do not accumulate");
    });
});
