/** The recorder of decisions: off the request path, in order, and with every loss declared exactly. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../src/audit/index.ts";
import { fc } from "../support/property.ts";
import { waitFor } from "../support/wait-for.ts";
import { accountOf, decision, recorderOver, testSink } from "./support.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

test("records reach every sink in order, numbered 1, 2, 3 …, in batches", async () => {
  const [a, b] = [testSink("a"), testSink("b")];
  const recorder = recorderOver([a, b], { queueMax: 5_000 });
  for (let i = 1; i <= 2_500; i++) recorder.record(decision(`/${i}`));
  await recorder.close(5_000);
  for (const sink of [a, b]) {
    assert.deepEqual(
      sink.written.map((record) => (record.kind === "decision" ? `${record.seq}${record.path}` : "gap")),
      range(1, 2_500).map((i) => `${i}/${i}`),
    );
    assert.ok(sink.batches.length >= 3 && sink.batches.length < 50, `${sink.batches.length} batches`);
  }
  assert.equal(recorder.stats().recorded, 2_500);
});

test("recording neither waits nor throws, whatever the sinks do", async () => {
  const stuck = testSink("stuck");
  stuck.mode = "stuck";
  const failing = testSink("failing");
  failing.mode = "failing";
  const throwing = { ...testSink("throwing"), write: () => assert.fail("at once") as never };
  const recorder = recorderOver([stuck, failing, throwing], { queueMax: 5_000 });
  const before = performance.now();
  for (let i = 0; i < 20_000; i++) assert.equal(recorder.record(decision()), undefined);
  assert.ok(performance.now() - before < 20_000);
  for (const sink of recorder.stats().sinks) assert.ok(sink.queued <= 5_000 + 1_000, `${sink.name}: ${sink.queued}`);
  await recorder.close(50);
});

test("a slow sink does not hold up the others", async () => {
  const slow = testSink("slow");
  slow.mode = "stuck";
  const quick = testSink("quick");
  const recorder = recorderOver([slow, quick]);
  for (let i = 0; i < 10; i++) recorder.record(decision());
  await waitFor("the quick sink to get every record", () => quick.written.length === 10);
  assert.equal(slow.written.length, 0);
  slow.mode = "good";
  slow.release();
  await recorder.close(1_000);
  assert.equal(slow.written.length, 10);
});

test("a failing sink gets the same batch again, is reported once, and is caught up in order", async () => {
  const sink = testSink();
  sink.mode = "failing";
  const recorder = recorderOver([sink]);
  for (let i = 0; i < 5; i++) recorder.record(decision());
  await waitFor("a second try", () => sink.batches.length >= 2);
  for (let i = 0; i < 5; i++) recorder.record(decision()); // later records do not change a batch in flight
  await waitFor("a third try", () => sink.batches.length >= 4);
  for (const batch of sink.batches) assert.deepEqual(batch, sink.batches[0]);
  assert.equal(sink.batches[0]?.length, 5);
  assert.deepEqual(recorder.failures, ["test: the sink fails"]);
  assert.equal(recorder.stats().sinks[0]?.failing, true);
  sink.mode = "good";
  await waitFor("all records to be written", () => sink.written.length === 10);
  assert.deepEqual(accountOf(sink.written), { decisions: range(1, 10), gaps: [] });
  assert.deepEqual(recorder.stats().sinks[0], {
    name: "test",
    written: 10,
    lost: 0,
    queued: 0,
    queuedBytes: 0,
    failing: false,
  });
  await recorder.close(1_000);
});

test("the losses of a full queue are declared exactly, without the batch in flight", async () => {
  const sink = testSink();
  sink.mode = "stuck";
  const recorder = recorderOver([sink], { queueMax: 100 });
  for (let i = 1; i <= 50; i++) recorder.record(decision());
  await waitFor("a batch in flight", () => sink.batches.length === 1);
  for (let i = 51; i <= 400; i++) recorder.record(decision());
  sink.mode = "good";
  sink.release();
  await recorder.close(1_000);
  const { decisions, gaps } = accountOf(sink.written);
  assert.equal(gaps.length, 1, "one gap that grew");
  const [first, last] = gaps[0] ?? assert.fail();
  assert.equal(first, 51);
  assert.deepEqual(decisions, [...range(1, 50), ...range(last + 1, 400)]);
  assert.equal(recorder.stats().sinks[0]?.lost, last - first + 1);
  const at = sink.written.findIndex((record) => record.kind === "gap");
  assert.equal(sink.written[at - 1]?.seq, 50, "the gap record has the position of the lost records");
  assert.equal(sink.written[at + 1]?.seq, last + 1);
});

test("whatever a sink does, every number is written or declared lost, exactly once and in order", async () => {
  const step = fc.oneof(
    fc.record({ type: fc.constant("record" as const), count: fc.integer({ min: 1, max: 60 }) }),
    fc.record({ type: fc.constant("mode" as const), mode: fc.constantFrom("good", "failing", "stuck") }),
    fc.record({ type: fc.constant("rest" as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.integer({ min: 1, max: 40 }), async (steps, queueMax) => {
      const sink = testSink();
      const recorder = recorderOver([sink], { queueMax, gatherMs: 0 });
      let recorded = 0;
      for (const each of steps) {
        if (each.type === "record") {
          for (let i = 0; i < each.count; i++) recorder.record(decision());
          recorded += each.count;
          assert.ok((recorder.stats().sinks[0]?.queued ?? 0) <= queueMax + 1_000);
        } else if (each.type === "mode") {
          sink.mode = each.mode as typeof sink.mode;
          sink.release();
        } else await new Promise((resolve) => setTimeout(resolve, 1));
      }
      sink.mode = "good";
      sink.release();
      await recorder.close(5_000);
      assert.deepEqual(numbersTold(sink.written), range(1, recorded));
    }),
    { numRuns: 60 },
  );
});

function numbersTold(records: readonly AuditRecord[]): number[] {
  return records.flatMap((record) => (record.kind === "gap" ? range(record.first, record.last) : [record.seq]));
}

test("closing flushes without waiting for the records to gather", async () => {
  const sink = testSink();
  const recorder = recorderOver([sink], { gatherMs: 60_000 });
  recorder.record(decision());
  const before = performance.now();
  await recorder.close(30_000);
  assert.ok(performance.now() - before < 10_000);
  assert.equal(sink.written.length, 1);
  assert.equal(sink.closed, 1);
  await recorder.close(5_000);
  assert.equal(sink.closed, 1, "a second close changes nothing");
});

test("closing with a failing sink retries until its deadline, then reports the losses", async () => {
  const sink = testSink();
  sink.mode = "failing";
  const recorder = recorderOver([sink]);
  for (let i = 0; i < 7; i++) recorder.record(decision());
  await recorder.close(50);
  assert.equal(sink.closed, 1);
  assert.ok(
    recorder.failures.some((line) => line.includes("7 decision records were not written")),
    recorder.failures.join(),
  );
  assert.equal(recorder.stats().sinks[0]?.lost, 7);
});

test("closing with a stuck sink is bounded in time", async () => {
  const sink = { ...testSink(), write: () => new Promise<void>(() => {}), close: () => new Promise<void>(() => {}) };
  const recorder = recorderOver([sink]);
  recorder.record(decision());
  const before = performance.now();
  await recorder.close(50);
  assert.ok(performance.now() - before < 5_000);
});

test("a record after the close is counted as lost and reopens nothing", async () => {
  const sink = testSink();
  const recorder = recorderOver([sink]);
  recorder.record(decision());
  await recorder.close(1_000);
  recorder.record(decision());
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(sink.written.length, 1);
  assert.equal(recorder.stats().sinks[0]?.lost, 1);
  assert.equal(recorder.stats().recorded, 2);
});

test("a queue is bounded in bytes and in records: the oldest are declared lost, and the rest is written", async () => {
  const sink = testSink();
  sink.mode = "failing";
  const recorder = recorderOver([sink], { queueMax: 100_000, queueBytesMax: 1_000_000 });
  const large = decision(`/${"x".repeat(20_000)}`);
  for (let i = 0; i < 20; i++) recorder.record(large);
  await waitFor("the first batch to be offered", () => sink.batches.length > 0);
  for (let i = 0; i < 500; i++) recorder.record(large);
  const { queued = 0 } = recorder.stats().sinks[0] ?? {};
  assert.ok(queued <= 75, `${queued} records of 20 kB wait; the bound is 1 MB`);
  sink.mode = "good";
  await waitFor("everything to be written or declared", () => recorder.stats().sinks[0]?.queued === 0);
  const { decisions, gaps } = accountOf(sink.written);
  const declared = gaps.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
  assert.deepEqual(
    [...decisions, ...declared].toSorted((a, b) => a - b),
    Array.from({ length: 520 }, (_, i) => i + 1),
  );
  assert.ok(decisions.length >= 40, "no more records are dropped than the bound requires");
  await recorder.close(1_000);
});
