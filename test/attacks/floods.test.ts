/**
 * HTTP/2 floods: frames that are cheap for the caller and costly for the proxy. Either the connection ends or the cost
 * is bounded, and other callers are served.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
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

/** MadeYouReset (CVE-2025-8671): frames that make the proxy reset a stream which it is already serving. */
const selfReset: Readonly<Record<string, (stream: number) => readonly Buffer[]>> = {
  "a window that does not grow": (stream) => [
    headers(stream, endHeaders, ...requestFields("POST")),
    windowUpdate(stream, 0),
  ],
  "a window that overflows": (stream) => [
    headers(stream, endHeaders, ...requestFields("POST")),
    windowUpdate(stream, 0x7fff_ffff),
  ],
  "PRIORITY of a wrong length": (stream) => [
    headers(stream, endHeaders, ...requestFields("POST")),
    frame(frameTypes.priority, 0, stream, Buffer.alloc(4)),
  ],
  "data after the end": (stream) => [headers(stream, whole, ...requestFields()), data(stream, 0, "x")],
  "headers after the end": (stream) => [
    headers(stream, whole, ...requestFields()),
    headers(stream, whole, ...requestFields()),
  ],
  "trailers with pseudo-headers": (stream) => [
    headers(stream, endHeaders, ...requestFields("POST")),
    headers(stream, whole, ":path", "/"),
  ],
  "a head that is refused": (stream) => [headers(stream, whole, ...requestFields(), "A", "b")],
};

describe("streams that a caller makes the proxy reset", () => {
  for (const [name, frames] of Object.entries(selfReset))
    test(name, async () => {
      const before = upstream.seen.length;
      const ended = await flood((n) => [0, 1, 2, 3].flatMap((i) => frames(1 + 8 * n + 2 * i)));
      assert.ok(ended !== undefined);
      await waitFor("every request to finish", () => rig.proxy.stats().inFlight.http === 0);
      assert.ok(upstream.seen.length - before < 400, "few of them reached the upstream");
    });
});

describe("frames without use", () => {
  const empty = Buffer.alloc(0);
  const useless: Readonly<Record<string, (n: number) => Buffer>> = {
    PING: () => frame(frameTypes.ping, 0, 0, Buffer.alloc(8)),
    "answers to no PING": () => frame(frameTypes.ping, 1, 0, Buffer.alloc(8)),
    SETTINGS: () => settings([0x4, 65_535]),
    "settings that change the window of all streams": (n) => settings([0x4, 65_535 - (n % 2)]),
    "acknowledgements of no SETTINGS": () => frame(frameTypes.settings, 1, 0),
    PRIORITY: (n) => frame(frameTypes.priority, 0, 2 * n + 1, Buffer.alloc(5)),
    "windows of one byte": () => windowUpdate(0, 1),
    "windows of one byte, of an ended stream": () => windowUpdate(1, 1),
    "RST_STREAM of an ended stream": () => reset(1, 8),
    "headers of a stream that was reset": (n) =>
      n === 0 ? headers(3, whole, ...requestFields(), "A", "b") : headers(3, whole, "a", "b"),
    "frames of an unknown type": () => frame(0xfa, 0, 0, empty),
  };
  for (const [name, one] of Object.entries(useless))
    test(`${name}, from a caller that reads the replies: the connection ends`, async () => {
      const first = headers(1, whole, ...requestFields());
      const ended = await flood((n) => [
        ...(n === 0 ? [first] : []),
        ...Array.from({ length: 20 }, (_, i) => one(n * 20 + i)),
      ]);
      assert.ok(ended !== undefined);
    });

  test("empty DATA frames with padding: the connection ends", async () => {
    const padding = frame(frameTypes.data, 0x8, 1, Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]));
    const ended = await flood((n) => [
      ...(n === 0 ? [headers(1, endHeaders, ...requestFields("POST"))] : []),
      ...Array.from({ length: 20 }, () => padding),
    ]);
    assert.ok(ended !== undefined);
  });

  test("a client that measures its connection with every message is served", async () => {
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    for (let n = 0; n < 3_000; n++) {
      const stream = 1 + 2 * n;
      client.send(
        headers(stream, whole, ...requestFields()),
        windowUpdate(0, 1),
        frame(frameTypes.ping, 0, 0, Buffer.alloc(8)),
      );
      await waitFor("the response", () => client.isOver(stream), { everyMs: 1 });
      assert.equal(client.stream(stream).status, 200, `request ${n}: ${JSON.stringify(client.goAway)}`);
    }
    client.socket.destroy();
  });
});

describe("window games", () => {
  const large = 200_000;
  let big: Upstream;
  before(async () => {
    big = await startUpstream((_req, res) => void res.end(Buffer.alloc(large, 97)));
  });
  after(() => big.close());
  const withBig = async (run: () => Promise<void>): Promise<void> => {
    await rig.activate([routeTo(big.port)]);
    try {
      await run();
    } finally {
      await rig.activate([routeTo(upstream.port)]);
    }
  };

  test("a response one byte at a time: the connection ends", () =>
    withBig(async () => {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [[0x4, 0]]);
      client.send(headers(1, whole, ...requestFields()));
      await waitFor("the head", () => client.stream(1).status === 200);
      for (let n = 0; n < 3_000 && !client.closed; n++) {
        client.send(windowUpdate(1, 1));
        if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await waitFor("the connection to end", () => client.closed);
      assert.equal(client.goAway?.code, 11);
      assert.ok(client.stream(1).bytes < 3_000);
    }));

  test("windows that stay closed hold a bounded part of each response, and open later", () =>
    withBig(async () => {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [[0x4, 0]]);
      const streams = Array.from({ length: 100 }, (_, i) => 1 + 2 * i);
      const rss = process.memoryUsage().rss;
      for (const stream of streams) client.send(headers(stream, whole, ...requestFields()));
      await waitFor("all heads", () => streams.every((stream) => client.stream(stream).status === 200));
      assert.ok(process.memoryUsage().rss - rss < 60_000_000, "responses do not accumulate");
      assert.ok(streams.every((stream) => client.stream(stream).bytes === 0));
      client.send(windowUpdate(0, 0x3fff_ffff), settings([0x4, 0x3fff_ffff]));
      await waitFor("all responses", () => streams.every((stream) => client.isOver(stream)));
      assert.ok(streams.every((stream) => client.stream(stream).bytes === large));
      client.socket.destroy();
    }));

  test("a window made smaller than what was sent opens again", () =>
    withBig(async () => {
      const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [[0x4, 50_000]]);
      client.send(headers(1, whole, ...requestFields()));
      await waitFor("the first part", () => client.stream(1).bytes === 50_000);
      client.send(settings([0x4, 10_000]), windowUpdate(1, 40_000)); // just closed again
      client.send(headers(3, whole, ...requestFields()));
      await waitFor("the part that a smaller window allows", () => client.stream(3).bytes === 10_000);
      assert.equal(client.stream(1).bytes, 50_000);
      client.send(windowUpdate(0, 1_000_000), windowUpdate(1, 1_000_000), windowUpdate(3, 1_000_000));
      await waitFor("both responses", () => client.isOver(1) && client.isOver(3));
      assert.deepEqual([client.stream(1).bytes, client.stream(3).bytes], [large, large]);
      client.socket.destroy();
    }));

  test("responses of one byte a chunk, which no caller reads, take no more memory than their bytes", async () => {
    const chunks = Buffer.from("1\r\ny\r\n".repeat(80_000));
    const trickling = createServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", () => {
          socket.write(Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), chunks]));
        });
    }).listen(0, "127.0.0.1");
    await once(trickling, "listening");
    await rig.activate([routeTo((trickling.address() as AddressInfo).port)]);
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [[0x4, 0]]);
    setFlagsFromString("--expose-gc");
    const collectGarbage = runInNewContext("gc") as () => void;
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const streams = Array.from({ length: 15 }, (_, i) => 1 + 2 * i);
    for (const stream of streams) client.send(headers(stream, whole, ...requestFields()));
    await waitFor("all heads", () => streams.every((stream) => client.stream(stream).status === 200));
    await new Promise((resolve) => setTimeout(resolve, 500));
    collectGarbage();
    assert.ok(process.memoryUsage().heapUsed - before < 8_000_000, String(process.memoryUsage().heapUsed - before));
    client.socket.destroy();
    await rig.activate([routeTo(upstream.port)]);
    trickling.close();
  });

  test("bodies of one byte per frame, which no upstream reads, take no more memory than their bytes", async () => {
    const silent = await startUpstream((req) => void req.pause());
    await rig.activate([routeTo(silent.port)]);
    const client = new RawHttp2(connect(rig.port, "127.0.0.1"));
    const one = Buffer.concat(Array.from({ length: 1_000 }, () => data(1, 0, "x")));
    client.send(headers(1, endHeaders, ...requestFields("POST")));
    const rss = process.memoryUsage().rss;
    for (let n = 0; n < 200 && !client.closed; n++) {
      client.send(one);
      await client.drained();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(process.memoryUsage().rss - rss < 80_000_000);
    client.socket.destroy();
    await rig.activate([routeTo(upstream.port)]);
    await silent.close();
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
