/** Heap tuning: the percentage by which a heap may grow before the next full collection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { growthPercentOf } from "../../../../src/cli/process/gc/heap-tuning.ts";

const MB = 1024 * 1024;

test("a heap may grow by a quarter, and a small one by as many bytes as one of 100 MB, at most to its double", () => {
  assert.equal(growthPercentOf(0), 100);
  assert.equal(growthPercentOf(20 * MB), 100);
  assert.equal(growthPercentOf(40 * MB), 60);
  assert.equal(growthPercentOf(80 * MB), 30);
  assert.equal(growthPercentOf(100 * MB), 25);
  assert.equal(growthPercentOf(4_000 * MB), 25);
});
