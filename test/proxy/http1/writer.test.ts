/**
 * Responses that are not sent at once, on real sockets: what their connection does after them, and what happens if it
 * ends meanwhile.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { Http1Connection } from "../../../src/proxy/http1/connection.ts";
import type { Downstream } from "../../../src/proxy/message/downstream-request.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import { HeaderValueCheck } from "../../../src/proxy/message/header-values.ts";
import { waitFor } from "../../support/wait-for.ts";

type StartedRequest = Readonly<{ exchange: Downstream; socket: Socket; connection: Http1Connection }>;

/** More than any kernel accepts at once. */
const body = Buffer.alloc(24_000_000, "b");

async function startConnections(t: TestContext, onRequest: (started: StartedRequest) => void): Promise<Socket> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const caller = { address: "127.0.0.1", certificate: null, skippedBytes: 0 };
    const owner = {
      onRequest: (exchange: Downstream) => onRequest({ exchange, socket, connection }),
      onRefused() {},
      malformedRequestReply: () => "",
      onReadPaused() {},
      now: () => performance.now(),
      httpDate: () => "now",
      mayUpgradeTo: () => false,
      isDraining: () => false,
      headerValues: new HeaderValueCheck(),
      readMs: Infinity,
      readLimit: "request" as const,
      idleMs: Infinity,
    };
    const connection: Http1Connection = new Http1Connection(socket, caller, owner, null);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const caller = connect({
    port: (server.address() as AddressInfo).port,
    host: "127.0.0.1",
    allowHalfOpen: true,
  }).pause();
  caller.on("error", () => {});
  t.after(() => {
    caller.destroy();
    server.close();
  });
  return caller;
}

function answerWhole(exchange: Downstream): void {
  exchange.writeHead(200, new HeaderLines(["content-length", `${body.length}`]), null);
  exchange.end(body);
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

suite("a response that is not sent at once", () => {
  test("arrives whole at a caller that ends its side in the turn that completes the response", async (t) => {
    const caller = await startConnections(t, ({ exchange, socket }) => {
      socket.prependListener("end", () => answerWhole(exchange));
      caller.end();
    });
    caller.write(get("/"));
    let received = 0;
    caller.on("data", (bytes) => (received += bytes.length)).resume();
    await once(caller, "close");
    assert.ok(received > body.length, `${received} bytes of a response with a body of ${body.length}`);
  });

  for (const [what, end] of [
    ["cut", ({ exchange }: StartedRequest) => exchange.cut("session-ended")],
    ["reset by its caller", (_: StartedRequest, caller: Socket) => caller.resetAndDestroy()],
  ] as const)
    test(`when it is ${what}, no request that waits after it starts`, async (t) => {
      const startedPaths: string[] = [];
      let closed = (): void => {};
      const isClosed = new Promise<void>((resolve) => (closed = resolve));
      const caller = await startConnections(t, (started) => {
        startedPaths.push(started.exchange.head.url);
        if (startedPaths.length > 1) return;
        answerWhole(started.exchange);
        started.socket.once("close", closed);
        // By then the rest of the response is pending.
        setImmediate(() => setImmediate(() => end(started, caller)));
      });
      caller.write(get("/1") + get("/2"));
      await isClosed;
      assert.deepEqual(startedPaths, ["/1"]);
    });

  test("when it is cut before the turn ends, no request that waits after it starts", async (t) => {
    const startedPaths: string[] = [];
    let closed = (): void => {};
    const isClosed = new Promise<void>((resolve) => (closed = resolve));
    const caller = await startConnections(t, ({ exchange, socket }) => {
      startedPaths.push(exchange.head.url);
      if (startedPaths.length > 1) return;
      socket.once("close", closed);
      exchange.writeHead(200, new HeaderLines(["content-length", "2"]), null);
      exchange.end(Buffer.from("ab"));
      void exchange.cut("session-ended");
    });
    caller.write(get("/1") + get("/2"));
    await isClosed;
    assert.deepEqual(startedPaths, ["/1"]);
  });

  for (const blocked of [true, false])
    test(`to a caller whose body is paused${blocked ? " and that reads nothing" : ""}: a reset is detected, without a growing queue of probes`, async (t) => {
      let startedPaths = (_: StartedRequest): void => {};
      const started = new Promise<StartedRequest>((resolve) => (startedPaths = resolve));
      const caller = await startConnections(t, (request) => startedPaths(request));
      caller.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123");
      const { exchange, socket, connection } = await started;
      exchange.readBody({ onChunk: () => false, onBodyEnd() {}, onAbort() {} });
      exchange.writeHead(200, new HeaderLines([]), null);
      if (blocked) while (exchange.write(Buffer.alloc(60_000)));
      await waitFor("the body to be paused", () => connection.readPaused);
      for (let n = 0; n < 1_000; n++) connection.sweep(0);
      const { length } = (
        socket as unknown as { _writableState: { getBuffer(): unknown[] } }
      )._writableState.getBuffer();
      assert.ok(length < 10, `${length} writes wait`);
      const closed = new Promise((resolve) => socket.once("close", resolve));
      caller.resetAndDestroy();
      const sweeping = setInterval(() => connection.sweep(0), 10);
      t.after(() => clearInterval(sweeping));
      await closed;
    });
});
