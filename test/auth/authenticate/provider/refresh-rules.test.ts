/** Rules of a session's refresh: how many are in progress at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { workersAfter, workersMin } from "../../../../src/auth/authenticate/provider/refresh-rules.ts";

test("while many sessions are due, each run has more refreshes in progress, up to 64, and few again afterwards", () => {
  const seen: number[] = [];
  let workers = workersMin;
  for (const refreshes of [1_000, 1_000, 1_000, 1_000, 300, 0, 0, 0, 0]) {
    workers = workersAfter({ workers, refreshes, wasHeldBack: false });
    seen.push(workers);
  }
  assert.deepEqual(seen, [16, 32, 64, 64, 32, 16, 8, 8, 8]);
});

test("a provider that refuses the request itself, or does not answer, gets few at once", () => {
  assert.equal(workersAfter({ workers: 64, refreshes: 1_000, wasHeldBack: true }), workersMin);
});
