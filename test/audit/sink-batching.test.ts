/** Sinks that ask for larger batches: bounded, in time, and the same batch again after a lost answer or a crash. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { randomFrom } from "../../chaos/random.ts";
import {
  type AuditBatch,
  AuditPartlyRejectedError,
  AuditRejectedError,
  type AuditSink,
  AuditSinkBusyError,
  type SinkBatching,
} from "../../src/audit/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { ModelDisk } from "./spool/model-disk.ts";
import { startSpool } from "./spool/spool-support.ts";
import { decision, recordsIn } from "./support.ts";

type Seen = Readonly<{ first: number; last: number; bytes: number; atMs: number }>;

function batchingSink(
  batching: Partial<SinkBatching>,
  accept: (batch: AuditBatch) => void | Promise<void> = () => undefined,
): AuditSink & { readonly seen: Seen[]; readonly numbers: number[] } {
  const seen: Seen[] = [];
  const numbers: number[] = [];
  return {
    ...{ name: "batching", seen, numbers },
    batching: { bytesMax: 1_000_000, recordsMax: 1_000_000, lingerMs: 60_000, ...batching },
    async write(batch) {
      const { first, last, bytes } = batch;
      seen.push({ first, last, bytes: bytes.length, atMs: performance.now() });
      await accept(batch);
      numbers.push(...recordsIn(batch).map(({ seq }) => seq));
    },
    close: async () => undefined,
  };
}

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const boundsOf = (seen: readonly Seen[]): string[] => seen.map(({ first, last }) => `${first}-${last}`);
/** As slow as in production: the timers of the other tests are cut short. */
const realSleep = { sleepMsMax: 60_000 };

describe("a sink that asks for larger batches", () => {
  test("gets at most so many records and bytes at once, also less than one frame of the spool", async () => {
    const byCount = batchingSink({ recordsMax: 7, lingerMs: 1 });
    const lineBytes = 700;
    const byBytes = { ...batchingSink({ bytesMax: 3 * lineBytes, lingerMs: 1 }), name: "bytes" };
    const recorder = await startSpool(new ModelDisk(), [byCount, byBytes]);
    for (let i = 0; i < 50; i++) recorder.record(decision(`/${"x".repeat(200)}`));
    await waitFor("all records", () => byCount.numbers.length === 50 && byBytes.numbers.length === 50);
    await recorder.close(1_000);
    assert.deepEqual([byCount.numbers, byBytes.numbers], [range(1, 50), range(1, 50)]);
    assert.ok(byCount.seen.every(({ first, last }) => last - first < 7));
    assert.ok(byCount.seen.some(({ first, last }) => last - first === 6));
    assert.ok(byBytes.seen.every(({ bytes }) => bytes <= 3 * lineBytes));
    assert.ok(byBytes.seen.some(({ first, last }) => last > first));
  });

  test("gets a record that is larger than the bound, alone", async () => {
    const sink = batchingSink({ bytesMax: 2_000, lingerMs: 1 });
    const recorder = await startSpool(new ModelDisk(), [sink]);
    for (const length of [10, 5_000, 10]) recorder.record(decision(`/${"x".repeat(length)}`));
    await waitFor("all records", () => sink.numbers.length === 3);
    await recorder.close(1_000);
    assert.ok(boundsOf(sink.seen).includes("2-2"), boundsOf(sink.seen).join());
  });

  test("waits for a full batch; the records wait in the spool, and the metrics say so", async () => {
    const sink = batchingSink({ recordsMax: 30 });
    const recorder = await startSpool(new ModelDisk(), [sink], realSleep);
    for (let i = 0; i < 29; i++) recorder.record(decision());
    await waitFor("the spool", () => recorder.stats().sinks[0]?.queued === 29);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual(sink.seen, []);
    recorder.record(decision());
    await waitFor("the batch", () => sink.numbers.length === 30);
    assert.deepEqual(boundsOf(sink.seen), ["1-30"]);
    await recorder.close(1_000);
  });

  test("gets a smaller batch when its time has come, and at once when the process ends", async () => {
    const sink = batchingSink({ lingerMs: 200 });
    const recorder = await startSpool(new ModelDisk(), [sink], realSleep);
    const begunMs = performance.now();
    recorder.record(decision());
    await waitFor("the batch", () => sink.numbers.length === 1);
    assert.ok((sink.seen[0]?.atMs ?? 0) - begunMs >= 195);
    await recorder.close(1_000);
    const slow = batchingSink({});
    const next = await startSpool(new ModelDisk(), [slow], realSleep);
    next.record(decision());
    await waitFor("the spool", () => next.stats().sinks[0]?.queued === 1);
    const closingMs = performance.now();
    await next.close(10_000);
    assert.deepEqual(slow.numbers, [1]);
    assert.ok(performance.now() - closingMs < 5_000);
  });

  test("gets the same batch again after a lost answer, whatever was recorded meanwhile", async () => {
    let answers = 0;
    const sink = batchingSink({ recordsMax: 10, lingerMs: 1 }, () => {
      answers++;
      if (answers < 3) throw new Error("the answer was lost");
    });
    const recorder = await startSpool(new ModelDisk(), [sink]);
    for (let i = 0; i < 4; i++) recorder.record(decision());
    await waitFor("the first attempt", () => sink.seen.length > 0);
    for (let i = 0; i < 20; i++) recorder.record(decision());
    await waitFor("all records", () => sink.numbers.length === 24);
    await recorder.close(1_000);
    const [first, second, third] = boundsOf(sink.seen);
    assert.deepEqual([second, third], [first, first]);
  });

  test("gets the same batch again after a crash between its acceptance and the next stored position", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = randomFrom(seed);
      const disk = new ModelDisk();
      const stuck = new Promise<void>(() => undefined);
      const sink = batchingSink({ recordsMax: random.between(3, 12), lingerMs: 1 }, () =>
        random.next() < 0.4 ? stuck : undefined,
      );
      const recorder = await startSpool(disk, [sink]);
      for (let i = 0; i < 40; i++) {
        await recorder.recordDurably(decision());
        if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await waitFor("a batch", () => sink.seen.length > 0);
      const last = boundsOf(sink.seen).at(-1) ?? "";
      const survivor = random.next() < 0.5 ? disk.afterKill(random) : disk.afterPowerLoss(random);
      disk.before = () => stuck; // the process is dead
      const again = batchingSink({ recordsMax: 1_000, lingerMs: 1 });
      const next = await startSpool(survivor, [again], { boot: "boot-2" });
      await waitFor("all records", () => again.numbers.includes(40) || sink.numbers.includes(40));
      await next.close(1_000);
      const repeated = again.seen.filter(({ first }) => sink.seen.some((each) => each.first === first));
      assert.ok(
        boundsOf(repeated).every((bounds) => boundsOf(sink.seen).includes(bounds)),
        `seed ${seed}: ${boundsOf(repeated)} again, of ${boundsOf(sink.seen)}; the last was ${last}`,
      );
      assert.deepEqual(
        new Set([...sink.numbers, ...again.numbers].filter((seq) => seq <= 40)).size,
        40,
        `seed ${seed}`,
      );
    }
  });

  test("a clean end does not forget which batch was begun", async () => {
    const disk = new ModelDisk();
    const sink = batchingSink({ recordsMax: 5, lingerMs: 1 }, () => {
      throw new Error("the answer was lost");
    });
    const recorder = await startSpool(disk, [sink]);
    for (let i = 0; i < 3; i++) await recorder.recordDurably(decision());
    await waitFor("an attempt", () => sink.seen.length > 0);
    await recorder.close(100);
    const again = batchingSink({ lingerMs: 1 });
    const next = await startSpool(disk, [again], { boot: "boot-2" });
    await waitFor("the records", () => again.numbers.length >= 3);
    await next.close(1_000);
    assert.equal(boundsOf(again.seen)[0], boundsOf(sink.seen)[0]);
  });
});

test("a busy sink is tried again when it said, and not later than five minutes", async () => {
  const pauses: number[] = [];
  let left = 3;
  const sink = batchingSink({ lingerMs: 1 }, () => {
    left--;
    if (left >= 0) throw new AuditSinkBusyError("batching", { why: "429", retryAfterMs: left === 0 ? 1e12 : 7_000 });
  });
  const recorder = await startSpool(new ModelDisk(), [sink], { onSleep: (ms) => pauses.push(ms) });
  recorder.record(decision());
  await waitFor("the record", () => sink.numbers.length === 1);
  await recorder.close(1_000);
  assert.deepEqual(
    pauses.filter((ms) => ms >= 7_000),
    [7_000, 7_000, 300_000],
  );
});

test("a batch that was accepted in part is not sent again; the dead-letter file has it, and the count is exact", async () => {
  const disk = new ModelDisk();
  const sink = batchingSink({ recordsMax: 10, lingerMs: 1 }, ({ first }) => {
    if (first === 1) throw new AuditPartlyRejectedError("batching", { rejected: 2, why: "too long" });
  });
  const recorder = await startSpool(disk, [sink]);
  for (let i = 0; i < 10; i++) recorder.record(decision());
  await waitFor("everything", () => recorder.stats().sinks[0]?.queued === 0);
  await recorder.close(1_000);
  assert.equal(new Set(boundsOf(sink.seen)).size, sink.seen.length);
  assert.equal(recorder.stats().sinks[0]?.deadLetters, 2);
  const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
  const dead = (await disk.readSmall(name))?.toString() ?? "";
  assert.ok(dead.includes('"seq":1,'));
});

test("a rejected record is buried once, however often a later half of its batch fails", async () => {
  const disk = new ModelDisk();
  let busy = 5;
  const sink = batchingSink({ recordsMax: 8, lingerMs: 5_000 }, ({ first, last }) => {
    if (first <= 2 && last >= 2) throw new AuditRejectedError("batching", "the second");
    if (first > 2 && --busy >= 0) throw new AuditSinkBusyError("batching", { why: "429", retryAfterMs: 0 });
  });
  const recorder = await startSpool(disk, [sink]);
  for (let i = 0; i < 8; i++) recorder.record(decision());
  await waitFor("everything", () => sink.numbers.includes(8) && busy < 0);
  await recorder.close(1_000);
  assert.deepEqual(sink.numbers, [1, 3, 4, 5, 6, 7, 8]);
  assert.equal(recorder.stats().sinks[0]?.deadLetters, 1);
  const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
  assert.equal(((await disk.readSmall(name)) ?? "").toString().trim().split("\n").length, 1);
});
