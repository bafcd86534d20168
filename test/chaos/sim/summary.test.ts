/** The summary of many seeds, in one line. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Observation, observations } from "../../../chaos/sim/monitors/index.ts";
import { reportOfCrash, type SeedReport } from "../../../chaos/sim/seed-report.ts";
import { type Situation, situations } from "../../../chaos/sim/sometimes.ts";
import { Summary } from "../../../chaos/sim/summary.ts";

const enough = (Object.keys(observations) as Observation[]).map((look) => [look, observations[look].in100] as const);
const all = Object.keys(situations) as Situation[];

function report(seed: number, more: Partial<SeedReport> = {}): SeedReport {
  return {
    ...{ seed, hash: "00", simulatedMs: 120_000, steps: 1, faults: 5, commands: 200, requests: 1_000 },
    ...{ receipts: 1, complete: 1, rightful: 100, permitted: 99, head: 1, lostAcknowledged: 0 },
    ...{ situations: all, observations: enough, violations: [], counts: [] },
    ...more,
  };
}

test("seeds without a violation succeed, and the line counts the work done", () => {
  const summary = new Summary();
  for (let seed = 1; seed <= 30; seed += 1) summary.add(report(seed));
  assert.ok(summary.isGood);
  assert.equal(
    summary.line(10),
    "simulate: 30 seeds, 1.0 simulated hours at 0.100 h/s, 150 faults, 6000 commands, 30000 requests (99.0 % of rightful ones permitted in quiet times), 0 violations",
  );
});

test("a violation is counted by seed and by invariant, and fails the run", () => {
  const summary = new Summary();
  summary.add(report(1));
  summary.add(report(9, { counts: [["17", 3]] }));
  summary.add(
    report(4, {
      counts: [
        ["17", 1],
        ["37", 2],
      ],
    }),
  );
  assert.equal(summary.isGood, false);
  assert.match(summary.line(1), /, 6 violations in 2 seeds$/);
  assert.deepEqual(summary.details(), [
    "  invariant 17: broken in 2 seeds, first in seed 4",
    "  invariant 37: broken in 1 seeds, first in seed 4",
  ]);
});

test("a situation that so many seeds must reach, and none did, fails the run", () => {
  const summary = new Summary();
  for (let seed = 1; seed <= 100; seed += 1)
    summary.add(report(seed, { situations: all.filter((one) => one !== "node-ahead") }));
  assert.equal(summary.isGood, false);
  assert.match(summary.details().join("\n"), /never reached: node-ahead/);
});

test("a core that throws counts as a violation", () => {
  const summary = new Summary();
  summary.add(reportOfCrash(5, new Error("impossible")));
  assert.match(summary.line(1), /1 violations in 1 seeds/);
  assert.match(summary.failed[0]?.violations[0]?.story ?? "", /impossible/);
});

test("a seed that does not repeat fails the run", () => {
  const summary = new Summary();
  summary.add(report(1));
  summary.different.push(1);
  assert.equal(summary.isGood, false);
  assert.match(summary.line(1), /1 seeds that did not repeat$/);
});

test("a run in which monitors observed too little fails", () => {
  const [few, many] = [new Summary(), new Summary()];
  const blind = enough.map(([look, count]) => [look, look === "request-after-pause" ? 0 : count] as const);
  for (let seed = 1; seed < 100; seed += 1) few.add(report(seed, { observations: blind }));
  assert.ok(few.isGood, "too few seeds for a minimum");
  for (let seed = 1; seed <= 100; seed += 1) many.add(report(seed, { observations: blind }));
  assert.ok(!many.isGood);
  assert.match(many.line(1), /1 things that monitors saw too little of/);
  assert.match(
    many.details().join("\n"),
    /requests at a node right after a pause \(0, of invariant 19: request-after-pause\)/,
  );
});
