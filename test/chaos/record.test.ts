/** The record of a run: what its page shows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { topologies } from "../../chaos/cluster/topology.ts";
import { checkHistory } from "../../chaos/judge/checker.ts";
import { type Entry, historyOf, nsPerMs } from "../../chaos/judge/history.ts";
import { recordOf } from "../../chaos/report/record.ts";
import type { RunRecord } from "../../chaos/run-record.ts";
import { parseUnixMs } from "../../src/events/index.ts";
import { ending, faultOf, options, request, revocation, session } from "./support.ts";

function record(...entries: readonly Entry[]): RunRecord {
  const history = historyOf(entries);
  return recordOf({
    name: "7",
    purpose: "random faults",
    command: "npm run chaos",
    seed: 7,
    version: "1.2.3",
    topology: topologies["three-regions"],
    processes: [{ name: "proxy-us-1", kind: "proxy", region: "us" }],
    history,
    violations: checkHistory(history, ending(), options).violations,
    startedAt: 0,
    startedAtMs: parseUnixMs(1_700_000_000_000),
    endedAt: 10_000 * nsPerMs,
    facts: [],
    summary: "chaos 7",
  });
}

test("requests are counted by region and second, by what their answers mean", () => {
  const us = { node: "proxy-us-1" };
  const { traffic } = record(
    session(),
    request({ begin: 1_000, end: 1_100, arrived: 1_010, sent: 1_020 }, { ...us, id: "a" }),
    request({ begin: 1_000, end: 1_200 }, { ...us, id: "b", status: 503 }),
    request({ begin: 1_000, end: 2_200 }, { ...us, id: "c", status: 401, session: "s2" }),
    request({ begin: 1_000, end: 2_300 }, { ...us, id: "d", outcome: "unknown", status: 0 }),
  );
  assert.deepEqual(
    traffic.map(({ region }) => region),
    ["eu", "us", "ap"],
  );
  assert.deepEqual(traffic.find(({ region }) => region === "us")?.seconds, [
    { atMs: 1_000, permitted: 1, refused: 0, unavailable: 1, failed: 0 },
    { atMs: 2_000, permitted: 0, refused: 1, unavailable: 0, failed: 1 },
  ]);
});

test("faults, revocations and receipts are there with their times", () => {
  const { faults, revocations, receipts, durationMs } = record(
    session(),
    ...revocation(500),
    faultOf(1_000, 3_000, { what: "cut-region", target: "us", regions: ["us"], clear: 4_000 * nsPerMs }),
  );
  assert.equal(durationMs, 10_000);
  assert.deepEqual(
    faults.map(({ name, region, fromMs, untilMs, clearMs, problem }) => [
      name,
      region,
      fromMs,
      untilMs,
      clearMs,
      problem,
    ]),
    [["cut-region", "us", 1_000, 3_000, 4_000, null]],
  );
  assert.deepEqual(revocations, [
    { atMs: 100, what: "revoke-session", region: "eu", acknowledgedMs: 20, enforcedMs: null, completeMs: 400 },
  ]);
  assert.deepEqual(
    receipts.map(({ what, status }) => [what, status]),
    [["revoke-session", "complete"]],
  );
});

test("faults and receipts are listed in the order in which they began, whichever ended first", () => {
  const { faults, receipts } = record(
    session(),
    receiptAt(2_000, 9_000),
    receiptAt(3_000, 4_000),
    faultOf(5_000, 6_000),
    faultOf(1_000, 8_000),
  );
  assert.deepEqual(
    faults.map(({ fromMs }) => fromMs),
    [1_000, 5_000],
  );
  assert.deepEqual(
    receipts.map(({ atMs }) => atMs),
    [2_000, 3_000],
  );
});

test("of too many receipts every n-th is there until the end of the run, and the record says so", () => {
  const few = record(...Array.from({ length: 2_500 }, (_, i) => receiptAt(4 * i, 4 * i + 1)));
  assert.equal(few.receipts.length, 2_500);
  assert.deepEqual(few.facts, []);
  const many = record(...Array.from({ length: 24_000 }, (_, i) => receiptAt(i / 3, i / 3 + 1)));
  assert.equal(many.receipts.length, 8_000);
  assert.ok((many.receipts.at(-1)?.atMs ?? 0) > 7_900);
  assert.deepEqual(many.facts, [{ name: "Receipts", value: "1 in 3 of 24000 is in this record" }]);
});

function receiptAt(beginMs: number, endMs: number): Entry {
  return {
    type: "receipt",
    op: "revoke-1",
    region: "eu",
    begin: beginMs * nsPerMs,
    end: endMs * nsPerMs,
    complete: true,
    status: "complete",
    durability: null,
    nodes: [],
    problem: "",
  };
}

test("positions, lag and the age of leases are there for each node that answered", () => {
  const sample = (ms: number, node: string, position: number | null): Entry => {
    return { type: "sample", at: ms * nsPerMs, node, position, leaseAgeMs: 300 };
  };
  const { nodes, head } = record(
    sample(1_000, "broker-eu-1", 40),
    sample(1_100, "proxy-us-1", 30),
    sample(2_000, "proxy-us-1", null),
  );
  assert.deepEqual(head, [{ atMs: 1_000, position: 40 }]);
  assert.deepEqual(nodes, [
    {
      node: "proxy-us-1",
      region: "us",
      role: "proxy",
      samples: [{ atMs: 1_100, position: 30, lag: 10, stalenessMs: 300 }],
    },
  ]);
});

test("each check of the judge is a verdict, and so is each promise of a scenario", () => {
  const promise = { type: "promise", scenario: "s", promise: "us serves", begin: 1, end: 2, boundMs: 8_000 } as const;
  const { verdicts, evidence } = record(
    session(),
    ...revocation(200),
    request({ begin: 300, end: 303, arrived: 301, sent: 302 }),
    { ...promise, kept: true, tookMs: 900, seen: "" },
    { ...promise, promise: "us refuses", kept: false, tookMs: null, seen: "200" },
  );
  const broken = verdicts.filter(({ result }) => result === "broken").map((each) => each.promise);
  assert.deepEqual(broken, ["s: us refuses", "Never: a request that began after a complete receipt was permitted"]);
  assert.deepEqual(verdicts[0], {
    promise: "s: us serves",
    result: "held",
    bound: { value: 8_000, unit: "ms" },
    measured: { value: 900, unit: "ms" },
    text: "",
  });
  assert.equal(evidence.length, 2);
});
