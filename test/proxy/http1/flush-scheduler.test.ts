/** Flush scheduler: writes that wait for the end of their turn are checked again if the turn was long. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { publicAccess, type Rig, routeTo, startRig, startUpstream } from "../support.ts";

type TestProxy = Readonly<{
  rig: Rig;
  /** The process pauses for this long right after the next check of the lease. */
  pauseAfterNextCheck(ms: number): void;
  hasPaused(): boolean;
  /** Sets when the lease expires, from now. */
  leaseFor(ms: number): void;
  call(): Call;
}>;
type Call = Readonly<{ socket: Socket; received(): string; isClosed(): boolean }>;

async function start(t: TestContext, answer: (res: ServerResponse) => void): Promise<TestProxy> {
  let pausedMs = 0;
  let nextPauseMs = 0;
  let leaseEndsAt = Number.POSITIVE_INFINITY;
  const realNow = performance.now.bind(performance);
  t.mock.method(performance, "now", () => realNow() + pausedMs);
  const upstream = await startUpstream((_req, res) => answer(res));
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, onStale: "deny", staleGraceMs: 0 })], {
    deps: {
      freshness: {
        overdueMs(now) {
          pausedMs += nextPauseMs;
          nextPauseMs = 0;
          return now - leaseEndsAt;
        },
      },
    },
  });
  t.after(async () => {
    await rig.close();
    await upstream.close();
  });
  return {
    rig,
    pauseAfterNextCheck(ms) {
      nextPauseMs = ms;
    },
    hasPaused: () => pausedMs > 0,
    leaseFor(ms) {
      leaseEndsAt = performance.now() + ms;
    },
    call() {
      const socket = connect(rig.port, "127.0.0.1");
      let received = "";
      let closed = false;
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        received += bytes.toString("latin1");
      });
      socket.on("close", () => {
        closed = true;
      });
      t.after(() => socket.destroy());
      socket.write("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
      return { socket, received: () => received, isClosed: () => closed };
    },
  };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUpAt = Date.now() + 30_000; // the other clock jumps in these tests
  while (!condition()) {
    assert.ok(Date.now() < giveUpAt, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

suite("a process that pauses between the check of a chunk and the end of the turn", () => {
  test("does not send the chunk if the lease has expired meanwhile", async (t) => {
    const answers: ServerResponse[] = [];
    const proxy = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const call = proxy.call();
    await until(() => call.received().includes("first"), "the first chunk");
    proxy.leaseFor(10_000);
    proxy.pauseAfterNextCheck(15_000);
    answers[0]?.write("second");
    await until(call.isClosed, "the end of the connection");
    assert.ok(!call.received().includes("second"), call.received());
    assert.ok(proxy.hasPaused());
  });

  test("sends the chunk if the lease is still fresh, and what follows", async (t) => {
    const answers: ServerResponse[] = [];
    const proxy = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const call = proxy.call();
    await until(() => call.received().includes("first"), "the first chunk");
    proxy.leaseFor(60_000);
    proxy.pauseAfterNextCheck(15_000);
    answers[0]?.write("second");
    await until(() => call.received().includes("second"), "the second chunk");
    answers[0]?.end("third");
    await until(() => call.received().endsWith("third\r\n0\r\n\r\n"), "the end of the response");
    assert.ok(proxy.hasPaused() && !call.isClosed());
  });

  test("does not send a complete small response either, and accepts no other request on that connection", async (t) => {
    const proxy = await start(t, (res) => {
      // The check before the first byte to the upstream has passed; the next one is for the upstream's response.
      proxy.leaseFor(10_000);
      proxy.pauseAfterNextCheck(15_000);
      res.setHeader("content-length", "9").end("all of it");
    });
    const call = proxy.call();
    await until(call.isClosed, "the end of the connection");
    assert.equal(call.received(), "");
    assert.ok(proxy.hasPaused());
  });

  test("sends all permitted responses of the same turn", async (t) => {
    const answers: ServerResponse[] = [];
    const proxy = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const calls = [proxy.call(), proxy.call(), proxy.call()];
    await until(() => calls.every(({ received }) => received().includes("first")), "the first chunks");
    proxy.leaseFor(60_000);
    proxy.pauseAfterNextCheck(15_000);
    for (const res of answers) res.end("second");
    await until(() => calls.every(({ received }) => received().endsWith("0\r\n\r\n")), "the ends of all responses");
    assert.ok(proxy.hasPaused());
  });
});
