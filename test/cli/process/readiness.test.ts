/** Readiness of a node and the share of routes that it serves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { commonShare, readinessOf, readyForAll, routeShareOf } from "../../../src/cli/process/readiness.ts";

const stale = { ready: false, reasons: ["no grant for 9000 ms"], graceMs: 60_000, draining: "serving" } as const;

test("a node with a lease is ready, and one that never received a grant is not", () => {
  assert.equal(readinessOf({ ...stale, ready: true, reasons: [], overdueMs: -4_000 }).ready, true);
  assert.equal(readinessOf({ ...stale, overdueMs: Number.POSITIVE_INFINITY }).ready, false);
});

test("a node that has lost the control plane stays ready while its routes serve, and states the reason", () => {
  const within = readinessOf({ ...stale, overdueMs: 4_000 });
  assert.equal(within.ready, true);
  assert.match(within.reasons.join(), /within stale_grace/);
  assert.equal(readinessOf({ ...stale, overdueMs: 60_001 }).ready, false);
  assert.equal(readinessOf({ ...stale, overdueMs: 4_000, graceMs: 0 }).ready, false, "all routes deny when stale");
});

test("a draining node is never ready", () => {
  assert.equal(readinessOf({ ...stale, overdueMs: 4_000, draining: "draining" }).ready, false);
});

const routes = [{ staleGraceMs: 0 }, { staleGraceMs: 0 }, { staleGraceMs: 60_000 }, { staleGraceMs: 10_000 }];

test("the share counts the routes that the node can decide now", () => {
  const served = (overdueMs: number): number => routeShareOf(overdueMs, routes).served;
  assert.deepEqual([-1, 0, 1, 10_001, 60_001, Number.POSITIVE_INFINITY].map(served), [4, 4, 2, 1, 0, 0]);
  assert.deepEqual(routeShareOf(1, routes), { total: 4, served: 2, share: 0.5 });
  assert.deepEqual(routeShareOf(1, []), { total: 0, served: 0, share: 1 });
});

test("a node that answers 503 on its deny routes is ready, and not ready for all routes", () => {
  const readiness = { ready: true, reasons: ["within stale_grace"], routes: routeShareOf(1, routes) };
  assert.deepEqual(readyForAll(readiness), {
    ready: false,
    reasons: ["within stale_grace", "2 of 4 routes answer 503"],
    routes: readiness.routes,
  });
  const fresh = { ready: true, reasons: [], routes: routeShareOf(-1, routes) };
  assert.equal(readyForAll(fresh), fresh);
  const broker = { ready: true, reasons: [] };
  assert.equal(readyForAll(broker), broker);
});

test("the share of workers together is the smallest of their shares", () => {
  assert.deepEqual(commonShare([routeShareOf(-1, routes), routeShareOf(20_000, routes)]), {
    total: 4,
    served: 1,
    share: 0.25,
  });
  assert.equal(commonShare([]), undefined);
});
