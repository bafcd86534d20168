/** What a caller that reads nothing can make its HTTP/2 connection keep. */
import assert from "node:assert/strict";
import { connect, Socket } from "node:net";
import { after, before, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { queryObjects } from "node:v8";
import { Http2Downstream } from "../../../src/proxy/http2/downstream.ts";
import {
  endHeaders,
  endStream,
  headers,
  initialWindow,
  RawHttp2,
  reset,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream } from "../support.ts";

let rig: Rig;
let upstream: Upstream;
before(async () => {
  upstream = await startUpstream((req, res) => {
    res.end(req.url === "/big" ? Buffer.alloc(16_000_000) : "fine");
  });
  rig = await startRig([routeTo(upstream.port, publicAccess)], { config: { http2Connections: "cardea" } });
});
after(async () => {
  await rig.close();
  await upstream.close();
});

/** The proxy's end of a connection, which is in this process. */
function otherEnd({ localPort }: Socket): Socket {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  const found = handles.find((each) => each instanceof Socket && each.remotePort === localPort);
  assert.ok(found instanceof Socket);
  return found;
}

function get(stream: number, path: string): Buffer {
  const pseudo = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", path];
  return headers(stream, endHeaders | endStream, ...pseudo);
}

test("requests that are reset while nothing can be written are forgotten", async () => {
  const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [initialWindow(0x7fff_ffff)]);
  client.send(windowUpdate(0, 0x7000_0000), get(1, "/big"));
  await waitFor("the response to begin", () => client.stream(1).bytes > 0);
  client.socket.pause();
  let before = -1;
  await waitFor("the kernel to be full", async () => {
    const { bytesWritten } = client.socket;
    const sent = rig.proxy.stats().inFlight.http;
    await new Promise((resolve) => setTimeout(resolve, 100));
    const isSame = before === sent + bytesWritten;
    before = sent + bytesWritten;
    return isSame;
  });
  for (let first = 3; first < 3 + 2 * 180; first += 2 * 30) {
    const ids = Array.from({ length: 30 }, (_, i) => first + 2 * i);
    const seen = upstream.seen.length;
    client.send(...ids.map((id) => get(id, "/small")));
    await waitFor("the requests to arrive", () => upstream.seen.length === seen + 30);
    await waitFor("their responses to wait", () => rig.proxy.stats().inFlight.http === 31);
    for (let turn = 0; turn < 20; turn++) await nextTurn();
    client.send(...ids.map((id) => reset(id, 8)));
    await waitFor("them to end", () => rig.proxy.stats().inFlight.http === 1);
  }
  const kept = queryObjects(Http2Downstream, { format: "count" });
  client.socket.destroy();
  assert.ok(kept < 140, `${kept} streams are kept`);
});

test("responses that are complete and not taken keep no more requests than streams may be open", async () => {
  const client = new RawHttp2(connect(rig.port, "127.0.0.1"), [initialWindow(0)]);
  client.send(windowUpdate(0, 0x7000_0000), get(1, "/big"));
  await waitFor("the head of the response", () => client.stream(1).status === 200);
  client.socket.pause();
  const proxy = otherEnd(client.socket);
  for (let steps = 0; proxy.writableLength === 0 && steps < 900; steps++) {
    const { bytesWritten } = proxy;
    client.send(windowUpdate(1, 8_192));
    await waitFor("the window to be used", () => proxy.bytesWritten - bytesWritten >= 8_192, { everyMs: 1 });
  }
  assert.ok(proxy.writableLength > 0);
  assert.ok(proxy.writableLength < 40_000, `${proxy.writableLength} wait`);
  let id = 3;
  const ask = (requests: number): void => {
    for (let i = 0; i < requests; i++, id += 2) client.send(get(id, "/small"), windowUpdate(id, 100));
  };
  for (let round = 0; round < 12; round++) {
    const seen = upstream.seen.length;
    ask(20);
    await waitFor("the requests to arrive", () => upstream.seen.length === seen + 20);
    await rig.request({}); // the responses have arrived, too
  }
  ask(60);
  for (let i = 0; i < 3; i++) await rig.request({});
  const kept = queryObjects(Http2Downstream, { format: "count" });
  client.socket.destroy();
  assert.ok(kept > 100 && kept < 270, `${kept} streams are kept`);
});
