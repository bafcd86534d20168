/** HTTP/1.1 connection pool of an upstream with TLS: its connections are kept. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { Worker } from "node:worker_threads";
import { Http1Pool } from "../../../src/proxy/http1/upstream-pool.ts";
import { HeaderLines } from "../../../src/proxy/message/header-lines.ts";
import type { UpstreamCall } from "../../../src/proxy/message/upstream-call.ts";
import { Authority } from "../../support/pki.ts";

/**
 * Answers each request with the number of its connection, in its own thread. Counts its answers. Ends the connection
 * with the answer to the body `close`.
 */
const upstreamCode = `
  const { createServer } = require("node:tls");
  const { parentPort, workerData: { answers, ...issued } } = require("node:worker_threads");
  let opened = 0;
  const server = createServer(issued, (socket) => {
    const nth = String(++opened);
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      const head = text.indexOf("\\r\\n\\r\\n");
      const length = Number(/content-length: (\\d+)/.exec(text)?.[1] ?? 0);
      if (head < 0 || text.length < head + 4 + length) return;
      const isLast = text.endsWith("close");
      text = "";
      const answer = "HTTP/1.1 200 OK\\r\\nContent-Length: " + nth.length + "\\r\\n\\r\\n" + nth;
      const onSent = () => {
        Atomics.add(answers, 0, 1);
        Atomics.notify(answers, 0);
      };
      if (isLast) socket.end(answer, onSent);
      else socket.write(answer, onSent);
    });
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

async function startPool(
  t: TestContext,
  connectionsMax = 10,
): Promise<Readonly<{ pool: Http1Pool; awaitAnswer: () => void }>> {
  const authority = await Authority.root();
  const { cert, key } = await authority.issue({ hosts: ["upstream.localhost"] });
  const answers = new Int32Array(new SharedArrayBuffer(4));
  const upstream = new Worker(upstreamCode, { eval: true, workerData: { answers, cert, key } });
  const [port] = await once(upstream, "message");
  const lookup = () => assert.fail("an address needs no look-up");
  const tls = { ca: authority.pem, servername: "upstream.localhost" };
  const pool = new Http1Pool(
    { secure: true, path: null, hostname: "127.0.0.1", port: Number(port), lookup, tls },
    { connectionsMax, connectTimeoutMs: 10_000, idleMs: 60_000 },
  );
  t.after(async () => {
    pool.close();
    await upstream.terminate();
  });
  return {
    pool,
    /** Blocks this thread, once it has written the next request, until the upstream has answered it. */
    awaitAnswer() {
      const before = Atomics.load(answers, 0);
      setImmediate(() => assert.notEqual(Atomics.wait(answers, 0, before, 10_000), "timed-out"));
    },
  };
}

function send(pool: Http1Pool, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const length = body === "" ? [] : ["content-length", String(body.length)];
    const headers = new HeaderLines(["host", "upstream", ...length]);
    const framing = { hasBody: body !== "", idleTimeoutMs: 0 };
    let sent: UpstreamCall | undefined;
    pool.call(
      { method: body === "" ? "GET" : "POST", path: "/", headers, requestId: null, ...framing },
      {
        maySend(call) {
          sent = call;
          return true;
        },
        onWritable() {
          if (body !== "") sent?.write(Buffer.from(body));
          sent?.end();
        },
        onInformational() {},
        onHead() {},
        onData(chunk) {
          answer += chunk.toString("latin1");
          return true;
        },
        onEnd: () => resolve(answer),
        onError: reject,
      },
    );
  });
}

for (const [name, body] of [
  ["request", ""],
  ["body", "hello"],
] as const)
  test(`a response that arrives before Node reports the ${name} as written does not end its connection`, async (t) => {
    const { pool, awaitAnswer } = await startPool(t);
    assert.equal(await send(pool, body), "1");
    for (let n = 0; n < 3; n++) {
      const answer = send(pool, body);
      awaitAnswer();
      assert.equal(await answer, "1");
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

test("a call that waits is not sent on a connection that the upstream closed with its last response", async (t) => {
  const { pool, awaitAnswer } = await startPool(t, 1);
  assert.equal(await send(pool, "hello"), "1");
  const last = send(pool, "close");
  const waiting = send(pool, "hello");
  awaitAnswer();
  assert.deepEqual(await Promise.all([last, waiting]), ["1", "2"]);
});
