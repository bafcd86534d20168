/** The measurements of a chaos run: availability, times to receipts, counts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type FaultEntry, historyOf, nsPerMs } from "../../chaos/judge/history.ts";
import { measure, percentiles } from "../../chaos/report/measure.ts";
import { command, faultOf, options, request, revocation, session } from "./support.ts";

const fault = (beginMs: number, clearMs: number): FaultEntry => faultOf(beginMs, beginMs, { clear: clearMs * nsPerMs });
const permitted = (begin: number, id: string): ReturnType<typeof request> =>
  request({ begin, end: begin + 5, arrived: begin + 1, sent: begin + 2 }, { id });

test("requests within faults are counted apart from the others", () => {
  const history = historyOf([
    session(),
    fault(200, 300),
    permitted(50, "a"),
    request({ begin: 250, end: 255 }, { id: "b" }),
    permitted(290, "c"),
    permitted(2_290, "d"),
    permitted(2_400, "e"),
  ]);
  const { outside, within } = measure(history, options);
  assert.deepEqual(outside, { permitted: 2, requested: 2, byStatus: {} });
  assert.deepEqual(within, { permitted: 2, requested: 3, byStatus: { 503: 1 } });
});

test("only requests that had to be permitted count, and only where a proxy was reachable", () => {
  const history = historyOf([
    session(),
    ...revocation(200),
    permitted(50, "a"),
    request({ begin: 150, end: 155 }, { id: "revoked" }),
    request({ begin: 60, end: 61 }, { id: "down", outcome: "unknown", problem: "ECONNREFUSED" }),
    request({ begin: 70, end: 75 }, { id: "stranger", session: "unknown" }),
  ]);
  assert.deepEqual(measure(history, options).outside, { permitted: 1, requested: 1, byStatus: {} });
});

test("the time to a complete receipt starts with the first attempt", () => {
  const [first] = revocation(500);
  assert.ok(first?.type === "command");
  const attempt = { ...first, begin: 40 * nsPerMs, outcome: "unknown" as const, link: null };
  const { completeMs } = measure(historyOf([session(), attempt, ...revocation(500)]), options);
  assert.equal(completeMs.outside.max, 460);
});

test("commands are counted once, however often they were sent", () => {
  const intent = { type: "revoke-session", session: "s1" } as const;
  const history = historyOf([
    ...command({ op: "a", intent, begin: 1, end: 2 }, { outcome: "unknown", link: null }),
    ...command({ op: "a", intent, begin: 3, end: 4 }),
    ...command({ op: "b", intent, begin: 5, end: 6 }, { outcome: "refused", link: null }),
  ]);
  assert.deepEqual(measure(history, options).commands, { "revoke-session": { done: 1, refused: 1, unknown: 0 } });
});

test("what regions accepted by themselves is counted for each region, with the receipts that were complete", () => {
  const intent = { type: "revoke-session", session: "s1" } as const;
  const local = { outcome: "local", link: null } as const;
  const receipt = { type: "local-receipt", op: "a", begin: 1, end: 2, basis: null, nodes: [], problem: "" } as const;
  const history = historyOf([
    ...command({ op: "a", intent, begin: 1, end: 2 }, { ...local, region: "us" }),
    ...command({ op: "a", intent, begin: 3, end: 4 }, { ...local, region: "us" }),
    ...command({ op: "a", intent, begin: 3, end: 4 }, { ...local, region: "ap" }),
    { ...receipt, region: "us", complete: false },
    { ...receipt, region: "us", complete: true },
  ]);
  assert.deepEqual(measure(history, options).local, { accepted: 2, complete: 1 });
});

test("percentiles are taken of the sorted spans, and are 0 if there are no spans", () => {
  const spans = Array.from({ length: 100 }, (_, i) => ({ begin: 0, end: (100 - i) * nsPerMs }));
  assert.deepEqual(percentiles(spans), { count: 100, p50: 50, p90: 90, p99: 99, max: 100 });
  assert.deepEqual(percentiles([]), { count: 0, p50: 0, p90: 0, p99: 0, max: 0 });
});
