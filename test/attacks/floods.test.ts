/**
 * Frames of HTTP/2 that cost the caller nothing and us much. The connection ends or what it may cost is bounded; others
 * are served.
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
afterEach(async () => assert.equal((await rig.ask({ session: 1 })).status, 200, "others are served"));

const whole = endHeaders | endStream;
const asked = (method = "GET"): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/"],
  ...["cookie", cookieOf(1)],
];

/** Sends until the connection ends. @returns how many bursts that took; undefined: it never did */
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
    // What was sent may not have been read yet: a fast caller is through before the proxy has begun.
    const answered = await waitFor("an end", () => client.closed, { withinMs: reads ? 10_000 : 0 }).catch(() => false);
    return answered ? bursts : undefined;
  } finally {
    client.socket.destroy();
  }
}

describe("the connection ends", () => {
  test("rapid reset: requests that are taken back at once", async () => {
    const ended = await flood((n) =>
      [0, 1, 2, 3].flatMap((i) => [headers(1 + 8 * n + 2 * i, whole, ...asked()), reset(1 + 8 * n + 2 * i, 8)]),
    );
    assert.ok(ended !== undefined);
    await waitFor("every request to be over", () => rig.proxy.stats().inFlight.http === 0);
  });
  test("rapid reset that we are made to do: bodies longer than they were said to be", async () => {
    const ended = await flood((n) => [
      headers(1 + 2 * n, endHeaders, ...asked("POST"), "content-length", "1"),
      data(1 + 2 * n, 0, "too long"),
    ]);
    assert.ok(ended !== undefined);
  });
  test("a head of CONTINUATION without end", async () => {
    const ended = await flood((n) =>
      n === 0 ? [headers(1, endStream, ...asked())] : [continuationOf(1, 0, "x", "y".repeat(1_000))],
    );
    assert.ok(ended !== undefined);
  });
  test("a head of empty CONTINUATION without end", async () => {
    const ended = await flood((n) => [
      n === 0 ? headers(1, endStream, ...asked()) : frame(frameTypes.continuation, 0, 1),
    ]);
    assert.ok(ended !== undefined);
  });
  test("empty frames of DATA without end", async () => {
    const ended = await flood((n) => [n === 0 ? headers(1, endHeaders, ...asked("POST")) : data(1, 0, "")]);
    assert.ok(ended !== undefined);
  });
  test("windows that overflow", async () => {
    const ended = await flood(() => [windowUpdate(0, 0x7fff_ffff), windowUpdate(0, 0x7fff_ffff)]);
    assert.ok(ended !== undefined);
  });
  test("SETTINGS with more entries than there are settings", async () => {
    const ended = await flood(() => [settings(...Array.from({ length: 500 }, () => [0x4, 65_535] as const))]);
    assert.ok(ended !== undefined);
  });
});

/** `x: y…` once in the table, then as often as a frame has bytes. */
function bomb(valueBytes: number, times: number): Buffer {
  const value = Buffer.alloc(valueBytes, 121);
  const inTable = Buffer.concat([Buffer.from([0x40, 1, 120]), integer(valueBytes, 7, 0), value]);
  return Buffer.concat([fields(...asked()), inTable, Buffer.alloc(times, 0x80 | 62)]);
}

describe("what it may cost is bounded", () => {
  test("an HPACK bomb: a head of a few bytes that stands for megabytes", async () => {
    for (const [bytes, times] of [
      [4_000, 9_000],
      [1, 12_000],
    ] as const) {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
      const before = upstream.seen.length;
      client.send(frame(frameTypes.headers, whole, 1, bomb(bytes, times)));
      await waitFor("it to be refused", () => client.isOver(1));
      const { status } = client.stream(1);
      assert.ok(status === 0 || (status >= 400 && status < 500), String(status));
      assert.equal(upstream.seen.length, before);
      client.socket.destroy();
    }
  });
  test("more streams at once than were offered", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    for (let i = 0; i < 400; i++) client.send(headers(1 + 2 * i, endHeaders, ...asked("POST")));
    await waitFor("some to be refused, or all", () => client.closed || client.isOver(799));
    assert.ok(rig.proxy.stats().inFlight.http <= 128, JSON.stringify(rig.proxy.stats().inFlight));
    client.socket.destroy();
    await waitFor("every request to be over", () => rig.proxy.stats().inFlight.http === 0);
  });
  for (const [name, one] of [
    ["PING", frame(frameTypes.ping, 0, 0, Buffer.alloc(8))],
    ["SETTINGS", settings([0x4, 65_535])],
  ] as const)
    test(`${name} without end from a caller that does not read`, async () => {
      const many = Buffer.concat(Array.from({ length: 1_000 }, () => one));
      const before = process.memoryUsage().rss;
      await flood(() => [many], { bursts: 300, reads: false });
      assert.ok(process.memoryUsage().rss - before < 150_000_000, "what waits to be answered does not pile up");
    });
});
