/** Home watch: when the home region counts as out of reach, and that each change of the state is reported once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HomeWatch } from "../../../src/broker/region/home-watch.ts";
import type { MonotonicMs } from "../../../src/events/index.ts";

const ms = (at: number): MonotonicMs => at as MonotonicMs;

test("the state begins once the home region is silent for 2.5 renews, and ends with an answer; each is reported once", () => {
  const home = new HomeWatch(1_000);
  assert.equal(home.drainChange(ms(0)), null);
  home.recordAnswer(ms(1_000));
  assert.equal(home.outOfReachAt, 3_501);
  assert.equal(home.drainChange(ms(3_500)), null);
  assert.deepEqual(home.drainChange(ms(3_501)), { state: "out of reach", silentMs: 2_501 });
  assert.equal(home.outOfReachAt, Number.POSITIVE_INFINITY);
  assert.equal(home.drainChange(ms(60_000)), null);
  home.recordAnswer(ms(61_000));
  assert.deepEqual(home.drainChange(ms(61_000)), { state: "in reach", silentMs: 60_000 });
  assert.equal(home.drainChange(ms(61_001)), null);
});

test("a broker that starts while the home region is away reports that too, after the same silence", () => {
  const home = new HomeWatch(1_000);
  assert.equal(home.drainChange(ms(10_000)), null);
  assert.equal(home.silentMs(ms(12_000)), null, "it has never answered");
  assert.deepEqual(home.drainChange(ms(12_501)), { state: "out of reach", silentMs: 2_501 });
});
