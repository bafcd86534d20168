/** Chain history: whether a link is on the chain that a projection has folded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Epoch, genesis, type Incarnation, type Position, tagOf } from "../../../src/events/index.ts";
import { emptyHistory, extendHistory, locateLink } from "../../../src/replication/lease/index.ts";
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
