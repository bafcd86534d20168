/** Records on disk for readers that pull: each once, in order, over restarts, crashes and retention. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomFrom } from "../../../chaos/random.ts";
import {
  type AuditRecord,
  createFeed,
  openPullStore,
  type RecordCursor,
  type RecordHistory,
  readRecords,
} from "../../../src/audit/index.ts";
import type { BootId } from "../../../src/events/index.ts";
import { ModelDisk } from "../spool/model-disk.ts";
import { batchOf, decision, node } from "../support.ts";

const bytesMax = 16 * 16_384;
const record = (seq: number, boot = "boot-1", path = "/"): AuditRecord => ({
  ...{ kind: "decision", seq },
  ...decision(path, { boot: boot as BootId, at: (1_700_000_000_000 + seq * 1_000) as never }),
});
const gap = (first: number, last: number, boot = "boot-1"): AuditRecord => ({
  ...{ kind: "gap", seq: last, node, boot: boot as BootId, at: 1_700_000_000_000 as never, first, last, why: "a test" },
});
const at = (number: number, sequence = "boot-1"): RecordCursor => ({ sequence, number, index: 0 });
const clock = { ms: 0 };
const open = (disk: ModelDisk, boot = "boot-1", max = bytesMax) =>
  openPullStore({ disk, boot: boot as BootId, bytesMax: max, monotonicMs: () => clock.ms });
const bounds = (records = 1_000, bytes = 10_000_000) => ({ records, bytes, signal: new AbortController().signal });
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** Reads to the end in portions. */
async function readAll(history: RecordHistory, from: RecordCursor, portion = 7) {
  const ids: string[] = [];
  const missed: object[] = [];
  for (let after = from; ; ) {
    const page = await history.read(after, bounds(portion));
    ids.push(...page.entries.map((one) => `${one.record.boot}:${one.record.seq}`));
    if (page.missed !== null) missed.push(page.missed);
    after = page.after;
    if (page.isAtEnd) return { ids, missed, after };
  }
}
const idsOf = (boot: string, numbers: readonly number[]): string[] => numbers.map((number) => `${boot}:${number}`);

test("a reader resumes by cursor over restarts, through the gap of a killed boot into the next", async () => {
  const disk = new ModelDisk();
  const first = await open(disk);
  for (let seq = 1; seq <= 300; seq += 3) await first.write(batchOf(record(seq), record(seq + 1), record(seq + 2)));
  await first.close();
  const second = await open(disk, "boot-2");
  await second.write(batchOf(gap(301, 556)));
  await second.write(batchOf(record(1, "boot-2"), record(2, "boot-2")));
  const expected = [...idsOf("boot-1", range(1, 300)), "boot-1:556", "boot-2:1", "boot-2:2"];
  assert.deepEqual(await readAll(second, at(0)), { ids: expected, missed: [], after: at(2, "boot-2") });
  assert.deepEqual((await readAll(second, at(299))).ids, expected.slice(299));
  assert.deepEqual((await readAll(second, at(400))).ids, expected.slice(300), "a number within the gap");
  assert.deepEqual((await readAll(second, at(2, "boot-2"))).ids, []);
  assert.deepEqual((await readAll(second, at(9, "boot-2"))).ids, [], "the present boot may be ahead in memory");
});

test("records that are delivered again after a crash are stored once", async () => {
  const disk = new ModelDisk();
  const store = await open(disk);
  await store.write(batchOf(record(1), record(2)));
  await store.close();
  const again = await open(disk, "boot-2");
  await again.write(batchOf(record(1), record(2)));
  await again.write(batchOf(record(2), record(3)));
  await again.write(batchOf(gap(4, 9)));
  await again.write(batchOf(gap(4, 9)));
  await again.write(batchOf(record(1, "boot-2")));
  await again.write(batchOf(record(2), record(3)));
  const { ids } = await readAll(again, at(0));
  assert.deepEqual(ids, ["boot-1:1", "boot-1:2", "boot-1:3", "boot-1:9", "boot-2:1"]);
});

test("beyond its bound the oldest records leave, and a reader that was there learns how many it missed", async () => {
  const disk = new ModelDisk();
  const store = await open(disk);
  const long = `/${"x".repeat(2_000)}`;
  for (let seq = 1; seq <= 300; seq++) await store.write(batchOf(record(seq, "boot-1", long)));
  assert.ok(disk.size <= bytesMax + 16_384, String(disk.size));
  const { ids, missed } = await readAll(store, at(10));
  const oldest = Number(ids[0]?.split(":")[1]);
  assert.ok(oldest > 100);
  assert.deepEqual(missed, [{ reason: "removed", count: oldest - 11 }]);
  assert.deepEqual(ids, idsOf("boot-1", range(oldest, 300)));
  const unknown = await readAll(store, at(3, "boot-of-another-server"));
  assert.deepEqual(unknown.missed, [{ reason: "cursor_unknown", count: null }]);
  assert.deepEqual(unknown.ids, ids);
});

test("a gap at the start of a file is not counted as missed", async () => {
  const disk = new ModelDisk();
  const store = await open(disk);
  await store.write(batchOf(gap(1, 50)));
  await store.write(batchOf(record(51)));
  assert.deepEqual(await readAll(store, at(0)), { ids: ["boot-1:50", "boot-1:51"], missed: [], after: at(51) });
});

test("a cursor of a time comes before the first record of that time", async () => {
  const disk = new ModelDisk();
  const store = await open(disk);
  assert.deepEqual(await store.cursorAt(5), at(0));
  for (let seq = 1; seq <= 200; seq++) await store.write(batchOf(record(seq, "boot-1", `/${"x".repeat(500)}`)));
  assert.deepEqual(await store.cursorAt(1_700_000_000_000 + 150_000), at(149));
  assert.deepEqual(await store.cursorAt(0), at(0));
  assert.deepEqual(await store.cursorAt(1_800_000_000_000), at(200));
});

test("whatever a crash, a power failure or a full disk leaves, accepted records are read once and in order", async () => {
  for (let seed = 1; seed <= 120; seed++) {
    const random = randomFrom(seed);
    let disk = new ModelDisk();
    let accepted = 0;
    for (let run = 1; run <= 4; run++) {
      const store = await open(disk, `run-${run}`, 16 * 2_000);
      const current = disk;
      const failAt = random.between(1, 40);
      let operations = 0;
      let isDead = false;
      current.before = (operation) => {
        operations += 1;
        const isHit = operations >= failAt && operation !== "read";
        if (isHit && random.next() < 0.5) isDead = true;
        if (isDead || isHit) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
        return undefined;
      };
      // As the recorder does: one sync for several batches, and one after a failed write. If it fails, again from the
      // last synced record on, and after a restart a little before.
      let next = Math.max(1, accepted - 2);
      const syncNow = async (): Promise<void> => {
        try {
          await store.sync?.();
          accepted = Math.max(accepted, next - 1);
        } catch {
          current.inFlight = null;
          next = accepted + 1;
        }
      };
      while (next <= accepted + 12 && !isDead) {
        const count = random.between(1, 4);
        const batch = range(next, next + count - 1).map((seq) => record(seq));
        try {
          await store.write(batchOf(...batch));
          next += count;
        } catch {
          if (random.next() < 0.3) isDead = true;
          if (isDead) break;
          current.inFlight = null; // a write that failed has no effect later
          await syncNow();
          continue;
        }
        if (random.next() < 0.4) await syncNow();
      }
      current.before = () => undefined;
      disk = random.next() < 0.5 ? current.afterPowerLoss(random) : current.afterKill(random);
    }
    const store = await open(disk, "last", 16 * 2_000);
    const next = Math.max(1, accepted - 2);
    await store.write(batchOf(...range(next, accepted + 20).map((seq) => record(seq))));
    let expected = 1;
    for (let after = at(0); ; ) {
      const page = await store.read(after, bounds(5));
      if (page.missed !== null) assert.equal(page.missed.reason, "removed", `seed ${seed}`);
      expected += page.missed?.count ?? 0;
      for (const { record: one } of page.entries) assert.equal(one.seq, expected++, `seed ${seed}`);
      after = page.after;
      if (page.isAtEnd) break;
    }
    assert.equal(expected, accepted + 21, `seed ${seed}: every accepted record`);
  }
});

test("a reader goes from the stored records to those in memory without loss or repetition", async () => {
  const disk = new ModelDisk();
  const history = await open(disk);
  const feed = createFeed({ start: at(0), entriesMax: 20, bytesMax: 1_000_000, watchersMax: 1 });
  const random = randomFrom(3);
  const waits: number[] = [];
  const sources = { feed, history, sleep: async (ms: number) => void waits.push(ms) };
  const read: number[] = [];
  let [after, stored] = [at(0), 0];
  for (let seq = 1; seq <= 400; seq++) {
    feed.pushBatch(batchOf(record(seq)));
    if (random.next() < 0.3 || seq - stored > 15) {
      await history.write(batchOf(...range(stored + 1, seq).map((one) => record(one))));
      stored = seq;
    }
    if (random.next() < 0.2 || seq === 400) {
      for (;;) {
        const page = await readRecords(sources, after, bounds(random.between(1, 9)));
        assert.equal(page.missed, null);
        read.push(...page.entries.map((one) => one.record.seq));
        after = page.after;
        if (page.isAtEnd && page.entries.length === 0) break;
        if (random.next() < 0.3 && seq < 400) break;
      }
    }
  }
  assert.deepEqual(read, range(1, 400));
  assert.deepEqual(waits, []);
});

test("what neither memory nor disk has is stated after a short wait, and reading goes on", async () => {
  const disk = new ModelDisk();
  const history = await open(disk);
  const feed = createFeed({ start: at(0), entriesMax: 5, bytesMax: 1_000_000, watchersMax: 1 });
  await history.write(batchOf(record(1)));
  for (let seq = 1; seq <= 20; seq++) feed.pushBatch(batchOf(record(seq)));
  let waitedMs = 0;
  const sleep = async (ms: number): Promise<void> => {
    waitedMs += ms;
  };
  const sources = { feed, history, sleep };
  const first = await readRecords(sources, at(0), bounds());
  assert.deepEqual(
    first.entries.map((one) => one.record.seq),
    [1],
  );
  const lost = await readRecords(sources, first.after, bounds());
  const missed = { reason: "not_stored", count: 14 };
  assert.deepEqual(lost, { entries: [], begin: at(15), after: at(15), missed, isAtEnd: false });
  assert.equal(waitedMs, 2_000);
  const rest = await readRecords(sources, lost.after, bounds());
  assert.deepEqual(
    rest.entries.map((one) => one.record.seq),
    range(16, 20),
  );
});

test("a cursor ahead of this process waits where it is, and is not sent back", async () => {
  const disk = new ModelDisk();
  const history = await open(disk);
  const feed = createFeed({ start: at(0), entriesMax: 5, bytesMax: 1_000_000, watchersMax: 1 });
  for (let seq = 1; seq <= 20; seq++) feed.pushBatch(batchOf(record(seq)));
  for (let seq = 1; seq <= 20; seq++) await history.write(batchOf(record(seq)));
  const sleep = (): Promise<void> => assert.fail("nothing to wait for");
  const page = await readRecords({ feed, history, sleep }, at(25), bounds());
  assert.deepEqual(page, { entries: [], begin: at(25), after: at(25), missed: null, isAtEnd: true });
});

test("a store that fails for a minute gives way, so that the spool is not held back, and readers learn what is missing", async () => {
  const disk = new ModelDisk();
  const store = await open(disk);
  await store.write(batchOf(record(1), record(2)));
  disk.before = (operation) => {
    if (operation === "write") throw Object.assign(new Error("broken"), { code: "EIO" });
  };
  await assert.rejects(store.write(batchOf(record(3))), /broken/);
  clock.ms += 59_000;
  await assert.rejects(store.write(batchOf(record(3))), /broken/);
  clock.ms += 1_000;
  await store.write(batchOf(record(3)));
  await store.write(batchOf(record(4), record(5)));
  disk.before = () => undefined;
  await store.write(batchOf(record(6), record(7)));
  const expected = { ids: idsOf("boot-1", [1, 2, 6, 7]), missed: [{ reason: "not_stored", count: 3 }], after: at(7) };
  for (const portion of [1, 2, 3, 100]) assert.deepEqual(await readAll(store, at(0), portion), expected);
  await store.close();
  const again = await open(disk, "boot-2");
  assert.deepEqual(await readAll(again, at(2)), { ...expected, ids: idsOf("boot-1", [6, 7]) });
  await again.write(batchOf(record(2, "boot-2")));
  assert.deepEqual((await readAll(again, at(7))).missed, [{ reason: "not_stored", count: 1 }]);
});
