/** Home watch: a home region that answers without a leader is within reach. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HomeWatch } from "../../../src/broker/region/home-watch.ts";
import type { MonotonicMs } from "../../../src/events/index.ts";

const renewMs = 1_000;
const at = (ms: number): MonotonicMs => ms as MonotonicMs;

test("the home region is out of reach after two and a half renews without a sign of it", () => {
  const watch = new HomeWatch(renewMs);
  watch.begin(at(0));
  watch.recordAnswer(at(1_000));
  assert.equal(watch.isOutOfReach(at(3_500)), false);
  assert.equal(watch.isOutOfReach(at(3_501)), true);
  watch.recordAnswer(at(9_000));
  assert.equal(watch.isOutOfReach(at(9_001)), false);
});

test("a home broker without a leader keeps the region within reach, but is no answer for a lease", () => {
  const watch = new HomeWatch(renewMs);
  watch.begin(at(0));
  watch.recordAnswer(at(1_000));
  for (let ms = 2_000; ms <= 8_000; ms += 1_000) watch.recordReached(at(ms));
  assert.equal(watch.answers(at(8_000)), false);
  assert.equal(watch.isOutOfReach(at(8_000)), false);
});

test("a broker that has just started does not know yet, and one that started in a cut-off region learns it", () => {
  const watch = new HomeWatch(renewMs);
  watch.begin(at(100_000));
  assert.equal(watch.isOutOfReach(at(102_500)), false);
  assert.equal(watch.isOutOfReach(at(102_501)), true);
  assert.equal(watch.silentMs(at(102_501)), null);
});
