/**
 * RFC 9113, error by error: which frames end a stream, which end the connection, with which code, and which are
 * ignored. After an error of a stream, and after what is ignored, the connection serves another request.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import {
  continuationOf,
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  initialWindow,
  RawHttp2,
  requestLines,
  reset,
  settings,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "../support.ts";

let upstream: Upstream;
let rig: Rig;
before(async () => {
  upstream = await startUpstream((req, res) => void req.resume().on("end", () => res.end("x".repeat(100))));
  rig = await startRig([routeTo(upstream.port)], { config: { http2Connections: "cardea" } });
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});

const code = { protocol: 1, flow: 3, closed: 5, size: 6, compression: 9, calm: 11 } as const;
const whole = endHeaders | endStream;
const lines = (method = "GET"): readonly string[] => requestLines(cookieOf(1), method);
const get = (stream: number): Buffer => headers(stream, whole, ...lines());
const post = (stream: number, ...more: string[]): Buffer => headers(stream, endHeaders, ...lines("POST"), ...more);
const { ping, priority, settings: settingsType, windowUpdate: windowType, goAway } = frameTypes;
const bytes = (length: number): Buffer => Buffer.alloc(length);
const padded = (type: number, flags: number, padding: number, payload: Buffer): Buffer =>
  frame(type, flags | 0x8, 1, Buffer.concat([Buffer.from([padding]), payload]));

function open(): RawHttp2 {
  return new RawHttp2(connect(rig.port, "127.0.0.1"));
}

describe("errors of the connection", () => {
  const cases: Readonly<Record<string, readonly [frames: readonly Buffer[], code: number]>> = {
    "§4.2 a frame larger than announced": [[frame(frameTypes.data, 0, 1, bytes(16_385))], code.size],
    "§4.3 a block that cannot be decoded": [
      [frame(frameTypes.headers, whole, 1, Buffer.from([0x80]))],
      code.compression,
    ],
    "§4.3 a block that ends within a field": [
      [frame(frameTypes.headers, whole, 1, Buffer.from([0x40, 5, 97]))],
      code.compression,
    ],
    "§4.3 another frame within a block": [[headers(1, 0, ...lines()), frame(ping, 0, 0, bytes(8))], code.protocol],
    "§5.1 DATA on an idle stream": [[data(1, 0, "x")], code.protocol],
    "§5.1 RST_STREAM on an idle stream": [[reset(1, 8)], code.protocol],
    "§5.1 WINDOW_UPDATE on an idle stream": [[windowUpdate(1, 1)], code.protocol],
    "§5.1.1 an even stream": [[get(2)], code.protocol],
    "§6.1 DATA on stream 0": [[data(0, 0, "x")], code.protocol],
    "§6.1 padding longer than DATA": [[post(1), padded(frameTypes.data, 0, 9, bytes(2))], code.protocol],
    "§6.1 padded DATA without a length": [[post(1), frame(frameTypes.data, 0x8, 1)], code.size],
    "§6.2 HEADERS on stream 0": [[get(0)], code.protocol],
    "§6.2 padding longer than HEADERS": [[padded(frameTypes.headers, whole, 255, fields(...lines()))], code.protocol],
    "§6.3 PRIORITY on stream 0": [[frame(priority, 0, 0, bytes(5))], code.protocol],
    "§6.3 PRIORITY of another length, on an idle stream": [[frame(priority, 0, 1, bytes(4))], code.size],
    "§6.4 RST_STREAM on stream 0": [[reset(0, 8)], code.protocol],
    "§6.4 RST_STREAM of another length": [[post(1), frame(frameTypes.reset, 0, 1, bytes(3))], code.size],
    "§6.5 SETTINGS on a stream": [[frame(settingsType, 0, 1)], code.protocol],
    "§6.5 SETTINGS of another length": [[frame(settingsType, 0, 0, bytes(5))], code.size],
    "§6.5 an acknowledgement with settings": [[frame(settingsType, 1, 0, bytes(6))], code.size],
    "§6.5.2 a push setting other than 0 and 1": [[settings([2, 2])], code.protocol],
    "§6.5.2 a window beyond 2^31-1": [[settings([4, 0x8000_0000])], code.flow],
    "§6.5.2 a frame size below 16,384": [[settings([5, 16_383])], code.protocol],
    "§6.5.2 a frame size beyond 2^24-1": [[settings([5, 0x100_0000])], code.protocol],
    "§6.6 PUSH_PROMISE": [[frame(frameTypes.pushPromise, endHeaders, 1, bytes(4))], code.protocol],
    "§6.7 PING on a stream": [[frame(ping, 0, 1, bytes(8))], code.protocol],
    "§6.7 PING of another length": [[frame(ping, 0, 0, bytes(7))], code.size],
    "§6.8 GOAWAY on a stream": [[frame(goAway, 0, 1, bytes(8))], code.protocol],
    "§6.8 GOAWAY that is too short": [[frame(goAway, 0, 0, bytes(7))], code.size],
    "§6.9 WINDOW_UPDATE of another length": [[frame(windowType, 0, 0, bytes(3))], code.size],
    "§6.9 an increment of 0 on the connection": [[windowUpdate(0, 0)], code.protocol],
    "§6.9.1 a window of the connection that overflows": [[windowUpdate(0, 0x7fff_ffff)], code.flow],
    "§6.9.2 settings that overflow a stream's window": [
      [post(1), windowUpdate(1, 0x7000_0000), settings(initialWindow(0x7fff_ffff))],
      code.flow,
    ],
    "§6.10 CONTINUATION without a block": [[continuationOf(1, endHeaders, "a", "b")], code.protocol],
    "§6.10 CONTINUATION of another stream": [
      [headers(1, endStream, ...lines()), continuationOf(3, endHeaders)],
      code.protocol,
    ],
  };
  for (const [name, [frames, expected]] of Object.entries(cases))
    test(name, async () => {
      const client = open();
      client.send(...frames);
      await waitFor("the connection to end", () => client.closed);
      assert.equal(client.goAway?.code, expected);
    });

  test("§3.4 a preface that is not one", async () => {
    const tls = await startRig([routeTo(upstream.port)], { config: { codecType: "http2" } });
    const socket = connect(tls.port, "127.0.0.1", () => socket.write("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"));
    socket.on("error", () => {});
    let received = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
    });
    await waitFor("the connection to end", () => socket.destroyed);
    assert.equal(received.readUInt32BE(received.length - 4), code.protocol);
    await tls.close();
  });
  test("§3.4 a first frame other than SETTINGS", async () => {
    const socket = connect(rig.port, "127.0.0.1");
    socket.on("error", () => {}).resume();
    socket.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(ping, 0, 0, bytes(8))]));
    await waitFor("the connection to end", () => socket.destroyed);
  });
  for (const [name, late] of [
    ["DATA", data(1, 0, "x")],
    ["HEADERS", get(1)],
  ] as const)
    test(`§5.1 ${name} on a stream that both sides have ended`, async () => {
      const client = open();
      client.send(get(1));
      await waitFor("the response", () => client.isOver(1));
      client.send(late);
      await waitFor("the connection to end", () => client.closed);
      assert.equal(client.goAway?.code, code.closed);
      assert.equal(client.goAway?.lastStream, 1);
    });
  test("§6.9.1 more data than the connection's window", async () => {
    const client = open();
    // TLS with this upstream never begins, so nothing of a body leaves and no window is returned.
    const silent = createServer((socket) => void socket.on("error", () => {})).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    await rig.activate([routeTo(port, { to: [{ url: new URL(`https://127.0.0.1:${port}`), weight: null }] })]);
    for (let stream = 1; stream < 12; stream += 2) {
      client.send(post(stream));
      for (let n = 0; n < 15; n++) client.send(data(stream, 0, "x".repeat(16_384)));
    }
    await waitFor("the connection to end", () => client.closed);
    assert.equal(client.goAway?.code, code.flow);
    await rig.activate([routeTo(upstream.port)]);
    silent.close();
  });
});

describe("errors of a stream", () => {
  const cases: Readonly<Record<string, readonly [frames: readonly Buffer[], code: number]>> = {
    "§5.1 DATA after END_STREAM": [[get(1), data(1, 0, "x")], code.closed],
    "§5.1 HEADERS after END_STREAM": [[get(1), get(1)], code.closed],
    "§6.3 PRIORITY of another length": [[post(1), frame(priority, 0, 1, bytes(4))], code.size],
    "§6.9 an increment of 0": [[post(1), windowUpdate(1, 0)], code.protocol],
    "§6.9.1 a window that overflows": [[post(1), windowUpdate(1, 0x7fff_ffff)], code.flow],
    "§8.1 trailers that do not end the stream": [[post(1), headers(1, endHeaders, "a", "b")], code.protocol],
    "§8.1.1 a body longer than announced": [[post(1, "content-length", "1"), data(1, 0, "ab")], code.protocol],
    "§8.1.1 a body shorter than announced": [[post(1, "content-length", "3"), data(1, 1, "ab")], code.protocol],
    "§8.2.1 a name in capitals": [[headers(1, whole, ...lines(), "A", "b")], code.protocol],
    "§8.2.1 NUL in a value": [[headers(1, whole, ...lines(), "a", "b\0c")], code.protocol],
    "§8.2.1 LF in a value": [[headers(1, whole, ...lines(), "a", "b\nc")], code.protocol],
    "§8.2.1 CR in a value of trailers": [[post(1), headers(1, whole, "a", "b\rc")], code.protocol],
    "§8.2.2 connection": [[headers(1, whole, ...lines(), "connection", "close")], code.protocol],
    "§8.2.2 te": [[headers(1, whole, ...lines(), "te", "gzip")], code.protocol],
    "§8.3 a pseudo-header after a field": [[headers(1, whole, "a", "b", ...lines())], code.protocol],
    "§8.3 a pseudo-header twice": [[headers(1, whole, ":path", "/", ...lines())], code.protocol],
    "§8.3 a pseudo-header in trailers": [[post(1), headers(1, whole, ":path", "/")], code.protocol],
    "§8.3 an unknown pseudo-header": [[headers(1, whole, ":a", "b", ...lines())], code.protocol],
    "§8.3.1 no method": [[headers(1, whole, ...lines().slice(2))], code.protocol],
    "§8.3.1 an empty path": [[headers(1, whole, ...lines().with(7, ""))], code.protocol],
    "§8.5 CONNECT with a path": [[headers(1, whole, ...lines("CONNECT"))], code.protocol],
  };
  for (const [name, [frames, expected]] of Object.entries(cases))
    test(name, async () => {
      const client = open();
      client.send(...frames);
      await waitFor("the stream to be reset", () => client.isOver(1));
      assert.equal(client.stream(1).reset, expected);
      client.send(get(101));
      await waitFor("another response", () => client.isOver(101));
      assert.equal(client.stream(101).status, 200);
      client.socket.destroy();
    });
});

test("§6.9 data of refused bodies does not use up the connection's window", async () => {
  const client = open();
  for (let stream = 1; stream < 200; stream += 2) {
    client.send(post(stream, "content-length", "1"), data(stream, 0, "x".repeat(16_384)));
    await waitFor("the stream to be reset", () => client.isOver(stream), { everyMs: 1 });
    assert.equal(client.stream(stream).reset, code.protocol, JSON.stringify(client.goAway));
  }
  client.socket.destroy();
});

describe("what is ignored", () => {
  const cases: Readonly<Record<string, readonly Buffer[]>> = {
    "§4.1 a frame of an unknown type, and unknown flags": [
      frame(0xfa, 0xff, 7, bytes(9)),
      frame(ping, 0xfe, 0, bytes(8)),
    ],
    "§5.3 PRIORITY, also on idle and ended streams, and of a stream on itself": [
      frame(priority, 0, 1, Buffer.from([0, 0, 0, 1, 9])),
      frame(priority, 0, 77, bytes(5)),
    ],
    "§5.5 an unknown setting": [settings([0xf0f0, 1])],
    "§6.2 a priority within HEADERS": [
      frame(frameTypes.headers, whole | 0x20, 1, Buffer.concat([bytes(5), fields(...lines())])),
    ],
    "§5.4.2 what follows a reset": [
      headers(1, endHeaders, ...lines("POST"), "A", "b"),
      data(1, 0, "x".repeat(9_000)),
      headers(1, whole, "a", "b"),
      windowUpdate(1, 5),
      reset(1, 8),
    ],
    "§6.5 an acknowledgement that was not expected": [frame(settingsType, 1, 0), frame(settingsType, 1, 0)],
    "§6.7 an answer to no PING": [frame(ping, 1, 0, bytes(8))],
    "§6.9 WINDOW_UPDATE after a reset": [post(1), reset(1, 8), windowUpdate(1, 5)],
  };
  for (const [name, frames] of Object.entries(cases))
    test(name, async () => {
      const client = open();
      client.send(...frames, get(101));
      await waitFor("the response", () => client.isOver(101));
      assert.equal(client.stream(101).status, 200, JSON.stringify(client.goAway));
      client.socket.destroy();
    });
});
