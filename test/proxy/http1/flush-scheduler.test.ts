/** What waits for the end of its turn is checked again if the turn was long. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { publicAccess, type Rig, routeTo, startRig, startUpstream } from "../support.ts";

type World = Readonly<{
  rig: Rig;
  /** The process stands still right behind the next look at the lease. */
  stopBehindNextLook(ms: number): void;
  stopped(): boolean;
  /** The lease ends this much later. */
  leaseFor(ms: number): void;
  call(): Call;
}>;
type Call = Readonly<{ socket: Socket; heard(): string; isOver(): boolean }>;

async function start(t: TestContext, answer: (res: ServerResponse) => void): Promise<World> {
  let stoodStill = 0;
  let stopMs = 0;
  let endsAt = Number.POSITIVE_INFINITY;
  const running = performance.now.bind(performance);
  t.mock.method(performance, "now", () => running() + stoodStill);
  const upstream = await startUpstream((_req, res) => answer(res));
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, onStale: "deny", staleGraceMs: 0 })], {
    deps: {
      freshness: {
        overdueMs(now) {
          stoodStill += stopMs;
          stopMs = 0;
          return now - endsAt;
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
    stopBehindNextLook(ms) {
      stopMs = ms;
    },
    stopped: () => stoodStill > 0,
    leaseFor(ms) {
      endsAt = performance.now() + ms;
    },
    call() {
      const socket = connect(rig.port, "127.0.0.1");
      let heard = "";
      let over = false;
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        heard += bytes.toString("latin1");
      });
      socket.on("close", () => {
        over = true;
      });
      t.after(() => socket.destroy());
      socket.write("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
      return { socket, heard: () => heard, isOver: () => over };
    },
  };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUpAt = Date.now() + 30_000; // the other clock jumps here
  while (!condition()) {
    assert.ok(Date.now() < giveUpAt, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

suite("a process that is stopped between the check of a chunk and the end of the turn", () => {
  test("sends no byte of it if the lease has ended meanwhile", async (t) => {
    const answers: ServerResponse[] = [];
    const world = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const call = world.call();
    await until(() => call.heard().includes("first"), "the first chunk");
    world.leaseFor(10_000);
    world.stopBehindNextLook(15_000);
    answers[0]?.write("second");
    await until(call.isOver, "the end of the connection");
    assert.ok(!call.heard().includes("second"), call.heard());
    assert.ok(world.stopped());
  });

  test("sends it while the lease lasts, and what follows it", async (t) => {
    const answers: ServerResponse[] = [];
    const world = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const call = world.call();
    await until(() => call.heard().includes("first"), "the first chunk");
    world.leaseFor(60_000);
    world.stopBehindNextLook(15_000);
    answers[0]?.write("second");
    await until(() => call.heard().includes("second"), "the second chunk");
    answers[0]?.end("third");
    await until(() => call.heard().endsWith("third\r\n0\r\n\r\n"), "the end of the answer");
    assert.ok(world.stopped() && !call.isOver());
  });

  test("sends nothing of a whole small response either, and accepts no other request on that connection", async (t) => {
    const world = await start(t, (res) => {
      // Behind the look before the first byte to the upstream; the next is at what it answers.
      world.leaseFor(10_000);
      world.stopBehindNextLook(15_000);
      res.setHeader("content-length", "9").end("all of it");
    });
    const call = world.call();
    await until(call.isOver, "the end of the connection");
    assert.equal(call.heard(), "");
    assert.ok(world.stopped());
  });

  test("sends permitted responses that wait in the same turn", async (t) => {
    const answers: ServerResponse[] = [];
    const world = await start(t, (res) => {
      answers.push(res);
      res.writeHead(200).write("first");
    });
    const calls = [world.call(), world.call(), world.call()];
    await until(() => calls.every(({ heard }) => heard().includes("first")), "the first chunks");
    world.leaseFor(60_000);
    world.stopBehindNextLook(15_000);
    for (const res of answers) res.end("second");
    await until(() => calls.every(({ heard }) => heard().endsWith("0\r\n\r\n")), "the ends of all answers");
    assert.ok(world.stopped());
  });
});
