import assert from "node:assert/strict";
import { test } from "node:test";
import { type Epoch, genesis, type Position } from "../../../src/events/index.ts";
import { emptyHistory, extendHistory, locateLink } from "../../../src/replication/index.ts";
import { anyEvent, History, history } from "../support.ts";

const log = history(30);
const trail = extendHistory(extendHistory(emptyHistory, log.recorded(0, 11)), log.recorded(11, 20));

test("a link of the chain is held, wherever the runs were cut", () => {
  for (let position = 0; position <= 20; position++) assert.equal(locateLink(trail, log.linkAt(position)), "onChain");
});

test("a link beyond the chain is ahead, unless its epoch was already over", () => {
  assert.equal(locateLink(trail, log.linkAt(21)), "ahead");
  const grown = extendHistory(trail, log.fork(20).open(2).recorded(20, 21));
  assert.equal(locateLink(grown, log.linkAt(25)), "otherChain");
});

test("another event at a place of ours is foreign", () => {
  const other = history(30, 1, 3);
  for (let position = 2; position <= 20; position++)
    assert.equal(locateLink(trail, other.linkAt(position)), "otherChain");
  assert.equal(locateLink(trail, { ...log.linkAt(5), epoch: 2 as Epoch }), "otherChain");
  assert.equal(locateLink(trail, { ...genesis, hash: log.linkAt(1).hash }), "otherChain");
});

test("beyond its memory a link is forgotten, and still foreign when its epoch is not the one of its place", () => {
  const long = new History().open(1);
  while (long.entries.length < 20_000) long.add(anyEvent(long.entries.length));
  long.open(2);
  while (long.entries.length < 60_000) long.add(anyEvent(long.entries.length));
  let far = emptyHistory;
  for (let after = 0; after < 60_000; after += 500) far = extendHistory(far, long.recorded(after, after + 500));
  assert.equal(locateLink(far, long.linkAt(100)), "unknown");
  assert.equal(locateLink(far, long.linkAt(59_000)), "onChain");
  assert.equal(locateLink(far, long.linkAt(60_000 - 16_000)), "onChain", "a generation is always remembered");
  const lost = { ...long.linkAt(20_500), epoch: 1 as Epoch, position: 20_500 as Position };
  assert.equal(locateLink(far, lost), "otherChain");
  let hashes = 0;
  for (let run = far.young; run !== null; run = run.before) hashes += run.hashes.length;
  for (let run = far.old; run !== null; run = run.before) hashes += run.hashes.length;
  assert.ok(hashes <= 2 * 16_384);
});
