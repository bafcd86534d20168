/** Link waiters: whether this copy has reached the link that a credential needs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Link, type NeededLink, neededLink } from "../../../src/events/index.ts";
import { emptyHistory, extendHistory, historyFrom, incarnationOf } from "../../../src/replication/lease/index.ts";
import { LinkWaiters } from "../../../src/replication/node/link-waiters.ts";
import { anyEvent, History } from "../support.ts";

const shared = new History().open(1).add(anyEvent(1));
const lost = shared.fork(2).open(2, "incarnation-lost").add(anyEvent(2)).add(anyEvent(3));
/** The same epoch again, opened after a backup was restored. */
const log = shared.fork(2).open(2, "incarnation-kept").add(anyEvent(4)).add(anyEvent(5)).add(anyEvent(6));
const whole = extendHistory(emptyHistory, log.recorded(0, log.entries.length));
/** A copy that loaded a snapshot of the log: it knows no hash below. */
const loaded = historyFrom(log.head, whole.epochs);

/** The link at a position as a credential names it. */
const needed = (history: History, position: number): NeededLink =>
  neededLink({ link: history.linkAt(position), incarnation: history.fork(position).incarnation });

const answerTo = (link: NeededLink, history = loaded) =>
  new LinkWaiters().wait({ id: 1, link, timeoutMs: 1_000 }, history, 0);

test("a link below a snapshot is lost if its epoch has another incarnation there", () => {
  assert.equal(answerTo(needed(lost, 4)), "lost");
  assert.equal(answerTo(needed(log, 4)), "reached");
  assert.equal(answerTo(needed(shared, 2)), "reached", "of the epoch before, which both histories share");
});

test("an epoch of which one incarnation is unknown is compared by its number alone", () => {
  assert.equal(answerTo(lost.linkAt(4)), "reached", "a credential of an older version names no incarnation");
  const unnamed = historyFrom(
    log.head,
    whole.epochs.map((mark) => ({ ...mark, incarnation: null })),
  );
  assert.equal(answerTo(needed(lost, 4), unnamed), "reached", "a snapshot of an older version names none");
});

test("a copy that knows the hash compares the hash, and a link beyond it is waited for", () => {
  assert.equal(answerTo(needed(lost, 4), whole), "lost");
  assert.equal(answerTo(needed(log, 4), whole), "reached");
  const behind = extendHistory(emptyHistory, log.recorded(0, 3));
  assert.equal(answerTo(needed(log, 5), behind), undefined);
});

test("a chain names the incarnation of its own links only", () => {
  const nameOf = (link: Link) => incarnationOf(whole, link);
  assert.equal(nameOf(log.linkAt(4)), "incarnation-kept");
  assert.equal(nameOf(shared.linkAt(2)), "incarnation-1");
  assert.equal(nameOf(lost.linkAt(4)), undefined);
});
