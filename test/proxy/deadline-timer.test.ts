/** Deadlines: each comes once, in its order, never early, and not at all when it was called off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Deadline } from "../../src/proxy/deadline-timer.ts";

test("a deadline comes once and within two ticks, and one that was called off never", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const came: string[] = [];
  const begin = (ms: number, name: string): Deadline => new Deadline(ms, () => void came.push(name));
  begin(1_000, "a");
  const never = begin(1_000, "never");
  begin(250, "b");
  t.mock.timers.tick(200);
  assert.deepEqual(came, []);
  t.mock.timers.tick(250);
  assert.deepEqual(came, ["b"]);
  begin(1_000, "c");
  never.clear();
  never.clear();
  t.mock.timers.tick(500);
  assert.deepEqual(came, ["b"]);
  t.mock.timers.tick(250);
  assert.deepEqual(came, ["b", "a"]);
  t.mock.timers.tick(10_000);
  assert.deepEqual(came, ["b", "a", "c"]);
});

test("what is called off by another that comes at the same tick does not come, and one may begin another", (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const came: string[] = [];
  new Deadline(100, () => {
    came.push("first");
    second.clear();
    new Deadline(100, () => came.push("third"));
  });
  const second = new Deadline(100, () => came.push("second"));
  t.mock.timers.tick(1_000);
  assert.deepEqual(came, ["first", "third"]);
});
