/** Shrinking a list to the items that a failure needs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { shrinkList } from "../../../chaos/sim/shrink.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

test("the items that the failure needs are left, in their order", async () => {
  for (const needed of [[3], [0, 99], [10, 50, 51, 90]]) {
    const fails = (some: readonly number[]): boolean => needed.every((each) => some.includes(each));
    assert.deepEqual((await shrinkList(numbers(100), fails, 1_000)).left, needed);
  }
});

test("a failure that needs nothing leaves nothing", async () => {
  assert.deepEqual(await shrinkList(numbers(10), () => true, 100), { left: [], runs: 1 });
});

test("the number of runs is bounded, and the result still fails", async () => {
  const fails = (some: readonly number[]): boolean => [5, 500, 995].every((each) => some.includes(each));
  for (const runsMax of [0, 1, 5, 20]) {
    const { left, runs } = await shrinkList(numbers(1_000), fails, runsMax);
    assert.ok(runs <= runsMax);
    assert.ok(fails(left));
  }
});
