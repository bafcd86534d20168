/** Chain history: whether a link is on the chain that a projection has folded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Epoch, genesis, type Incarnation, type Position, tagOf } from "../../../src/events/index.ts";
import { emptyHistory, extendHistory, historyFrom, locateLink, mayHold } from "../../../src/replication/lease/index.ts";
import { anyEvent, History, history } from "../support.ts";

const log = history(30);
const chain = extendHistory(extendHistory(emptyHistory, log.recorded(0, 11)), log.recorded(11, 20));

test("a link of the chain is found on it, wherever the batches were cut", () => {
  for (let position = 0; position <= 20; position++) assert.equal(locateLink(chain, log.linkAt(position)), "onChain");
});

test("a link beyond the chain is ahead of it, unless a later epoch has begun on the chain", () => {
  assert.equal(locateLink(chain, log.linkAt(21)), "ahead");
  const grown = extendHistory(chain, log.fork(20).open(2).recorded(20, 21));
  assert.equal(locateLink(grown, log.linkAt(25)), "otherChain");
});

test("another event at a position of the chain is on another chain", () => {
  const other = history(30, 1, 3);
  for (let position = 2; position <= 20; position++)
    assert.equal(locateLink(chain, other.linkAt(position)), "otherChain");
  assert.equal(locateLink(chain, { ...log.linkAt(5), epoch: 2 as Epoch }), "otherChain");
  assert.equal(locateLink(chain, { ...genesis, hash: log.linkAt(1).hash }), "otherChain");
});

test("a chain may hold a link of its own, and none of a lost suffix, whatever was written there since", () => {
  const before = history(30);
  const after = before.fork(20).open(2).add(anyEvent(100)).add(anyEvent(101)).add(anyEvent(102));
  const since = extendHistory(emptyHistory, after.recorded(0, after.entries.length));
  for (const position of [0, 1, 20]) assert.equal(mayHold(since, before.linkAt(position)), true);
  for (const position of [21, 23, 30]) assert.equal(mayHold(since, before.linkAt(position)), false, `${position}`);
  assert.equal(mayHold(since, after.head), true);
  assert.equal(mayHold(since, { ...after.head, position: 40 as Position }), false, "ahead");
  const loaded = historyFrom(after.head, since.epochs);
  assert.equal(mayHold(loaded, before.linkAt(20)), true, "without hashes, the epoch counts");
  assert.equal(mayHold(loaded, before.linkAt(22)), false);
  const tags = ["incarnation-1", "incarnation-9"].map((text) => tagOf(text as Incarnation));
  const held = tags.map((incarnation) =>
    mayHold(loaded, { ...before.linkAt(20), ...(incarnation && { incarnation }) }),
  );
  assert.deepEqual(held, [true, false], "an epoch of this number that was opened again");
  const forgotten = historyFrom(after.head, since.epochs.slice(1));
  assert.equal(mayHold(forgotten, before.linkAt(20)), false, "of an epoch that is no longer known");
});

test("a link older than the history's memory is unknown, or on another chain if its epoch does not fit", () => {
  const long = new History().open(1);
  while (long.entries.length < 20_000) long.add(anyEvent(long.entries.length));
  long.open(2);
  while (long.entries.length < 60_000) long.add(anyEvent(long.entries.length));
  let chainOfTwoEpochs = emptyHistory;
  for (let after = 0; after < 60_000; after += 500)
    chainOfTwoEpochs = extendHistory(chainOfTwoEpochs, long.recorded(after, after + 500));
  assert.equal(locateLink(chainOfTwoEpochs, long.linkAt(100)), "unknown");
  assert.equal(locateLink(chainOfTwoEpochs, long.linkAt(59_000)), "onChain");
  assert.equal(
    locateLink(chainOfTwoEpochs, long.linkAt(60_000 - 16_000)),
    "onChain",
    "at least one generation is remembered",
  );
  const lost = { ...long.linkAt(20_500), epoch: 1 as Epoch, position: 20_500 as Position };
  assert.equal(locateLink(chainOfTwoEpochs, lost), "otherChain");
  const needed = { ...long.linkAt(100), incarnation: tagOf("incarnation-1" as Incarnation) };
  assert.equal(locateLink(chainOfTwoEpochs, needed), "unknown");
  const another = { ...needed, incarnation: tagOf("incarnation-2" as Incarnation) };
  assert.equal(locateLink(chainOfTwoEpochs, another), "otherChain", "the same epoch, opened again");
  let hashes = 0;
  for (let run = chainOfTwoEpochs.young; run !== null; run = run.before) hashes += run.hashes.length;
  for (let run = chainOfTwoEpochs.old; run !== null; run = run.before) hashes += run.hashes.length;
  assert.ok(hashes <= 2 * 16_384);
});
