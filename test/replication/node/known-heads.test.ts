/** Known heads: since when a node knows of events that it has not applied, in few marks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KnownHeads } from "../../../src/replication/node/known-heads.ts";
import { created, history } from "../support.ts";
import { DrivenNode } from "./driven-node.ts";

test("the time is that of the first event that is known and not applied", () => {
  const heads = new KnownHeads();
  assert.equal(heads.since(0), null);
  heads.note(5, { applied: 0, now: 1_000 });
  heads.note(5, { applied: 0, now: 9_000 });
  heads.note(9, { applied: 2, now: 4_000 });
  assert.equal(heads.since(4), 1_000);
  assert.equal(heads.since(5), 4_000, "five events have been applied meanwhile");
  assert.equal(heads.since(9), null);
  heads.reset();
  assert.deepEqual([heads.since(0), heads.head], [null, 0]);
});

test("many heads in a row are few marks, never make the delay look shorter, and are forgotten once applied", () => {
  const heads = new KnownHeads();
  for (let position = 1; position <= 100_000; position++) heads.note(position, { applied: 0, now: position * 10 });
  assert.equal(heads.since(0), 10);
  for (const applied of [1_000, 50_000, 99_000]) {
    const since = heads.since(applied) ?? Number.POSITIVE_INFINITY;
    assert.ok(since <= (applied + 1) * 10, `${applied}: ${since}`);
    assert.ok(since > (applied + 1) * 10 - 100_000, `${applied}: ${since}`);
  }
  heads.note(100_001, { applied: 100_000, now: 2_000_000 });
  assert.equal(heads.since(100_000), 2_000_000);
});

test("a node whose read is not answered says how far it is behind and since when, until it has caught up", () => {
  const log = history(30);
  const node = new DrivenNode().start().noSnapshot().read(log).grant(log);
  const behind = () => node.core.behind(node.moment.monotonic);
  assert.equal(behind(), null);
  for (let n = 0; n < 8; n++) log.add(created(100 + n, 1));
  node.renew().grant(log);
  const known = node.now;
  node.pass(3_000);
  assert.equal(behind()?.events, log.head.position - 30);
  assert.ok((behind()?.ms ?? 0) >= node.now - known);
  node.read(log);
  assert.equal(behind(), null);
});
