/** A draining node has responded to callers that are still sending: no reset takes the response from them. */
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

// The kernels of both sides take it from an upstream, though its caller does not read.
const refusal = "x".repeat(60_000);
const chunk = Buffer.alloc(65_536);
const asked = (method: string): string[] => [
  ...[":method", method, ":scheme", "http", ":authority", "app.localhost", ":path", "/"],
];

/** The upstream refuses bodies before it has read them, or says nothing. */
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
function startUpload(port: number): Readonly<{ socket: Socket; said: () => string; failed: () => unknown }> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }).pause();
  let said = "";
  let failed: unknown;
  socket.on("data", (more: Buffer) => {
    said += more.toString("latin1");
  });
  socket.on("error", (error) => {
    failed = error;
  });
  socket.write(
    "POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: 1000000000\r\n\r\n",
  );
  const goOn = (): void => {
    if (socket.destroyed || socket.writableEnded) return;
    socket.write(chunk, () => setImmediate(goOn));
  };
  goOn();
  return { socket, said: () => said, failed: () => failed };
}

const underWay = (rig: Rig): number => rig.proxy.stats().inFlight.http;

describe("a drain ends, and a caller that is still sending gets its whole response", () => {
  test("after its upload was refused early", async (t) => {
    const rig = await startRigTo(t, 30_000, "refuses");
    const { socket, said, failed } = startUpload(rig.port);
    await waitFor("it to be answered", () => socket.bytesWritten > 1_000_000 && underWay(rig) === 0);
    const closed = rig.close();
    await delay(300); // a node that does not wait is gone by then
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("it to be gone", () => socket.destroyed);
    assert.match(said(), /^HTTP\/1\.1 413 /);
    assert.deepEqual([said().endsWith(`\r\n\r\n${refusal}`), failed()], [true, undefined]);
  });

  test("after its upload was cut by its time-out", async (t) => {
    const rig = await startRigTo(t, 100, "silent");
    const { socket, said } = startUpload(rig.port);
    await waitFor("it to be under way", () => underWay(rig) === 1 && socket.bytesWritten > 1_000_000);
    const closed = rig.close();
    await waitFor("it to be cut", () => underWay(rig) === 0);
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("it to be gone", () => socket.destroyed);
    assert.match(said(), /^HTTP\/1\.1 503 /);
    assert.equal(JSON.parse(said().slice(said().indexOf("\r\n\r\n"))).status, 503);
  });

  test("over HTTP/2", async (t) => {
    const rig = await startRigTo(t, 30_000, "refuses");
    const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
    let failed: unknown;
    socket.on("error", (error) => {
      failed = error;
    });
    const client = new RawHttp2(socket, [[0x4, 1_000_000]]);
    client.send(windowUpdate(0, 1_000_000), headers(1, endHeaders, ...asked("POST")));
    await waitFor("its answer to begin", () => client.stream(1).status === 413);
    socket.pause();
    await waitFor("the rest of its answer to have left", () => underWay(rig) === 0);
    for (let n = 0; n < 5; n++) client.send(data(1, 0, "x".repeat(10_000))); // as much as it may
    const closed = rig.close();
    await delay(300);
    client.send(data(1, 0, "x".repeat(10_000)));
    socket.on("end", () => socket.end());
    socket.resume();
    await closed;
    await waitFor("it to be gone", () => socket.destroyed);
    assert.deepEqual([failed, client.goAway?.code, client.stream(1).bytes], [undefined, 0, refusal.length]);
  });
});

describe("a caller of HTTP/2 that does not end its side", () => {
  const startClient = (rig: Rig): RawHttp2 => {
    const client = new RawHttp2(connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true }));
    client.send(headers(1, endHeaders | endStream, ...asked("GET")));
    return client;
  };
  /** A disconnected caller notices it by writing. */
  const gone = (client: RawHttp2): Promise<boolean> =>
    waitFor(
      "it to be gone",
      () => {
        client.send(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
        return client.closed;
      },
      { withinMs: 30_000 },
    );

  test("delays no drain", async (t) => {
    const rig = await startRigTo(t, 100, "refuses");
    const client = startClient(rig);
    await waitFor("its answer to begin", () => client.stream(1).status === 413);
    await rig.close(); // does not go on for ever
    await gone(client);
  });

  test("is disconnected after the idle time-out", async (t) => {
    const rig = await startRigTo(t, 100, "silent");
    const client = startClient(rig);
    await waitFor("it to be under way", () => underWay(rig) === 1);
    client.send(reset(1, 8));
    await waitFor("word that the connection ends", () => client.goAway !== undefined, { withinMs: 30_000 });
    await gone(client);
  });
});
