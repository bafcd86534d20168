/** Continuity: what proves that a new epoch has lost no rows, and how long a lost lease may last if nothing does. */
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
const reasonFor = (
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

test("nothing is lost in the same run of the same server, whichever broker opens the next epoch", () => {
  assert.equal(reasonFor(), null);
  assert.equal(reasonFor({ mark: null }), null);
});

test("the first epoch of a log has no epoch before it to lose", () => {
  assert.equal(reasonFor({ previous: null }, { expected: 0, atLeast: 1 }), null);
});

const doubts: readonly (readonly [string, Partial<StoreEvidence>, RegExp])[] = [
  ["an older build opened the previous epoch", { previous: record({ run: null }) }, /does not record/],
  ["the previous epoch is missing", { previous: null }, /does not record/],
  ["the previous epoch was opened on another server", { run: { ...run, server: "8" } }, /another Postgres server/],
  ["the previous epoch was opened on another timeline", { run: { ...run, timeline: "00000002" } }, /timeline 00000002/],
  ["the log was copied from another database", { previous: record({ written: "elsewhere" }) }, /copied/],
  ["the server crashed, or its files are a copy", { run: { ...run, start: "200" }, mark: null }, /cleanly/],
  ["the mark names another epoch", { run: { ...run, start: "200" }, mark: "bbbb" as Incarnation }, /cleanly/],
];
for (const [doubt, evidence, reason] of doubts)
  test(`beats may be lost when ${doubt}`, () => {
    assert.match(reasonFor(evidence, { led: before }) ?? "", reason);
  });

test("a clean restart of the server is proof only for the broker that led the previous epoch", () => {
  const restarted = { run: { ...run, start: "200" } };
  assert.equal(reasonFor(restarted, { led: before }), null);
  assert.match(reasonFor(restarted) ?? "", /did not lead/);
  assert.match(reasonFor(restarted, { led: "bbbb" as Incarnation }) ?? "", /did not lead/);
});

test("an epoch that the broker has heard of but the store lacks is lost, together with its leases", () => {
  assert.match(reasonFor({}, { atLeast: 6 }) ?? "", /epoch 5, and the store ends with epoch 3/);
  assert.match(reasonFor({ previous: null }, { expected: 0, atLeast: 3 }) ?? "", /named epoch 2/);
});

const windowMs = (parts: Partial<Parameters<typeof lostWindowMs>[0]>) =>
  lostWindowMs({ requestedMs: 65_000, recordedMs: 65_000, previous: "recorded", lessees: [], ...parts });

test("a lost lease may last as long as the longest limit recorded or in force, and the longest surviving row", () => {
  assert.equal(windowMs({}), 65_000);
  assert.equal(windowMs({ recordedMs: 90_000 }), 90_000);
  assert.equal(windowMs({ requestedMs: 120_000 }), 120_000);
  assert.equal(windowMs({ lessees: [{ windowMs: 5_000 }, { windowMs: 300_000 }] }), 300_000);
});

test("if the previous epoch recorded no limit, a lost lease may last as long as any build grants", () => {
  assert.equal(windowMs({ previous: "unrecorded", recordedMs: 0 }), 960_000);
});

test("if no other process could reach the broker, no lease outside its process is lost", () => {
  const alone = { requestedMs: 0, recordedMs: 0, lessees: [{ windowMs: 65_000 }] };
  assert.equal(windowMs({ ...alone, previous: "unrecorded" }), 0);
  assert.equal(windowMs(alone), 0);
});

test("the row for lost lessees is recognized by its boot id, one per epoch", () => {
  assert.ok(isLostHistory(lostHistory(4 as Epoch, 5_000)));
  assert.notEqual(lostHistory(4 as Epoch, 1).boot, lostHistory(5 as Epoch, 1).boot);
  assert.ok(!isLostHistory({ boot: "5d1c1f0e-7a54-4f0b-9f2d-1a8d6f7b2c01" }));
});
