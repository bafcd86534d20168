/** A pool of connections to an upstream of HTTP/1.1, on real sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { HeaderLines } from "../../src/proxy/header-lines.ts";
import type { UpstreamHandler } from "../../src/proxy/upstream-call.ts";
import { Http1Pool } from "../../src/proxy/upstream-http1.ts";

/** Answers with what it was asked, in a thread of its own, so that it can close while nothing here is read. */
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

/** Returns when all connections are closed on the other side, and nothing was read of that here. */
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

type Asked = Readonly<{ method: string; path: string; body?: string }>;

function ask(pool: Http1Pool, { method, path, body = "" }: Asked): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const length = body === "" ? [] : ["content-length", String(body.length)];
    const handler: UpstreamHandler = {
      mayBegin: () => true,
      onWritable() {
        if (body !== "") call.write(Buffer.from(body));
        call.end();
      },
      onHint() {},
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

/** In the timers' part of a turn, which comes before sockets are read, which comes before its end. */
function beforeReading<T>(run: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    setTimeout(() => void run().then(resolve, reject), 1);
  });
}

describe("a kept connection that breaks before anything of a call was written to it", () => {
  for (const how of ["end", "reset"] as const)
    test(`whatever the call asks for, it goes on another (${how})`, async (t) => {
      const pool = await startPool();
      t.after(() => pool.close());
      for (const asked of [
        { method: "GET", path: "/a" },
        { method: "POST", path: "/b" },
        { method: "POST", path: "/c", body: "all of it" },
      ]) {
        await ask(pool, { method: "GET", path: "/first" });
        const answer = await beforeReading(() => {
          closeAll(how);
          return ask(pool, asked);
        });
        assert.equal(answer.replace(/^\d+ /, ""), `${asked.method} ${asked.path} ${asked.body ?? ""}`);
        assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
      }
    });

  test("so do several at once, also where they have to wait for it", async (t) => {
    const pool = await startPool(2);
    t.after(() => pool.close());
    const paths = ["/1", "/2", "/3", "/4"];
    await Promise.all(paths.map((path) => ask(pool, { method: "GET", path })));
    const answers = await beforeReading(() => {
      closeAll("end");
      return Promise.all(paths.map((path) => ask(pool, { method: "POST", path })));
    });
    assert.deepEqual(
      answers.map((answer) => answer.replace(/^\d+ /, "")),
      paths.map((path) => `POST ${path} `),
    );
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

  test("one that was called off meanwhile is not sent at all", async (t) => {
    const pool = await startPool();
    t.after(() => pool.close());
    await ask(pool, { method: "GET", path: "/first" });
    await beforeReading(async () => {
      closeAll("end");
      const never = () => assert.fail("nothing is told of a call that was called off");
      const handler = { mayBegin: never, onWritable: never, onHint: never, onHead: never, onData: never };
      const headers = new HeaderLines(["host", "upstream"]);
      const request = { method: "GET", path: "/never", headers, requestId: null, hasBody: false, idleTimeoutMs: 0 };
      pool.call(request, { ...handler, onEnd: never, onError: never }).abort();
    });
    assert.match(await ask(pool, { method: "GET", path: "/next" }), /^\d+ GET \/next $/);
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });

  test("a pool that is closed meanwhile answers for it", async () => {
    const pool = await startPool();
    await ask(pool, { method: "GET", path: "/first" });
    await assert.rejects(
      beforeReading(() => {
        const asked = ask(pool, { method: "POST", path: "/late" });
        pool.close();
        return asked;
      }),
      { code: "ERR_PROXY_UPSTREAM_CLOSED" },
    );
    assert.deepEqual([pool.busy, pool.waiting], [0, 0]);
  });
});
