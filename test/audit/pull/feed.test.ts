/** The feed of audit records: readers go on after any cursor in its memory, and it says what it no longer has. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuditRecord, createFeed, type FeedEntry, TooManyWatchersError } from "../../../src/audit/index.ts";
import { batchOf, decision } from "../support.ts";

const record = (seq: number, path = "/"): AuditRecord => ({ kind: "decision", seq, ...decision(path) });
const numbers = (entries: readonly FeedEntry[]): number[] => entries.map((entry) => entry.record.seq);
const at = (number: number, sequence = "boot-1") => ({ sequence, number, index: 0 });
const entry = (seq: number, path?: string): FeedEntry => {
  const made = record(seq, path);
  return { cursor: at(seq), record: made, bytes: JSON.stringify(made).length + 1 };
};
const bounds = { records: 1_000, bytes: 10_000_000 };
const all = (): boolean => true;

function feedOf(count: number, entriesMax = 100, bytesMax = 1_000_000) {
  const feed = createFeed({ start: at(0), entriesMax, bytesMax, watchersMax: 3 });
  for (let seq = 1; seq <= count; seq++) feed.push([entry(seq)]);
  return feed;
}

test("a reader starts with the newest records that match, or with the next one", () => {
  const feed = feedOf(10);
  assert.deepEqual(numbers(feed.read(feed.cursorBefore(3, all) ?? at(0), bounds)), [8, 9, 10]);
  assert.deepEqual(feed.cursorBefore(0, all), at(10));
  assert.deepEqual(feed.end(), at(10));
  const even = feed.cursorBefore(2, ({ seq }) => seq % 2 === 0) ?? assert.fail();
  assert.deepEqual(numbers(feed.read(even, bounds)), [8, 9, 10]);
  assert.deepEqual(feed.cursorBefore(1_000, all), at(0));
});

test("a reader goes on after its cursor, in portions of records and of bytes, over single records and batches", async () => {
  const feed = feedOf(3);
  const changed = feed.changed();
  feed.pushBatch(batchOf(record(4), record(5), record(6)));
  await changed;
  feed.push([entry(7), entry(8)]);
  assert.deepEqual(numbers(feed.read(at(0), { ...bounds, records: 5 })), [1, 2, 3, 4, 5]);
  assert.deepEqual(numbers(feed.read(at(5), bounds)), [6, 7, 8]);
  assert.deepEqual(numbers(feed.read(at(8), bounds)), []);
  const { bytes } = entry(1);
  assert.deepEqual(numbers(feed.read(at(0), { ...bounds, bytes: bytes * 2 })), [1, 2]);
  assert.deepEqual(numbers(feed.read(at(0), { ...bounds, bytes: 1 })), [1], "one record always fits");
});

test("a feed covers a cursor while nothing after it has left, and of its own sequence only", () => {
  const feed = feedOf(0, 10);
  assert.ok(feed.covers(at(0)));
  for (let i = 0; i < 20; i++) feed.pushBatch(batchOf(...[1, 2, 3, 4].map((n) => record(i * 4 + n))));
  assert.equal(feed.covers(at(0)), false);
  assert.deepEqual(feed.start(), at(68));
  assert.ok(feed.covers(at(68)));
  assert.equal(feed.covers(at(67)), false);
  assert.deepEqual(numbers(feed.read(at(68), bounds)), [69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80]);
  assert.deepEqual(feed.read(at(67), bounds), []);
  assert.equal(feed.covers(at(70, "boot-0")), false);
});

test("pages of batches that have left are used again, and what is kept stays as it was pushed", () => {
  const feed = createFeed({ start: at(0), entriesMax: 1_000_000, bytesMax: 3_000_000, watchersMax: 1 });
  let seq = 0;
  for (let batch = 0; batch < 60; batch++) {
    const count = 1 + ((batch * 7) % 13);
    const records = Array.from({ length: count }, () => record(++seq, `/${seq}/${"x".repeat(20_000 + batch * 100)}`));
    feed.pushBatch(batchOf(...records));
    if (batch === 30) feed.pushBatch(batchOf(record(++seq, `/${seq}/${"y".repeat(1_200_000)}`)));
  }
  const kept = feed.read(feed.start() ?? assert.fail(), { records: 10_000, bytes: 100_000_000 });
  assert.equal(kept.at(-1)?.record.seq, seq);
  for (const { record: read } of kept)
    assert.ok(read.kind === "decision" && /^\/(\d+)\/(x+|y+)$/.exec(read.path)?.[1] === String(read.seq));
});

test("a decision is found by its ids in unread batches, without parsing the others", () => {
  const feed = createFeed({ start: at(0), entriesMax: 100_000, bytesMax: 100_000_000, watchersMax: 1 });
  const made = (seq: number): AuditRecord => ({
    ...{ kind: "decision", seq },
    ...decision(`/${"x".repeat(500)}`, {
      requestId: `request-"${seq}" ä`,
      ...(seq === 7 ? { userAgent: 'request-"9" ä' } : {}),
    }),
  });
  for (let seq = 1; seq <= 20_000; seq += 100)
    feed.pushBatch(batchOf(...Array.from({ length: 100 }, (_, n) => made(seq + n))));
  const parse = JSON.parse;
  let parsed = 0;
  JSON.parse = (...args) => {
    parsed++;
    return parse(...args);
  };
  try {
    for (const id of ['request-"9" ä', "boot-1:9"])
      assert.deepEqual(
        feed.findById(id).map(({ seq }) => seq),
        [9],
        id,
      );
    assert.deepEqual(feed.findById("boot-2:9"), []);
    assert.deepEqual(feed.findById("nothing"), []);
  } finally {
    JSON.parse = parse;
  }
  assert.ok(parsed < 10, `${parsed} lines`);
});

test("records of a new stream replace those of the one before, whose cursors cannot be resumed", () => {
  const feed = createFeed({ entriesMax: 100, bytesMax: 1_000_000, watchersMax: 1 });
  assert.equal(feed.end(), null);
  feed.push([{ ...entry(1), cursor: { sequence: "a", number: 7, index: 0 } }]);
  feed.push([{ ...entry(2), cursor: { sequence: "a", number: 7, index: 1 } }]);
  assert.ok(feed.covers({ sequence: "a", number: 7, index: 0 }));
  assert.ok(feed.covers({ sequence: "a", number: 6, index: 1_000_000 }));
  assert.equal(feed.covers({ sequence: "a", number: 6, index: 5 }), false, "the end of message 6 is not here");
  feed.push([{ ...entry(3), cursor: { sequence: "b", number: 1, index: 0 } }]);
  assert.equal(feed.covers({ sequence: "a", number: 7, index: 0 }), false);
  assert.deepEqual(numbers(feed.read({ sequence: "b", number: 0, index: 1_000_000 }, bounds)), [3]);
});

test("a stream that lost its newest messages and uses their numbers again begins a new feed", () => {
  const feed = feedOf(10);
  assert.equal(feed.covers(at(12)), false, "beyond the end: another process may be ahead, or the stream was cut");
  feed.push([{ ...entry(108), cursor: at(8) }]);
  assert.equal(feed.covers(at(10)), false, "its reader must not skip the new number 8");
  assert.deepEqual(numbers(feed.read({ ...at(7), index: 1_000_000 }, bounds)), [108]);
});

test("watchers are bounded, and a closed one frees its slot once", () => {
  const feed = feedOf(0);
  const free = [1, 2, 3].map(() => feed.addWatcher());
  assert.throws(() => feed.addWatcher(), TooManyWatchersError);
  free[0]?.();
  free[0]?.();
  feed.addWatcher();
  assert.throws(() => feed.addWatcher(), TooManyWatchersError);
});

test("a feed is bounded in bytes and in records, for single records and batches", () => {
  const long = `/${"x".repeat(10_000)}`;
  const feed = feedOf(0, 1_000, 100_000);
  for (let seq = 1; seq <= 50; seq++) feed.push([entry(seq, long)]);
  assert.deepEqual(feed.start(), at(41), "nine records of 10 kB fit");
  for (let seq = 51; seq <= 90; seq += 2) feed.pushBatch(batchOf(record(seq, long), record(seq + 1, long)));
  assert.deepEqual(feed.start(), at(82));
  assert.deepEqual(numbers(feed.read(at(82), bounds)), [83, 84, 85, 86, 87, 88, 89, 90]);
});
