/** Deadlines: each comes once, in its order, never early, and not at all when it was called off. */
import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Deadline } from "../../../src/proxy/forward/deadline-timer.ts";

type World = Readonly<{
  came: string[];
  begin(ms: number, name: string): Deadline;
  /** Time passes, and the loop turns all the while. */
  pass(ms: number): Promise<void>;
  /** Time passes, and the loop turns once at the end of it. */
  stall(ms: number): Promise<void>;
}>;

function start(t: TestContext): World {
  let now = 0;
  t.mock.timers.enable({ apis: ["setInterval"] });
  t.mock.method(performance, "now", () => now);
  const came: string[] = [];
  const lookOnce = async (): Promise<void> => {
    t.mock.timers.tick(100);
    await turn();
  };
  return {
    came,
    begin: (ms, name) => new Deadline(ms, () => void came.push(name)),
    async pass(ms) {
      for (let passed = 0; passed < ms; passed += 100) {
        now += 100;
        await lookOnce();
      }
    },
    async stall(ms) {
      now += ms;
      await lookOnce();
    },
  };
}

suite("a deadline", () => {
  test("comes once, at the first look behind it, and one that was called off never", async (t) => {
    const { came, begin, pass } = start(t);
    begin(1_000, "a");
    const never = begin(1_000, "never");
    begin(250, "b");
    await pass(200);
    assert.deepEqual(came, []);
    await pass(100);
    assert.deepEqual(came, ["b"]);
    begin(1_000, "c");
    never.clear();
    never.clear();
    await pass(600);
    assert.deepEqual(came, ["b"]);
    await pass(100);
    assert.deepEqual(came, ["b", "a"]);
    await pass(10_000);
    assert.deepEqual(came, ["b", "a", "c"]);
  });

  test("that is called off by another of the same look does not come, and one may begin another", async (t) => {
    const { came, begin, pass } = start(t);
    new Deadline(100, () => {
      came.push("first");
      second.clear();
      begin(100, "third");
    });
    const second = begin(100, "second");
    await pass(1_000);
    assert.deepEqual(came, ["first", "third"]);
  });

  test("is no longer for a process that is slow: time is the clock's, not the number of looks", async (t) => {
    const { came, begin, stall } = start(t);
    begin(30_000, "half a minute");
    for (let looks = 0; looks < 29; looks++) await stall(1_000);
    assert.deepEqual(came, []);
    await stall(1_000);
    assert.deepEqual(came, ["half a minute"]);
  });

  test("is no shorter for one that begins while a look is late", async (t) => {
    const { came, begin, stall, pass } = start(t);
    const later = begin(600_000, "later");
    await stall(100);
    const slow = stall(5_000); // and before the loop gets to look:
    begin(1_000, "a second");
    await slow;
    assert.deepEqual(came, []);
    await pass(1_000);
    assert.deepEqual(came, ["a second"]);
    later.clear();
    await pass(100); // so that nothing is looked at any more
  });

  test("lets what has arrived meanwhile be read first", async (t) => {
    const { came, begin, stall } = start(t);
    const waiting = begin(1_000, "no answer");
    const stalled = stall(60_000);
    waiting.clear(); // as the answer does that was there all the time
    await stalled;
    assert.deepEqual(came, []);
    const due = begin(100, "due");
    await stall(100);
    due.clear(); // too late
    assert.deepEqual(came, ["due"]);
  });
});
