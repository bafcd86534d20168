import assert from "node:assert/strict";
import { test } from "node:test";
import { readinessOf } from "../../src/cli/readiness.ts";

const stale = { ready: false, reasons: ["no grant for 9000 ms"], graceMs: 60_000, draining: "serving" } as const;

test("a fresh node is ready, and one that was never granted anything is not", () => {
  assert.equal(readinessOf({ ...stale, ready: true, reasons: [], overdueMs: -4_000 }).ready, true);
  assert.equal(readinessOf({ ...stale, overdueMs: Number.POSITIVE_INFINITY }).ready, false);
});

test("a lost control plane does not take a node out of its balancer while its routes serve, and says so", () => {
  const within = readinessOf({ ...stale, overdueMs: 4_000 });
  assert.equal(within.ready, true);
  assert.match(within.reasons.join(), /within stale_grace/);
  assert.equal(readinessOf({ ...stale, overdueMs: 60_001 }).ready, false);
  assert.equal(readinessOf({ ...stale, overdueMs: 4_000, graceMs: 0 }).ready, false, "all routes deny when stale");
});

test("a draining node is never ready", () => {
  assert.equal(readinessOf({ ...stale, overdueMs: 4_000, draining: "draining" }).ready, false);
});
