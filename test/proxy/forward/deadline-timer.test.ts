/** Deadlines: each fires once, in order, never early, and not at all once it is cleared. */
import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Deadline } from "../../../src/proxy/forward/deadline-timer.ts";

type TestClock = Readonly<{
  fired: string[];
  begin(ms: number, name: string): Deadline;
  /** Advances the clock, with the event loop turning all the while. */
  pass(ms: number): Promise<void>;
  /** Advances the clock, with a single turn of the event loop at the end. */
  stall(ms: number): Promise<void>;
}>;

function start(t: TestContext): TestClock {
  let now = 0;
  t.mock.timers.enable({ apis: ["setInterval"] });
  t.mock.method(performance, "now", () => now);
  const fired: string[] = [];
  const checkOnce = async (): Promise<void> => {
    t.mock.timers.tick(100);
    await turn();
  };
  return {
    fired,
    begin: (ms, name) => new Deadline(ms, () => void fired.push(name)),
    async pass(ms) {
      for (let passed = 0; passed < ms; passed += 100) {
        now += 100;
        await checkOnce();
      }
    },
    async stall(ms) {
      now += ms;
      await checkOnce();
    },
  };
}

suite("a deadline", () => {
  test("fires once, at the first check after its time, and never once it is cleared", async (t) => {
    const { fired, begin, pass } = start(t);
    begin(1_000, "a");
    const never = begin(1_000, "never");
    begin(250, "b");
    await pass(200);
    assert.deepEqual(fired, []);
    await pass(100);
    assert.deepEqual(fired, ["b"]);
    begin(1_000, "c");
    never.clear();
    never.clear();
    await pass(600);
    assert.deepEqual(fired, ["b"]);
    await pass(100);
    assert.deepEqual(fired, ["b", "a"]);
    await pass(10_000);
    assert.deepEqual(fired, ["b", "a", "c"]);
  });

  test("does not fire if another one clears it in the same check, and a callback may begin a new one", async (t) => {
    const { fired, begin, pass } = start(t);
    new Deadline(100, () => {
      fired.push("first");
      second.clear();
      begin(100, "third");
    });
    const second = begin(100, "second");
    await pass(1_000);
    assert.deepEqual(fired, ["first", "third"]);
  });

  test("fires on time in a slow process, because it counts by the clock and not by the number of checks", async (t) => {
    const { fired, begin, stall } = start(t);
    begin(30_000, "half a minute");
    for (let checks = 0; checks < 29; checks++) await stall(1_000);
    assert.deepEqual(fired, []);
    await stall(1_000);
    assert.deepEqual(fired, ["half a minute"]);
  });

  test("fires no earlier if it begins while a check is late", async (t) => {
    const { fired, begin, stall, pass } = start(t);
    const later = begin(600_000, "later");
    await stall(100);
    const slow = stall(5_000); // and before the next check runs:
    begin(1_000, "a second");
    await slow;
    assert.deepEqual(fired, []);
    await pass(1_000);
    assert.deepEqual(fired, ["a second"]);
    later.clear();
    await pass(100); // so that no check is scheduled any more
  });

  test("fires only after bytes that have already arrived are processed", async (t) => {
    const { fired, begin, stall } = start(t);
    const waiting = begin(1_000, "no answer");
    const stalled = stall(60_000);
    waiting.clear(); // as a response that had already arrived would
    await stalled;
    assert.deepEqual(fired, []);
    const due = begin(100, "due");
    await stall(100);
    due.clear(); // too late
    assert.deepEqual(fired, ["due"]);
  });
});
