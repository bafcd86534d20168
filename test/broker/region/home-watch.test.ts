/** Home watch: when the leader answers, when the home region is out of reach, and that each change is reported once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HomeWatch } from "../../../src/broker/region/home-watch.ts";
import type { MonotonicMs } from "../../../src/events/index.ts";

const ms = (at: number): MonotonicMs => at as MonotonicMs;

/** Begins at `startedAt`, with a renew interval of a second. */
function aWatch(startedAt: number): HomeWatch {
  const home = new HomeWatch(1_000);
  home.begin(ms(startedAt));
  return home;
}

test("the state begins once the home region is silent for 2.5 renews, and ends with an answer; each is reported once", () => {
  const home = aWatch(0);
  assert.equal(home.drainChange(ms(0)), null);
  home.recordLeaderAnswer(ms(1_000));
  assert.equal(home.outOfReachAt, 3_501);
  assert.equal(home.drainChange(ms(3_500)), null);
  assert.equal(home.isOutOfReach(ms(3_500)), false);
  assert.deepEqual(home.drainChange(ms(3_501)), { state: "out of reach", silentMs: 2_501 });
  assert.equal(home.isOutOfReach(ms(3_501)), true);
  assert.equal(home.outOfReachAt, Number.POSITIVE_INFINITY);
  assert.equal(home.drainChange(ms(60_000)), null);
  home.recordBrokerAnswer(ms(61_000));
  assert.deepEqual(home.drainChange(ms(61_000)), { state: "in reach", silentMs: 60_000 });
  assert.equal(home.drainChange(ms(61_001)), null);
});

test("a home broker without a leader keeps the region within reach, but is no answer of the leader", () => {
  const home = aWatch(0);
  home.recordLeaderAnswer(ms(1_000));
  assert.equal(home.leaderAnswers(ms(3_500)), true);
  for (let at = 2_000; at <= 8_000; at += 1_000) home.recordBrokerAnswer(ms(at));
  assert.equal(home.leaderAnswers(ms(3_501)), false);
  assert.equal(home.leaderSilentMs(ms(8_000)), 7_000);
  assert.equal(home.isOutOfReach(ms(8_000)), false);
  assert.equal(home.drainChange(ms(8_000)), null);
});

test("a broker that starts while the home region is away does not know at first, and reports it after the same silence", () => {
  const home = aWatch(10_000);
  assert.equal(home.leaderAnswers(ms(10_000)), false);
  assert.equal(home.isOutOfReach(ms(12_500)), false);
  assert.equal(home.drainChange(ms(12_500)), null);
  assert.equal(home.leaderSilentMs(ms(12_500)), null, "it has never answered");
  assert.equal(home.isOutOfReach(ms(12_501)), true);
  assert.deepEqual(home.drainChange(ms(12_501)), { state: "out of reach", silentMs: 2_501 });
});
