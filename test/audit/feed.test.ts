/** The feed of decision records: each watcher reads at its own pace, resumes by cursor, and learns what it missed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuditRecord, createFeed, TooManyWatchersError } from "../../src/audit/index.ts";
import { batchOf, decision } from "./support.ts";

const record = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision() });
const numbers = (page: Readonly<{ entries: readonly Readonly<{ record: AuditRecord }>[] }>): number[] =>
  page.entries.map((entry) => entry.record.seq);

function feedOf(count: number, keep = 100, keepBytes = 1_000_000) {
  const feed = createFeed({ id: "here", entriesMax: keep, bytesMax: keepBytes, watchersMax: 3 });
  for (let i = 1; i <= count; i++) feed.push(record(i));
  return feed;
}

test("a watcher starts with the newest records, or with the next one", async () => {
  const feed = feedOf(10);
  const some = feed.watch({ newest: 3 });
  assert.deepEqual(numbers(some.read(100)), [8, 9, 10]);
  const next = feed.watch({ newest: 0 });
  assert.deepEqual(numbers(next.read(100)), []);
  const more = next.waitForMore();
  feed.push(record(11));
  await more;
  assert.deepEqual(numbers(next.read(100)), [11]);
  assert.deepEqual(numbers(some.read(100)), [11]);
  assert.deepEqual(
    numbers(feed.watch({ newest: 1_000 }).read(100)),
    Array.from({ length: 11 }, (_, i) => i + 1),
  );
});

test("a watcher reads in portions and resumes after a cursor without loss or repetition", () => {
  const feed = feedOf(10);
  const first = feed.watch({ newest: 10 });
  const page = first.read(4);
  assert.deepEqual(numbers(page), [1, 2, 3, 4]);
  first.close();
  const cursor = page.entries.at(-1)?.cursor ?? assert.fail();
  const again = feed.watch({ after: cursor });
  assert.deepEqual({ ...again.read(100), entries: [] }, { entries: [], missed: false });
  assert.deepEqual(numbers(feed.watch({ after: cursor }).read(100)), [5, 6, 7, 8, 9, 10]);
});

test("a watcher that fell behind the ring learns it once, and continues with the oldest records left", () => {
  const feed = feedOf(0, 10);
  const slow = feed.watch({ newest: 0 });
  for (let i = 1; i <= 40; i++) feed.push(record(i));
  const page = slow.read(100);
  assert.equal(page.missed, true);
  assert.ok(numbers(page).length >= 10 && numbers(page).at(-1) === 40);
  feed.push(record(41));
  assert.deepEqual({ ...slow.read(100), entries: [] }, { entries: [], missed: false });
});

test("an unknown cursor is a miss, not a silent fresh start", () => {
  const feed = feedOf(5);
  const stranger = feed.watch({ after: "elsewhere-3" });
  const page = stranger.read(100);
  assert.equal(page.missed, true);
  assert.deepEqual(numbers(page), [1, 2, 3, 4, 5]);
  assert.equal(stranger.read(100).missed, false);
});

test("cursors of two feeds never coincide, and a given feed id is kept", () => {
  const one = createFeed({ id: "one", entriesMax: 10, bytesMax: 1_000_000, watchersMax: 1 });
  one.push(record(1));
  one.push(record(2), { cursor: "stream.7.0", bytes: 100 });
  assert.deepEqual(
    one
      .watch({ newest: 2 })
      .read(9)
      .entries.map(({ cursor }) => cursor),
    ["one-0", "stream.7.0"],
  );
});

test("records of a batch are read like any others, in portions of any size", () => {
  const feed = feedOf(3);
  const slow = feed.watch({ newest: 3 });
  feed.pushBatch(batchOf(record(4), record(5), record(6)));
  feed.push(record(7));
  assert.deepEqual(numbers(slow.read(5)), [1, 2, 3, 4, 5]);
  const { entries } = feed.watch({ newest: 3 }).read(2);
  assert.deepEqual(
    entries.map(({ record: { seq } }) => seq),
    [5, 6],
  );
  assert.deepEqual(numbers(feed.watch({ after: entries[0]?.cursor ?? "" }).read(9)), [6, 7]);
  assert.deepEqual(numbers(slow.read(5)), [6, 7]);
});

test("a ring of batches keeps its capacity and little more", () => {
  const feed = feedOf(0, 10);
  const slow = feed.watch({ newest: 0 });
  for (let i = 0; i < 20; i++) feed.pushBatch(batchOf(...[1, 2, 3, 4].map((n) => record(i * 4 + n))));
  const page = slow.read(100);
  assert.equal(page.missed, true);
  assert.deepEqual(
    numbers(page),
    Array.from({ length: 12 }, (_, i) => 69 + i),
  );
});

test("watchers are bounded, and a closed one frees its slot and stops waiting", async () => {
  const feed = feedOf(0);
  const watchers = [1, 2, 3].map(() => feed.watch({ newest: 0 }));
  assert.throws(() => feed.watch({ newest: 0 }), TooManyWatchersError);
  const waiting = watchers[0]?.waitForMore();
  watchers[0]?.close();
  await waiting;
  await watchers[0]?.waitForMore();
  feed.watch({ newest: 0 }).close();
});

test("a feed is bounded in bytes and in records, for single records and batches", () => {
  const large = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision(`/${"x".repeat(10_000)}`) });
  const feed = feedOf(0, 1_000, 100_000);
  const watcher = feed.watch({ newest: 0 });
  for (let seq = 1; seq <= 50; seq++) feed.push(large(seq));
  const lastPage = watcher.read(1_000);
  assert.equal(lastPage.missed, true);
  assert.deepEqual(numbers(lastPage), [42, 43, 44, 45, 46, 47, 48, 49, 50], "nine records of 10 kB fit");
  for (let seq = 51; seq <= 90; seq += 2) feed.pushBatch(batchOf(large(seq), large(seq + 1)));
  assert.deepEqual(numbers(feed.watch({ newest: 1_000 }).read(1_000)), [83, 84, 85, 86, 87, 88, 89, 90]);
});
