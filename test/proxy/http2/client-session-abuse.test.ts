/** What an upstream and callers that abort could do together to our HTTP/2 connections to it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Http2Pool } from "../../../src/proxy/http2/upstream-pool.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { UpstreamCall } from "../../../src/proxy/message/upstream-call.ts";
import {
  data,
  endHeaders,
  endStream,
  type Frame,
  frame,
  frameTypes,
  headers,
  serveFrames,
  settings,
  windowUpdate,
} from "../../support/http2-frames.ts";
import { waitFor } from "../../support/wait-for.ts";

type Call = { call: UpstreamCall; body: string; end: "open" | "complete" | "failed"; mayRead: boolean; error: string };

/** @param onFrame called with each frame, its connection, and the number of that connection */
async function startPool(
  t: TestContext,
  onFrame: (received: Frame, socket: Socket, connection: number) => void,
  { idleMs = 60_000, connectionsMax = 1 } = {},
): Promise<Readonly<{ pool: Http2Pool; sockets: Socket[] }>> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    const connection = sockets.push(socket) - 1;
    serveFrames(socket, (received) => onFrame(received, socket, connection));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const lookup = () => assert.fail("an address needs no look-up");
  const address = { secure: false, path: null, hostname: "127.0.0.1", port, lookup, tls: {} };
  const pool = new Http2Pool(address, { connectionsMax, connectTimeoutMs: 10_000, idleMs });
  t.after(() => {
    pool.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { pool, sockets };
}

function send(pool: Http2Pool, lines: readonly string[] = [], idleTimeoutMs = 0): Call {
  const sent: Partial<Call> = { body: "", end: "open", mayRead: true, error: "" };
  const all = sent as Call;
  const request = { method: "GET", path: "/", requestId: null, hasBody: false, idleTimeoutMs };
  all.call = pool.call(
    { ...request, headers: new HeaderLines(["host", "upstream", ...lines]) },
    {
      maySend: () => true,
      onWritable() {},
      onInformational() {},
      onHead() {},
      onData(chunk) {
        all.body += chunk.toString("latin1");
        return all.mayRead;
      },
      onEnd() {
        all.end = "complete";
      },
      onError(error) {
        all.end = "failed";
        all.error = error.message;
      },
    },
  );
  return all;
}

const ok = (stream: number, body: string): Buffer =>
  Buffer.concat([headers(stream, endHeaders, ":status", "200"), data(stream, endStream, body)]);

/** The upstream has stopped reading, and the kernel and this process hold as much as they may. */
async function block(pool: Http2Pool): Promise<void> {
  for (let i = 0; i < 250; i++) {
    const { call } = send(pool, ["x-fill", `${i}`.padEnd(60_000)]);
    await nextTurn();
    call.abort();
  }
}

test("requests that are aborted while their upstream does not read leave nothing behind", async (t) => {
  const { pool, sockets } = await startPool(t, (_, socket) => socket.pause());
  await block(pool);
  assert.equal(sockets.length, 1);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const aborted: WeakRef<Call>[] = [];
  for (let i = 0; i < 1_000; i++) {
    const sent = send(pool);
    await nextTurn();
    sent.call.abort();
    aborted.push(new WeakRef(sent));
  }
  await nextTurn();
  collect();
  const left = aborted.filter((each) => each.deref() !== undefined).length;
  assert.ok(left < 20, `${left} of 1000 are kept`);
});

test("a request that could not be written, because its upstream does not read, times out", async (t) => {
  const { pool } = await startPool(t, (_, socket) => socket.pause());
  await block(pool);
  const sent = send(pool, [], 200);
  await waitFor("the request to time out", () => sent.end === "failed");
  assert.match(sent.error, /silent/);
  assert.equal(pool.busy, 0);
});

test("a limit of no streams opens one connection, which ends when it stays", async (t) => {
  const { pool, sockets } = await startPool(
    t,
    ({ type, flags, stream }, socket, connection) => {
      if (type === frameTypes.settings && (flags & 1) === 0 && connection === 0) socket.write(settings([0x3, 0]));
      if (type === frameTypes.headers && connection > 0) socket.write(ok(stream, "fine"));
    },
    { idleMs: 300, connectionsMax: 10 },
  );
  const warm = send(pool);
  await waitFor("the first connection", () => sockets.length === 1);
  warm.call.abort();
  await waitFor("the limit to arrive", () => pool.isFull);
  const sent = send(pool);
  assert.deepEqual([pool.waiting, sockets.length], [1, 1]);
  await waitFor("a response over the next connection", () => sent.end === "complete");
  assert.deepEqual([sent.body, sockets.length, pool.busy], ["fine", 2, 0]);
});

test("a limit of no streams while one is open does not hold other requests up", async (t) => {
  const { pool, sockets } = await startPool(
    t,
    ({ type, stream }, socket, connection) => {
      if (type !== frameTypes.headers) return;
      if (connection === 0)
        socket.write(
          Buffer.concat([headers(stream, endHeaders, ":status", "200"), settings([0x3, 0]), data(stream, 0, "begun")]),
        );
      else socket.write(ok(stream, "fine"));
    },
    { connectionsMax: 10 },
  );
  const lasting = send(pool);
  await waitFor("the limit to arrive", () => lasting.body === "begun");
  const sent = send(pool);
  await waitFor("a response over the next connection", () => sent.end === "complete");
  assert.deepEqual([sent.body, sockets.length, lasting.end], ["fine", 2, "open"]);
});

/** Each ends the connection, or would if the stream of the aborted request were still open. */
const mistakes: Readonly<Record<string, (aborted: number) => Buffer>> = {
  "a window update of nothing": (aborted) => windowUpdate(aborted, 0),
  "a priority of a wrong length": (aborted) => frame(frameTypes.priority, 0, aborted, Buffer.alloc(4)),
};

for (const [name, mistake] of Object.entries(mistakes))
  test(`${name} on the stream of a request that was aborted does not concern others`, async (t) => {
    const { pool, sockets } = await startPool(t, ({ type, stream }, socket) => {
      if (type === frameTypes.reset) socket.write(Buffer.concat([mistake(stream), ok(3, "fine")]));
    });
    const [aborted, other] = [send(pool), send(pool)];
    await waitFor("the connection", () => sockets.length === 1);
    await waitFor("both to be sent", () => aborted.call.reads > 0);
    aborted.call.abort();
    await waitFor("the other response", () => other.end !== "open");
    assert.deepEqual([other.end, other.body, other.error], ["complete", "fine", ""]);
  });

test("a response that is complete goes on to its reader after a fault of the connection, of its stream or another", async (t) => {
  const faults = [frame(frameTypes.ping, 0, 1, Buffer.alloc(8)), data(1, 0, "poison"), data(1_001, 0, "poison")];
  for (const fault of faults) {
    const { pool } = await startPool(t, ({ type, stream }, socket) => {
      if (type !== frameTypes.headers || stream !== 3) return;
      const parts = [
        headers(1, endHeaders, ":status", "200"),
        data(1, 0, "a"),
        data(1, 0, "b"),
        data(1, endStream, "c"),
      ];
      socket.write(Buffer.concat([...parts, headers(3, endHeaders, ":status", "200"), data(3, 0, "part"), fault]));
    });
    const [complete, partial] = [send(pool), send(pool)];
    complete.mayRead = false;
    await waitFor("the partial response to fail", () => partial.end === "failed");
    assert.deepEqual([complete.body, complete.end, partial.body], ["a", "open", "part"]);
    complete.mayRead = true;
    complete.call.resume();
    assert.deepEqual([complete.body, complete.end, pool.busy], ["abc", "complete", 0]);
  }
});
