/** Early responses of a draining node: callers that are still sending get them whole, without a reset. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  data,
  endHeaders,
  endStream,
  frame,
  frameTypes,
  headers,
  RawHttp2,
  reset,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig } from "../support.ts";

// The kernels of both sides buffer this much from an upstream, even though its caller does not read.
const refusal = "x".repeat(60_000);
const chunk = Buffer.alloc(65_536);
const requests = (method: string): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/"],
];

/** Refuses bodies before it has read them, or does not answer. */
async function startRigTo(t: TestContext, drainTimeoutMs: number, upstream: "refuses" | "silent"): Promise<Rig> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", () => {
      if (upstream === "silent") socket.resume();
      else socket.write(`HTTP/1.1 413 Too Large\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const rig = await startRig([routeTo(port, { ...publicAccess, timeoutMs: 0, idleTimeoutMs: 0 })], {
    config: { drainTimeoutMs, timeouts: { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 1_000 } },
  });
  t.after(async () => {
    await rig.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return rig;
}

/** Sends without end; reads and ends its side on request. */
function startUpload(port: number): Readonly<{ socket: Socket; received: () => string; failed: () => unknown }> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }).pause();
  let received = "";
  let failed: unknown;
  socket.on("data", (more: Buffer) => {
    received += more.toString("latin1");
  });
  socket.on("error", (error) => {
    failed = error;
  });
  socket.write(
    "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 1000000000\r\n\r\n",
  );
  const sendMore = (): void => {
    if (socket.destroyed || socket.writableEnded) return;
    socket.write(chunk, () => setImmediate(sendMore));
  };
  sendMore();
  return { socket, received: () => received, failed: () => failed };
}

const underWay = (rig: Rig): number => rig.proxy.stats().inFlight.http;

describe("a caller that is still sending gets its whole response although the node drains", () => {
  test("after an early refusal of its upload", async (t) => {
    const rig = await startRigTo(t, 30_000, "refuses");
    const { socket, received, failed } = startUpload(rig.port);
    await waitFor("the response to be written", () => socket.bytesWritten > 1_000_000 && underWay(rig) === 0);
    const closed = rig.close();
    await delay(300); // a node that does not wait would have closed by then
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("the connection to close", () => socket.destroyed);
    assert.match(received(), /^HTTP\/1\.1 413 /);
    assert.deepEqual([received().endsWith(`\r\n\r\n${refusal}`), failed()], [true, undefined]);
  });

  test("after its upload was cut by its timeout", async (t) => {
    const rig = await startRigTo(t, 100, "silent");
    const { socket, received } = startUpload(rig.port);
    await waitFor("the upload to be in progress", () => underWay(rig) === 1 && socket.bytesWritten > 1_000_000);
    const closed = rig.close();
    await waitFor("the upload to be cut", () => underWay(rig) === 0);
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("the connection to close", () => socket.destroyed);
    assert.match(received(), /^HTTP\/1\.1 503 /);
    assert.equal(JSON.parse(received().slice(received().indexOf("\r\n\r\n"))).status, 503);
  });

  test("over HTTP/2", async (t) => {
    const rig = await startRigTo(t, 30_000, "refuses");
    const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
    let failed: unknown;
    socket.on("error", (error) => {
      failed = error;
    });
    const client = new RawHttp2(socket, [[0x4, 1_000_000]]);
    client.send(windowUpdate(0, 1_000_000), headers(1, endHeaders, ...requests("POST")));
    await waitFor("the response to begin", () => client.stream(1).status === 413);
    socket.pause();
    await waitFor("the rest of the response to be sent", () => underWay(rig) === 0);
    for (let n = 0; n < 5; n++) client.send(data(1, 0, "x".repeat(10_000))); // as much as the window permits
    const closed = rig.close();
    await delay(300);
    client.send(data(1, 0, "x".repeat(10_000)));
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("the connection to close", () => socket.destroyed);
    assert.deepEqual([failed, client.goAway?.code, client.stream(1).bytes], [undefined, 0, refusal.length]);
  });
});

describe("an HTTP/2 caller that does not end its side", () => {
  const startClient = (rig: Rig): RawHttp2 => {
    const client = new RawHttp2(connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true }));
    client.send(headers(1, endHeaders | endStream, ...requests("GET")));
    return client;
  };
  /** Keeps writing, because only a write reveals that the connection is closed. */
  const isClosed = (client: RawHttp2): Promise<boolean> =>
    waitFor(
      "the connection to close",
      () => {
        client.send(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
        return client.closed;
      },
      { withinMs: 30_000 },
    );

  test("does not delay a drain", async (t) => {
    const rig = await startRigTo(t, 100, "refuses");
    const client = startClient(rig);
    await waitFor("the response to begin", () => client.stream(1).status === 413);
    await rig.close(); // must not wait forever
    await isClosed(client);
  });

  test("is disconnected after the idle timeout", async (t) => {
    const rig = await startRigTo(t, 100, "silent");
    const client = startClient(rig);
    await waitFor("the upload to be in progress", () => underWay(rig) === 1);
    client.send(reset(1, 8));
    await waitFor("a GOAWAY", () => client.goAway !== undefined, { withinMs: 30_000 });
    await isClosed(client);
  });
});
