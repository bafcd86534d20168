/** HTTP/1.1 connection pool of an upstream, on real sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, describe, suite, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { Http1Pool } from "../../../src/proxy/http1/upstream-pool.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { UpstreamCall, UpstreamHandler } from "../../../src/proxy/message/upstream-call.ts";
import { waitFor } from "../../support/wait-for.ts";

/** Echoes each request, in its own thread, so that it can close while this thread reads nothing. */
const upstreamCode = `
  const { createServer } = require("node:net");
  const { parentPort, workerData } = require("node:worker_threads");
  const sockets = new Set();
  let opened = 0;
  const server = createServer((socket) => {
    const nth = ++opened;
    sockets.add(socket);
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      const head = text.indexOf("\\r\\n\\r\\n");
      const length = Number(/content-length: (\\d+)/.exec(text)?.[1] ?? 0);
      if (head < 0 || text.length < head + 4 + length) return;
      const body = nth + " " + text.slice(0, text.indexOf(" HTTP")) + " " + text.slice(head + 4);
      text = "";
      socket.write("HTTP/1.1 200 OK\\r\\nContent-Length: " + body.length + "\\r\\n\\r\\n" + body);
    });
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
  parentPort.on("message", (how) => {
    for (const socket of sockets) how === "reset" ? socket.resetAndDestroy() : socket.destroy();
    sockets.clear();
    setImmediate(() => {
      Atomics.add(workerData, 0, 1);
      Atomics.notify(workerData, 0);
    });
  });
`;
const closed = new Int32Array(new SharedArrayBuffer(4));
const upstream = new Worker(upstreamCode, { eval: true, workerData: closed });
const port: Promise<number> = once(upstream, "message").then(([said]) => said as number);
after(() => upstream.terminate());

/** Closes all connections on the other side, before anything of that is read here. Blocks until it is done. */
function closeAll(how: "end" | "reset"): void {
  const before = Atomics.load(closed, 0);
  upstream.postMessage(how);
  assert.notEqual(Atomics.wait(closed, 0, before, 30_000), "timed-out");
}

async function startPool(connectionsMax = 10): Promise<Http1Pool> {
  const lookup = () => assert.fail("an address needs no look-up");
  return new Http1Pool(
    { secure: false, path: null, hostname: "127.0.0.1", port: await port, lookup, tls: {} },
    { connectionsMax, connectTimeoutMs: 10_000, idleMs: 60_000 },
  );
}

type SentRequest = Readonly<{ method: string; path: string; body?: string }>;

function sendRequest(pool: Http1Pool, { method, path, body = "" }: SentRequest): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const length = body === "" ? [] : ["content-length", String(body.length)];
    const handler: UpstreamHandler = {
      maySend: () => true,
      onWritable() {
        if (body !== "") call.write(Buffer.from(body));
        call.end();
      },
      onInformational() {},
      onHead() {},
      onData(chunk) {
        answer += chunk.toString("latin1");
        return true;
      },
      onEnd: () => resolve(answer),
      onError: reject,
    };
    const headers = new HeaderLines(["host", "upstream", ...length]);
    const framing = { hasBody: body !== "", idleTimeoutMs: 0 };
    const call = pool.call({ method, path, headers, requestId: null, ...framing }, handler);
  });
}

/** In the timers phase, which precedes socket reads, which precede the end of the turn. */
function beforeReading<T>(run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    setTimeout(() => void run().then(resolve, reject), 1);
  });
}

describe("a pooled connection breaks before a call has written anything to it", () => {
  for (const how of ["end", "reset"] as const)
    test(`any call is sent on another connection (${how})`, async (t) => {
      const pool = await startPool();
      t.after(() => pool.close());
      for (const call of [
        { method: "GET", path: "/a" },
        { method: "POST", path: "/b" },
        { method: "POST", path: "/c", body: "all of it" },
      ]) {
        await sendRequest(pool, { method: "GET", path: "/first" });
        const answer = await beforeReading(() => {
          closeAll(how);
          return sendRequest(pool, call);
        });
        assert.equal(answer.replace(/^\d+ /, ""), `${call.method} ${call.path} ${call.body ?? ""}`);
        assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
      }
    });

  test("several calls are, even if they have to wait for a connection", async (t) => {
    const pool = await startPool(2);
    t.after(() => pool.close());
    const paths = ["/1", "/2", "/3", "/4"];
    await Promise.all(paths.map((path) => sendRequest(pool, { method: "GET", path })));
    const answers = await beforeReading(() => {
      closeAll("end");
      return Promise.all(paths.map((path) => sendRequest(pool, { method: "POST", path })));
    });
    assert.deepEqual(
      answers.map((answer) => answer.replace(/^\d+ /, "")),
      paths.map((path) => `POST ${path} `),
    );
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

  test("a call that was aborted meanwhile is never sent", async (t) => {
    const pool = await startPool();
    t.after(() => pool.close());
    await sendRequest(pool, { method: "GET", path: "/first" });
    await beforeReading(async () => {
      closeAll("end");
      const never = () => assert.fail("an aborted call gets no callback");
      const handler = { maySend: never, onWritable: never, onInformational: never, onHead: never, onData: never };
      const headers = new HeaderLines(["host", "upstream"]);
      const request = { method: "GET", path: "/never", headers, requestId: null, hasBody: false, idleTimeoutMs: 0 };
      pool.call(request, { ...handler, onEnd: never, onError: never }).abort();
    });
    assert.match(await sendRequest(pool, { method: "GET", path: "/next" }), /^\d+ GET \/next $/);
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

  test("a pool that is closed meanwhile fails the call", async () => {
    const pool = await startPool();
    await sendRequest(pool, { method: "GET", path: "/first" });
    await assert.rejects(
      beforeReading(() => {
        const call = sendRequest(pool, { method: "POST", path: "/late" });
        pool.close();
        return call;
      }),
      { code: "ERR_PROXY_UPSTREAM_CLOSED" },
    );
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });
});

describe("calls that wait for the only connection", () => {
  const silent = { onWritable() {}, onInformational() {}, onHead() {}, onData: () => true, onEnd() {}, onError() {} };
  const request = { method: "GET", path: "/", requestId: null, hasBody: false, idleTimeoutMs: 0 };
  const call = (pool: Http1Pool, maySend: () => boolean): UpstreamCall =>
    pool.call({ ...request, headers: new HeaderLines(["host", "upstream"]) }, { ...silent, maySend });

  test("after any number of them is refused at once, the next one is sent", async (t) => {
    const pool = await startPool(1);
    t.after(() => pool.close());
    const first = sendRequest(pool, { method: "GET", path: "/first" });
    let refused = 0;
    for (let n = 0; n < 50_000; n++)
      call(pool, () => {
        refused++;
        return false;
      });
    const last = sendRequest(pool, { method: "GET", path: "/last" });
    assert.match(await first, / GET \/first $/);
    assert.match(await last, / GET \/last $/);
    assert.deepEqual([refused, pool.busy, pool.waiting], [50_000, 0, 0]);
  });

  test("aborted ones are released while the connection is busy", async (t) => {
    const pool = await startPool(1);
    t.after(() => pool.close());
    const started = new Promise<void>((resolve) => {
      call(pool, () => {
        resolve();
        return true;
      });
    });
    const off: WeakRef<UpstreamCall>[] = [];
    for (let n = 0; n < 1_000; n++) {
      const one = call(pool, () => true);
      one.abort();
      off.push(new WeakRef(one));
    }
    assert.equal(pool.waiting, 0);
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    await waitFor("the aborted calls to be collected", () => {
      collect();
      return off.filter((one) => one.deref() !== undefined).length <= 1;
    });
    await started;
  });

  test("a pool that is closed fails them", async () => {
    const pool = await startPool(1);
    const asking = [
      sendRequest(pool, { method: "POST", path: "/", body: "x" }),
      sendRequest(pool, { method: "GET", path: "/waits" }),
    ];
    assert.equal(pool.waiting, 1);
    const outcome = Promise.allSettled(asking);
    pool.close();
    for (const each of await outcome)
      assert.equal(each.status === "rejected" && each.reason.code, "ERR_PROXY_UPSTREAM_CLOSED");
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });
});

type Slow = Readonly<{
  pool: Http1Pool;
  /** Advances the clock without running anything else in this process. */
  stall(ms: number): void;
  /** Lets the event loop run its timers. */
  runTimers(): Promise<void>;
}>;

/** Sends how long it keeps a connection. Does not answer `/silent`. */
async function startSlow(
  t: TestContext,
  { connects = true, connectTimeoutMs = 600_000 }: Readonly<{ connects?: boolean; connectTimeoutMs?: number }> = {},
): Promise<Slow> {
  let opened = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const nth = String(++opened);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      if (bytes.includes("/silent")) return;
      socket.write(`HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: ${nth.length}\r\n\r\n${nth}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  let now = 1_000;
  t.mock.timers.enable({ apis: ["setInterval"] });
  t.mock.method(performance, "now", () => now);
  const place = connects ? { hostname: "127.0.0.1" } : { hostname: "unknown.test" };
  const pool = new Http1Pool(
    { secure: false, path: null, ...place, port, lookup: () => {}, tls: {} }, // a name is looked up for ever
    { connectionsMax: 10, connectTimeoutMs, idleMs: 60_000 },
  );
  t.after(() => {
    pool.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    pool,
    stall(ms) {
      now += ms;
    },
    async runTimers() {
      t.mock.timers.tick(100);
      await turn();
    },
  };
}

/** @returns the outcome of a call that gets no response */
function askInVain(
  pool: Http1Pool,
  idleTimeoutMs: number,
): { error: unknown; call: UpstreamCall; begun: Promise<void> } {
  let begin = (): void => {};
  const started = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const outcome: { error: unknown; call: UpstreamCall; begun: Promise<void> } = {
    error: undefined,
    begun: started,
  } as never;
  const handler: UpstreamHandler = {
    maySend: () => true,
    onWritable: () => begin(),
    onInformational() {},
    onHead: () => assert.fail("no response is expected"),
    onData: () => true,
    onEnd() {},
    onError(error) {
      outcome.error = error;
    },
  };
  const headers = new HeaderLines(["host", "upstream"]);
  const request = { method: "POST", path: "/silent", headers, requestId: null, hasBody: true, idleTimeoutMs };
  outcome.call = pool.call(request, handler);
  return outcome;
}

suite("a process that is too busy to check the time often", () => {
  test("abandons a silent upstream at its timeout, not earlier and not much later", async (t) => {
    const { pool, stall, runTimers } = await startSlow(t);
    const outcome = askInVain(pool, 30_000);
    await outcome.begun;
    for (let looks = 0; looks < 30; looks++) {
      stall(1_000);
      await runTimers();
    }
    assert.equal(outcome.error, undefined);
    for (let looks = 0; looks < 2; looks++) {
      stall(1_000);
      await runTimers();
    }
    assert.equal((outcome.error as { code?: string } | undefined)?.code, "ERR_PROXY_UPSTREAM_IDLE");
  });

  test("abandons an unreachable upstream at its timeout", async (t) => {
    const { pool, stall, runTimers } = await startSlow(t, { connects: false, connectTimeoutMs: 10_000 });
    const outcome = askInVain(pool, 0);
    for (let looks = 0; looks < 10; looks++) {
      stall(1_000);
      await runTimers();
    }
    assert.equal(outcome.error, undefined);
    for (let looks = 0; looks < 2; looks++) {
      stall(1_000);
      await runTimers();
    }
    assert.equal((outcome.error as { code?: string } | undefined)?.code, "ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT");
  });

  test("counts bytes that moved between two checks", async (t) => {
    const { pool, stall, runTimers } = await startSlow(t);
    const outcome = askInVain(pool, 5_000);
    await outcome.begun;
    await runTimers();
    stall(60_000);
    const looking = runTimers();
    outcome.call.write(Buffer.from("more"));
    await looking;
    assert.equal(outcome.error, undefined);
    stall(4_000);
    await runTimers();
    assert.equal(outcome.error, undefined);
    stall(2_000);
    await runTimers();
    assert.equal((outcome.error as { code?: string } | undefined)?.code, "ERR_PROXY_UPSTREAM_IDLE");
  });

  test("does not reuse a connection that its upstream is about to close, and reuses it before", async (t) => {
    const { pool, stall, runTimers } = await startSlow(t);
    const call = { method: "POST", path: "/a" };
    assert.equal(await sendRequest(pool, call), "1");
    stall(3_500);
    assert.equal(await sendRequest(pool, call), "1");
    stall(4_500);
    assert.equal(await sendRequest(pool, call), "2");
    stall(4_500);
    await runTimers();
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
    assert.equal(await sendRequest(pool, call), "3");
  });
});
