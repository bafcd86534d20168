/** Truncated responses and requests are never delivered as complete ones. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Stream } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { cookieOf, type Rig, routeTo, sessionRevoked, signedIn, startRig, startUpstream } from "../proxy/support.ts";
import { data, endHeaders, endStream, headers, RawHttp2 } from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

const requestFields = (method: string, ...more: readonly string[]): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/", "cookie", cookieOf(1)],
  ...more,
];
function callerOf(t: TestContext, rig: Rig): RawHttp2 {
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  return new RawHttp2(socket);
}

describe("an HTTP/2 caller", () => {
  async function startHalfResponse(
    t: TestContext,
  ): Promise<Readonly<{ rig: Rig; client: RawHttp2; abort: () => void }>> {
    let abort = (): void => {};
    const upstream = await startUpstream((_req, res) => {
      res.writeHead(200);
      res.write("half");
      abort = () => res.destroy();
    });
    const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })]);
    t.after(() => rig.close());
    t.after(() => upstream.close());
    await rig.apply(signedIn(1));
    const client = callerOf(t, rig);
    client.send(headers(1, endHeaders | endStream, ...requestFields("GET")));
    await waitFor("half of the response", () => client.stream(1).bytes === 4);
    return { rig, client, abort: () => abort() };
  }

  test("receives a reset when the upstream aborts its response", async (t) => {
    const { client, abort } = await startHalfResponse(t);
    abort();
    await waitFor("the stream to end", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: 2, ended: false, bytes: 4 });
  });

  test("receives a reset when the response is cut", async (t) => {
    const { rig, client } = await startHalfResponse(t);
    await rig.apply(sessionRevoked(1));
    await waitFor("the stream to end", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: 8, ended: false, bytes: 4 });
  });

  test("that accepts trailers receives a complete response without trailers, not a reset", async (t) => {
    const upstream = await startUpstream((_req, res) => void res.end("whole"));
    const rig = await startRig([routeTo(upstream.port)]);
    t.after(() => rig.close());
    t.after(() => upstream.close());
    await rig.apply(signedIn(1));
    const client = callerOf(t, rig);
    client.send(headers(1, endHeaders | endStream, ...requestFields("GET", "te", "trailers")));
    await waitFor("the stream to end", () => client.isOver(1));
    assert.deepEqual(client.stream(1), { status: 200, reset: null, ended: true, bytes: 5 });
  });
});

test("an upload that its caller aborts is reset at an HTTP/2 upstream, not completed", async (t) => {
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
  client.send(headers(1, endHeaders, ...requestFields("POST")), data(1, 0, "half"));
  await waitFor("half of the body to arrive", () => streams.length === 1);

  client.socket.destroy();

  await waitFor("the upstream's stream to be over", () => streams[0]?.destroyed === true);
  assert.equal(streams[0]?.rstCode, 8);
  assert.equal(ended, false);
});
