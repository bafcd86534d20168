/** The recorder of decisions: off the request path, in order, stored, and with every loss declared exactly. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AuditNotDurableError, type AuditRecord, AuditRejectedError, parseLine } from "../../src/audit/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { ModelDisk } from "./spool/model-disk.ts";
import { accountOf, startSpool } from "./spool/spool-support.ts";
import { decision, recordsIn, testSink } from "./support.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const large = (): ReturnType<typeof decision> => decision(`/${"x".repeat(20_000)}`);
const sorted = (numbers: Iterable<number>): number[] => [...numbers].toSorted((a, b) => a - b);

describe("best effort", () => {
  test("records reach every sink in order, numbered 1, 2, 3 …, in batches", async () => {
    const [a, b] = [testSink("a"), testSink("b")];
    const recorder = await startSpool(new ModelDisk(), [a, b]);
    for (let i = 1; i <= 2_500; i++) recorder.record(decision(`/${i}`));
    await recorder.close(5_000);
    for (const sink of [a, b]) {
      assert.deepEqual(
        sink.written.map((record) => (record.kind === "decision" ? `${record.seq}${record.path}` : "gap")),
        range(1, 2_500).map((i) => `${i}/${i}`),
      );
      assert.ok(sink.batches.length < 50, `${sink.batches.length} batches`);
      assert.equal(sink.closed, 1);
    }
    assert.equal(recorder.stats().recorded, 2_500);
    assert.equal(recorder.stats().unreserved, 2_500 - 256, "numbers come faster than the disk reserves them");
  });

  test("recording neither waits nor throws, whatever disk and sinks do", async () => {
    const disk = new ModelDisk();
    const stuck = testSink("stuck");
    stuck.mode = "stuck";
    const recorder = await startSpool(disk, [stuck, { ...testSink("throws"), write: () => assert.fail() as never }]);
    disk.before = () => new Promise<void>(() => {});
    for (let i = 0; i < 20_000; i++) assert.equal(recorder.record(decision()), undefined);
    assert.equal(recorder.stats().recorded, 20_000);
    await recorder.close(50);
    assert.ok(recorder.failures.some((line) => line.startsWith("spool:")));
  });

  test("a failing sink gets the same batch again, is reported once, and is caught up in order", async () => {
    const [sink, other] = [testSink("a"), testSink("b")];
    sink.mode = "failing";
    const recorder = await startSpool(new ModelDisk(), [sink, other]);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("a second try", () => sink.batches.length >= 2);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("a third try", () => sink.batches.length >= 4);
    for (const batch of sink.batches) assert.deepEqual(batch, sink.batches[0]);
    assert.deepEqual(recorder.failures, ["a: the sink fails"]);
    assert.equal(recorder.stats().sinks[0]?.failing, true);
    assert.ok(other.written.length > 0, "the other sink does not wait");
    sink.mode = "good";
    await waitFor("all records", () => sink.written.length === 10);
    await waitFor("the sink to have everything", () => recorder.stats().sinks[0]?.queued === 0);
    assert.deepEqual(
      sink.written.map(({ seq }) => seq),
      range(1, 10),
    );
    const [stats] = recorder.stats().sinks;
    assert.deepEqual(stats, {
      ...{ name: "a", written: 10, lost: 0, deadLetters: 0, queued: 0, queuedBytes: 0, lagMs: 0, failing: false },
      writtenAtMs: recorder.stats().sinks[0]?.writtenAtMs,
    });
    await recorder.close(1_000);
  });

  test("records without room in memory are declared, and their numbers are exact", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const recorder = await startSpool(disk, [sink], { ringBytesMax: 100_000 });
    let release = (): void => undefined;
    disk.before = (operation) =>
      operation === "sync" || operation === "write" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    for (let i = 0; i < 100; i++) recorder.record(large());
    const { dropped } = recorder.stats();
    assert.ok(dropped >= 90, `${dropped} of 100 records of 20 kB have no room in 100 kB`);
    assert.ok(recorder.stats().pendingBytes < 130_000);
    await waitFor("the disk to be asked", () => release !== undefined);
    disk.before = () => undefined;
    release();
    await waitFor("room", () => recorder.stats().pendingBytes < 50_000);
    for (let i = 0; i < 3; i++) recorder.record(decision());
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(sink.written, "boot-1");
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 103));
    assert.equal(declared.size, dropped);
    const [gap] = sink.written.filter((record) => record.kind === "gap");
    assert.equal(gap?.kind === "gap" ? gap.reason : undefined, "ring_full");
  });

  test("a record larger than a frame is declared, and the next ones are stored", async () => {
    const sink = testSink();
    const recorder = await startSpool(new ModelDisk(), [sink]);
    recorder.record(decision());
    recorder.record(decision("/", { reasons: ["y".repeat(600_000)] }));
    recorder.record(decision());
    await recorder.close(5_000);
    assert.deepEqual(
      sink.written.map((record) => (record.kind === "gap" ? record.reason : record.seq)),
      [1, "dropped", 3],
    );
  });

  test("a record after the close is counted, and reopens nothing", async () => {
    const sink = testSink();
    const recorder = await startSpool(new ModelDisk(), [sink]);
    recorder.record(decision());
    await recorder.close(1_000);
    recorder.record(decision());
    assert.equal(sink.written.length, 1);
    assert.equal(recorder.stats().dropped, 1);
    await assert.rejects(recorder.recordDurably(decision()), AuditNotDurableError);
    for (let i = 0; i < 3; i++) recorder.record(decision());
    assert.equal(recorder.failures.length, 1, "reported once");
    assert.match(recorder.failures[0] ?? "", /after the audit spool was closed/);
  });

  test("records that are made while the sinks are waited for at the end are stored too", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const recorder = await startSpool(disk, [sink]);
    sink.mode = "stuck";
    recorder.record(decision("/1"));
    await waitFor("the sink", () => sink.batches.length > 0);
    const closing = recorder.close(5_000);
    const contents = (): string => [...disk.files.values()].map(({ durable }) => durable.toString("latin1")).join();
    await waitFor("the end of the spool", () => recorder.stats().pending === 0 && contents().includes('"/1"'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    for (const path of ["/2", "/3"]) recorder.record(decision(path));
    await assert.rejects(recorder.recordDurably(decision("/4")), { code: "ERR_AUDIT_NOT_DURABLE" });
    await waitFor("them to be stored", () => recorder.stats().pending === 0, { withinMs: 10_000 });
    sink.mode = "good";
    sink.release();
    await closing;
    const next = await startSpool(disk, [sink], { boot: "boot-2" });
    await next.close(1_000);
    assert.deepEqual(
      sink.written.map(({ kind, seq }) => `${kind} ${seq}`),
      ["decision 1", "decision 2", "decision 3"],
    );
    assert.deepEqual(recorder.failures, []);
  });

  test("the tap gets every record, also while the disk hangs", async () => {
    const disk = new ModelDisk();
    const seen: AuditRecord[] = [];
    const recorder = await startSpool(disk, [testSink()], { tap: (batch) => seen.push(...recordsIn(batch)) });
    disk.before = () => new Promise<void>(() => {});
    for (let i = 0; i < 10; i++) recorder.record(decision());
    await waitFor("the tap", () => seen.length === 10);
    await recorder.close(20);
  });
});

describe("after a restart", () => {
  test("a sink gets what it did not have, from every boot, and nothing that it had", async () => {
    const disk = new ModelDisk();
    const [ok, down] = [testSink("ok"), testSink("down")];
    down.mode = "failing";
    const first = await startSpool(disk, [ok, down], { boot: "boot-1" });
    for (let i = 0; i < 20; i++) first.record(decision("/", { boot: first.boot }));
    await first.close(500);
    down.mode = "good";
    const second = await startSpool(disk, [ok, down], { boot: "boot-2" });
    for (let i = 0; i < 5; i++) second.record(decision("/", { boot: second.boot }));
    await waitFor("the old segments to go", () => [...disk.files.keys()].every((name) => !name.includes("boot-1")));
    await second.close(5_000);
    const ids = (records: readonly AuditRecord[]): string[] => records.map(({ boot, seq }) => `${boot}:${seq}`);
    const all = [...range(1, 20).map((seq) => `boot-1:${seq}`), ...range(1, 5).map((seq) => `boot-2:${seq}`)];
    assert.deepEqual(ids(ok.written), all);
    assert.deepEqual(ids(down.written), all, "a clean shutdown leaves no gap");
  });

  test("a sink that is added gets what is stored", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down]);
    for (let i = 0; i < 3; i++) first.record(decision());
    await first.close(200);
    const added = testSink("added");
    const second = await startSpool(disk, [down, added], { boot: "boot-2" });
    await waitFor("the records", () => added.written.length === 3);
    await second.close(200);
  });
});

describe("a sink that rejects records", () => {
  test("gets the others; the rejected one is in its dead-letter file", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const write = sink.write;
    const picky = {
      ...sink,
      write: (batch: Parameters<typeof write>[0]) =>
        recordsIn(batch).some(({ seq }) => seq === 7) ? Promise.reject(new AuditRejectedError("x", "7")) : write(batch),
    };
    const recorder = await startSpool(disk, [picky], { gatherMs: 20 });
    for (let i = 0; i < 20; i++) recorder.record(decision());
    await recorder.close(5_000);
    assert.deepEqual(
      sink.written.map(({ seq }) => seq),
      range(1, 20).filter((seq) => seq !== 7),
    );
    const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
    const buried = JSON.parse(String(await disk.readSmall(name))) as AuditRecord;
    assert.equal(buried.seq, 7);
    assert.equal(recorder.stats().sinks[0]?.deadLetters, 1);
  });

  test("begins a new line behind what an earlier process has written of one", async () => {
    const disk = new ModelDisk();
    const all = { ...testSink(), write: () => Promise.reject(new AuditRejectedError("x", "each")) };
    const first = await startSpool(disk, [all]);
    first.record(decision());
    await first.close(1_000);
    const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
    const whole = (await disk.readSmall(name)) ?? assert.fail();
    await (await disk.open(name)).write([whole.subarray(0, 30)], whole.length);
    const second = await startSpool(disk, [all], { boot: "boot-2" });
    for (let i = 0; i < 2; i++) second.record(decision("/", { boot: second.boot }));
    await second.close(1_000);
    const lines = String(await disk.readSmall(name)).split("\n");
    const ids = lines.flatMap((line) => parseLine(line) ?? []).map(({ boot, seq }) => `${boot}:${seq}`);
    assert.deepEqual(ids, ["boot-1:1", "boot-2:1", "boot-2:2"]);
  });
});
