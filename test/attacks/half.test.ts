/** Half of an answer, or of a request, that was taken for the whole. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Stream } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { cookieOf, type Rig, routeTo, sessionRevoked, signedIn, startRig, startUpstream } from "../proxy/support.ts";
import { data, endHeaders, endStream, headers, RawHttp2 } from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

const asked = (method: string, ...more: readonly string[]): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/", "cookie", cookieOf(1)],
  ...more,
];
function callerOf(t: TestContext, rig: Rig): RawHttp2 {
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  return new RawHttp2(socket);
}

describe("to a caller of HTTP/2", () => {
  async function half(t: TestContext): Promise<Readonly<{ rig: Rig; client: RawHttp2; breakOff: () => void }>> {
    let breakOff = (): void => {};
    const upstream = await startUpstream((_req, res) => {
      res.writeHead(200);
      res.write("half");
      breakOff = () => res.destroy();
    });
    const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })]);
    t.after(() => rig.close());
    t.after(() => upstream.close());
    await rig.apply(signedIn(1));
    const client = callerOf(t, rig);
    client.send(headers(1, endHeaders | endStream, ...asked("GET")));
    await waitFor("half of the answer", () => client.stream(1).bytes === 4);
    return { rig, client, breakOff: () => breakOff() };
  }

  test("an answer that its upstream broke off ended as if it were complete", async (t) => {
    const { client, breakOff } = await half(t);
    breakOff();
    await waitFor("the stream to be over", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: 2, ended: false, bytes: 4 });
  });

  test("an answer that was cut ended as if it were complete", async (t) => {
    const { rig, client } = await half(t);
    await rig.apply(sessionRevoked(1));
    await waitFor("the stream to be over", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: 8, ended: false, bytes: 4 });
  });

  test("a whole answer was reset behind its last byte, where the caller takes trailers and there were none", async (t) => {
    const upstream = await startUpstream((_req, res) => void res.end("whole"));
    const rig = await startRig([routeTo(upstream.port)]);
    t.after(() => rig.close());
    t.after(() => upstream.close());
    await rig.apply(signedIn(1));
    const client = callerOf(t, rig);
    client.send(headers(1, endHeaders | endStream, ...asked("GET", "te", "trailers")));
    await waitFor("the stream to be over", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: null, ended: true, bytes: 5 });
  });
});

test("an upload that its caller broke off reached an upstream of HTTP/2 as a complete request", async (t) => {
  const streams: Http2Stream[] = [];
  let ended = false;
  const server = createServer();
  server.on("stream", (stream) => {
    streams.push(stream);
    stream.on("error", () => {});
    stream.on("data", () => {});
    stream.on("end", () => {
      ended = !stream.aborted && stream.rstCode === 0;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const rig = await startRig([routeTo(port, { to: [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }] })]);
  t.after(() => void server.close());
  t.after(() => rig.close());
  await rig.apply(signedIn(1));
  const client = callerOf(t, rig);
  client.send(headers(1, endHeaders, ...asked("POST")), data(1, 0, "half"));
  await waitFor("half of the body to arrive", () => streams.length === 1);

  client.socket.destroy();

  await waitFor("the upstream's stream to be over", () => streams[0]?.destroyed === true);
  assert.equal(streams[0]?.rstCode, 8);
  assert.equal(ended, false);
});
