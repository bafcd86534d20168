/** When seals are due: spread over the nodes, and never too often. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SealSchedule } from "../../../src/audit/seal/seal-schedule.ts";
import type { BootId } from "../../../src/events/index.ts";

const everyMs = 300_000;
const boots = Array.from({ length: 200 }, (_, n) => `key-${n}` as BootId);
const schedules = () => boots.map((boot) => new SealSchedule({ boot, everyMs, nowMs: 1_000 }));

/** How many of the schedules make a seal in each tenth of the intervals. */
function sealsByTenth(all: readonly SealSchedule[], fromMs: number, intervals: number): number[] {
  const tenths = Array.from({ length: 10 * intervals }, () => 0);
  for (let ms = fromMs; ms < fromMs + intervals * everyMs; ms += 1_000)
    for (const schedule of all)
      if (schedule.isDue(ms, 5)) {
        schedule.made(ms);
        const tenth = Math.floor((ms - fromMs) / (everyMs / 10));
        tenths[tenth] = (tenths[tenth] ?? 0) + 1;
      }
  return tenths;
}

test("nodes that are started at once seal at different times, each once in the interval", () => {
  const tenths = sealsByTenth(schedules(), 1_000, 3);
  assert.ok(Math.max(...tenths) < 45, `${tenths}`);
  assert.ok(Math.min(...tenths) > 5, `${tenths}`);
  const total = tenths.reduce((sum, count) => sum + count, 0);
  assert.ok(total >= 2 * boots.length && total <= 3 * boots.length, `${total}`);
});

test("after an outage that held all of them back, they are spread again", () => {
  const all = schedules();
  for (const schedule of all) {
    assert.ok(schedule.isDue(10 * everyMs, 5));
    schedule.made(10 * everyMs); // the leader is back
  }
  const tenths = sealsByTenth(all, 10 * everyMs, 2);
  assert.ok(Math.max(...tenths) < 45, `${tenths}`);
});

test("many records are sealed early, and two seals are never close", () => {
  const schedule = new SealSchedule({ boot: "key-1" as BootId, everyMs, nowMs: 0 });
  assert.equal(schedule.isDue(9_999, 100_000), false);
  assert.equal(schedule.isDue(10_000, 65_536), true);
  schedule.made(10_000);
  assert.equal(schedule.isDue(19_999, 100_000), false);
  assert.equal(schedule.isDue(9_000_000, 0), false);
  const quick = new SealSchedule({ boot: "key-1" as BootId, everyMs: 1, nowMs: 0 });
  assert.equal(quick.isDue(2, 1), true);
});
