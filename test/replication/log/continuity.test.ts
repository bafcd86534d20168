import assert from "node:assert/strict";
import { test } from "node:test";
import type { Epoch, Incarnation } from "../../../src/events/index.ts";
import {
  type EpochRecord,
  isLostHistory,
  lostHistory,
  lostWindowMs,
  type StoreEvidence,
  type StoreRun,
  whyBeatsMayBeLost,
} from "../../../src/replication/log/continuity.ts";

const run: StoreRun = { server: "7713", timeline: "00000001", start: "100" };
const before = "aaaa" as Incarnation;
const record = (parts: Partial<EpochRecord> = {}): EpochRecord => ({
  ...{ incarnation: before, run, written: "here" },
  ...parts,
});
const why = (
  evidence: Partial<StoreEvidence> = {},
  request: Readonly<{ expected?: number; atLeast?: number; led?: Incarnation | null }> = {},
) =>
  whyBeatsMayBeLost(
    {
      expected: (request.expected ?? 3) as Epoch,
      atLeast: (request.atLeast ?? 4) as Epoch,
      led: request.led ?? null,
    },
    { run, previous: record(), mark: before, ...evidence },
  );

test("the same run of the same server has lost nothing, whoever opens the next epoch", () => {
  assert.equal(why(), null);
  assert.equal(why({ mark: null }), null);
});

test("the first epoch of a log has none before it", () => {
  assert.equal(why({ previous: null }, { expected: 0, atLeast: 1 }), null);
});

const doubts: readonly (readonly [string, Partial<StoreEvidence>, RegExp])[] = [
  ["an older build opened the epoch before", { previous: record({ run: null }) }, /does not record/],
  ["the epoch before is not there", { previous: null }, /does not record/],
  ["it was opened on another server", { run: { ...run, server: "8" } }, /another Postgres server/],
  ["it was opened on another timeline", { run: { ...run, timeline: "00000002" } }, /timeline 00000002/],
  ["the log was copied from another database", { previous: record({ written: "elsewhere" }) }, /copied/],
  ["the server crashed, or its files are a copy", { run: { ...run, start: "200" }, mark: null }, /cleanly/],
  ["the mark is that of another epoch", { run: { ...run, start: "200" }, mark: "bbbb" as Incarnation }, /cleanly/],
];
for (const [doubt, evidence, reason] of doubts)
  test(`beats may be lost when ${doubt}`, () => {
    assert.match(why(evidence, { led: before }) ?? "", reason);
  });

test("a clean restart of the server proves something only to the broker that led the epoch before", () => {
  const restarted = { run: { ...run, start: "200" } };
  assert.equal(why(restarted, { led: before }), null);
  assert.match(why(restarted) ?? "", /did not lead/);
  assert.match(why(restarted, { led: "bbbb" as Incarnation }) ?? "", /did not lead/);
});

test("an epoch that was heard of and is not in the store is lost, and leases with it", () => {
  assert.match(why({}, { atLeast: 6 }) ?? "", /epoch 5 was heard of, and the store ends with epoch 3/);
  assert.match(why({ previous: null }, { expected: 0, atLeast: 3 }) ?? "", /epoch 2 was heard of/);
});

const windowMs = (parts: Partial<Parameters<typeof lostWindowMs>[0]>) =>
  lostWindowMs({ requestedMs: 65_000, recordedMs: 65_000, previous: "recorded", lessees: [], ...parts });

test("a lost lease is as long as the longest limit, recorded or in force, and as the longest that survives", () => {
  assert.equal(windowMs({}), 65_000);
  assert.equal(windowMs({ recordedMs: 90_000 }), 90_000);
  assert.equal(windowMs({ requestedMs: 120_000 }), 120_000);
  assert.equal(windowMs({ lessees: [{ windowMs: 5_000 }, { windowMs: 300_000 }] }), 300_000);
});

test("where the epoch before recorded no limit, a lost lease is as long as any build grants", () => {
  assert.equal(windowMs({ previous: "unrecorded", recordedMs: 0 }), 960_000);
});

test("where no other process could reach a broker, no lease outside it is lost", () => {
  const alone = { requestedMs: 0, recordedMs: 0, lessees: [{ windowMs: 65_000 }] };
  assert.equal(windowMs({ ...alone, previous: "unrecorded" }), 0);
  assert.equal(windowMs(alone), 0);
});

test("the row that stands for lost lessees is told by its boot", () => {
  assert.ok(isLostHistory(lostHistory(4 as Epoch, 5_000)));
  assert.notEqual(lostHistory(4 as Epoch, 1).boot, lostHistory(5 as Epoch, 1).boot);
  assert.ok(!isLostHistory({ boot: "5d1c1f0e-7a54-4f0b-9f2d-1a8d6f7b2c01" }));
});
