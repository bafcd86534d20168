/** How much longer bounds are on a busy machine. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { boundFactor, loadOf, parseSchedule, watchLoad } from "../../chaos/judge/machine-load.ts";

test("a machine that the cluster has for itself lengthens nothing, and a busy one lengthens by what a process waits", () => {
  assert.equal(boundFactor({ ranMs: 1_000, waitedMs: 0 }), 1);
  assert.equal(boundFactor({ ranMs: 1_000, waitedMs: 2_000 }), 1);
  assert.equal(boundFactor({ ranMs: 1_000, waitedMs: 6_000 }), 3);
});

test("however busy the machine is, a bound remains", () => {
  assert.equal(boundFactor({ ranMs: 1_000, waitedMs: 1_000_000 }), 5);
});

test("an account of a process that hardly ran lengthens nothing", () => {
  assert.equal(boundFactor({ ranMs: 1, waitedMs: 1_000 }), 1);
});

test("the kernel's account is read as times, and anything else is no account", () => {
  assert.deepEqual(parseSchedule("2000000000 500000000 42\n"), { ranMs: 2_000, waitedMs: 500 });
  for (const text of ["", "1", "one two three"]) assert.equal(parseSchedule(text), null);
});

test("the load since a moment does not depend on what was before", () => {
  const accounts = [
    { ranMs: 10, waitedMs: 90_000 },
    { ranMs: 1_010, waitedMs: 98_000 },
  ];
  const load = watchLoad(() => accounts.shift() ?? null);
  assert.equal(load(), 4);
  assert.equal(load(), 1, "no account any more");
});

test("several processes are one account", () => {
  const all = loadOf([
    { ranMs: 10, waitedMs: 1 },
    { ranMs: 5, waitedMs: 2 },
  ]);
  assert.deepEqual(all, { ranMs: 15, waitedMs: 3 });
  assert.deepEqual(loadOf([]), { ranMs: 0, waitedMs: 0 });
});
