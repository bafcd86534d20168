/** The recent events that a broker's state keeps for readers: the newest ones, without a gap. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BrokerState } from "../../../src/broker/state/broker-state.ts";
import type { Link } from "../../../src/events/index.ts";
import type { LogPage } from "../../../src/replication/log/index.ts";
import { created, History } from "../../replication/support.ts";

test("a reader within the kept events gets its page from memory; one further behind reads the log", () => {
  const log = new History().open(1);
  for (let n = 1; n <= 100; n += 1) log.add(created(n));
  const pageOf = (after: Link, limit: number): LogPage => {
    const outcome = log.read(after, limit);
    assert.ok(outcome.type === "page");
    return outcome.page;
  };
  const [small, large] = [new BrokerState({ recentEventsMax: 16 }), new BrokerState()];
  const places: Link[] = [];
  while (small.applied.position < log.head.position) {
    for (const ledger of [small, large]) ledger.foldPage(pageOf(ledger.applied, 1));
    places.push(small.applied);
  }
  for (const after of places) {
    const page = pageOf(after, 1_000);
    const behind = log.head.position - after.position;
    assert.deepEqual(large.recent(after, 1_000), page);
    // A few more events may be kept: memory is not copied for each event.
    if (behind <= 16) assert.deepEqual(small.recent(after, 1_000), page, `${behind} behind`);
    else if (behind > 18) assert.equal(small.recent(after, 1_000), undefined, `${behind} behind`);
  }
});

test("the kept events keep no buffer of the driver that read them", () => {
  const log = new History().open(1);
  for (let n = 1; n <= 50; n += 1) log.add(created(n));
  const state = new BrokerState();
  const start = state.applied;
  const ofDriver = new Set<ArrayBufferLike>();
  const readByDriver = (event: Uint8Array): Uint8Array => {
    const pooled = Buffer.allocUnsafeSlow(65_536);
    pooled.set(event, 100);
    ofDriver.add(pooled.buffer);
    return pooled.subarray(100, 100 + event.length);
  };
  while (state.applied.position < log.head.position) {
    const outcome = log.read(state.applied, 1);
    assert.ok(outcome.type === "page");
    state.foldPage({ ...outcome.page, entries: outcome.page.entries.map(readByDriver) });
  }
  const kept = state.recent(start, 100)?.entries ?? [];
  assert.equal(kept.length, 51);
  const buffers = new Set(kept.map(({ buffer }) => buffer));
  assert.ok(buffers.size <= 2 && [...buffers].every((buffer) => !ofDriver.has(buffer)), `${buffers.size} buffers`);
});
