/** Downsampling: bounded whatever the length, and bad news is never averaged away. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bandsOf,
  bucketsMax,
  bucketsOf,
  percentilesOf,
  trafficBuckets,
  worstBuckets,
  worstFew,
} from "../../../src/cli/drill/report/downsample.ts";
import type { RunFault } from "../../../src/cli/drill/run-record.ts";

const quiet = { permitted: 10, refused: 0, unavailable: 0, failed: 0 };

test("a short run has a bucket for each second, and a day has no more than the maximum", () => {
  assert.deepEqual(bucketsOf(12_300), { count: 13, lengthMs: 1_000 });
  assert.deepEqual(bucketsOf(0), { count: 1, lengthMs: 1_000 });
  for (const seconds of [239, 240, 241, 3_600, 86_400]) assert.ok(bucketsOf(seconds * 1_000).count <= bucketsMax);
});

test("the only error of an hour is in its bucket with its full height", () => {
  const buckets = bucketsOf(3_600_000);
  const seconds = Array.from({ length: 3_600 }, (_, i) => ({ ...quiet, atMs: i * 1_000, failed: i === 1_234 ? 1 : 0 }));
  const found = trafficBuckets(seconds, buckets);
  const at = Math.floor(1_234_000 / buckets.lengthMs);
  assert.equal(found[at]?.errorsMax, 1);
  assert.equal(found.filter((one) => (one?.errorsMax ?? 0) > 0).length, 1);
  assert.equal(found[0]?.permitted, 10);
});

test("errors of two kinds of clients in one second count together", () => {
  const seconds = [
    { ...quiet, atMs: 1_000, failed: 2 },
    { ...quiet, atMs: 1_000, unavailable: 3 },
  ];
  assert.equal(trafficBuckets(seconds, bucketsOf(5_000))[1]?.errorsMax, 5);
});

test("a bucket without a sample is a gap, and one with several has the worst", () => {
  const sample = { position: null, lag: null };
  const samples = [
    { ...sample, atMs: 0, stalenessMs: 10 },
    { ...sample, atMs: 400, stalenessMs: 900 },
    { ...sample, atMs: 2_000, stalenessMs: null },
    { ...sample, atMs: 99_000, stalenessMs: 5 },
  ];
  assert.deepEqual(
    worstBuckets(samples, bucketsOf(3_000), (one) => one.stalenessMs),
    [900, null, null],
  );
});

test("of too many entries the worst of each bucket remain", () => {
  const all = Array.from({ length: 10_000 }, (_, i) => ({ atMs: i, ms: i === 4_321 ? 9_999 : i % 100 }));
  const few = worstFew(all, { buckets: bucketsOf(10_000), max: 100, badness: ({ ms }) => ms });
  assert.ok(few.length <= 100);
  assert.ok(few.some(({ ms }) => ms === 9_999));
  assert.equal(worstFew(all.slice(0, 100), { buckets: bucketsOf(10_000), max: 100, badness: () => 0 }).length, 100);
});

const fault = (fromMs: number, untilMs: number, clearMs: number | null = untilMs): RunFault => ({
  name: "kill",
  target: "",
  region: null,
  fromMs,
  untilMs,
  clearMs,
  text: "",
  problem: null,
});

test("overlapping faults are one band, one that failed is none, and there are never many bands", () => {
  const faults = [
    fault(50_000, 51_000),
    fault(10_000, 12_000, 14_000),
    fault(13_000, 15_000),
    { ...fault(80_000, 81_000), problem: "it was gone" },
  ];
  assert.deepEqual(
    bandsOf(faults, 100_000).map(({ fromMs, untilMs, faults: all }) => [fromMs, untilMs, all.length]),
    [
      [10_000, 15_000, 2],
      [50_000, 51_000, 1],
    ],
  );
  const many = Array.from({ length: 5_000 }, (_, i) => fault(i * 17_000, i * 17_000 + 100));
  assert.ok(bandsOf(many, 86_400_000).length <= 240);
});

test("percentiles leave out what was not measured, and nothing has none", () => {
  assert.deepEqual(percentilesOf([null, 3, 1, 2, null]), { count: 3, p50: 2, p90: 3, p99: 3, max: 3 });
  assert.equal(percentilesOf([null]), undefined);
});
