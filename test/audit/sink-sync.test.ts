/** Sinks with a sync of their own: one sync for many batches, and nothing counts as stored before it. */
import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { randomFrom } from "../../chaos/random.ts";
import { type AuditBatch, type AuditRecord, type AuditSink, createFileSink, parseLine } from "../../src/audit/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { ModelDisk } from "./spool/model-disk.ts";
import { startSpool } from "./spool/spool-support.ts";
import { batchOf, decision } from "./support.ts";

/** A sink that forgets what was not synced when it crashes, or when a sync fails. */
function syncedSink(script: { failWrite?: number; failSync?: number } = {}) {
  const state = { written: [] as number[], synced: [] as number[], all: [] as number[], syncs: 0, syncing: 0 };
  const sink: AuditSink = {
    name: "synced",
    async write({ bytes }: AuditBatch) {
      if ((script.failWrite ?? 0) > 0) {
        script.failWrite = (script.failWrite ?? 0) - 1;
        throw new Error("no write");
      }
      const numbers = bytes
        .toString()
        .split("\n")
        .flatMap((line) => parseLine(line)?.seq ?? []);
      state.written.push(...numbers);
      state.all.push(...numbers);
    },
    async sync() {
      state.syncs++;
      if ((script.failSync ?? 0) > 0) {
        script.failSync = (script.failSync ?? 0) - 1;
        state.written = [];
        throw new Error("no sync");
      }
      state.synced.push(...state.written.splice(0));
    },
    close: async () => undefined,
  };
  return { sink, state, script };
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test("many batches share one sync, and the last ones are synced when the process ends", async () => {
  const { sink, state } = syncedSink();
  const recorder = await startSpool(new ModelDisk(), [sink]);
  const beganAt = performance.now();
  for (let i = 0; i < 10; i++) {
    recorder.record(decision());
    await waitFor("the record to be written", () => state.all.length === i + 1);
  }
  const syncsMax = 1 + Math.ceil((performance.now() - beganAt) / 1_000);
  assert.ok(state.syncs <= syncsMax, `${state.syncs} syncs for ten batches`);
  assert.equal(recorder.stats().sinks[0]?.written, 10);
  await recorder.close(5_000);
  assert.deepEqual(state.synced, numbers(10));
  assert.deepEqual(state.all, numbers(10));
});

test("after a failed sync everything since the last one is written again, in order, and reported once", async () => {
  const { sink, state, script } = syncedSink();
  const recorder = await startSpool(new ModelDisk(), [sink]);
  for (let i = 0; i < 3; i++) recorder.record(decision());
  await waitFor("the first sync", () => state.synced.length === 3);
  script.failSync = 2;
  for (let i = 0; i < 4; i++) recorder.record(decision());
  await waitFor("everything to be synced", () => state.synced.length === 7);
  await waitFor("everything to be stored", () => recorder.isDelivered());
  assert.deepEqual(state.synced, numbers(7));
  assert.equal(recorder.stats().sinks[0]?.written, 7, "what is written again counts once");
  assert.deepEqual(recorder.failures, ["synced: no sync"]);
  assert.equal(recorder.stats().sinks[0]?.failing, false);
  await recorder.close(5_000);
});

test("after a failed write, what was written before is synced and not written again", async () => {
  const { sink, state, script } = syncedSink();
  const recorder = await startSpool(new ModelDisk(), [sink]);
  recorder.record(decision());
  await waitFor("the first record", () => state.all.length === 1);
  script.failWrite = 2;
  recorder.record(decision());
  await waitFor("the second record", () => state.all.length === 2);
  await recorder.close(5_000);
  assert.deepEqual(state.all, [1, 2]);
  assert.deepEqual(state.synced, [1, 2]);
});

test("a sink that has failed is synced with the next batch that it accepts", async () => {
  const { sink, state, script } = syncedSink();
  const recorder = await startSpool(new ModelDisk(), [sink]);
  script.failWrite = 1;
  for (let i = 0; i < 2; i++) {
    recorder.record(decision());
    await waitFor("the record", () => state.all.length === i + 1);
  }
  assert.ok(state.synced.includes(1), "synced before the second record was written");
  assert.equal(recorder.stats().sinks[0]?.failing, false);
  await recorder.close(5_000);
});

test("if a write and the sync after it fail, the earlier batches are written again, too", async () => {
  const { sink, state, script } = syncedSink();
  const recorder = await startSpool(new ModelDisk(), [sink]);
  recorder.record(decision());
  await waitFor("the first record", () => state.all.length === 1);
  [script.failWrite, script.failSync] = [1, 1];
  recorder.record(decision());
  await waitFor("both to be written", () => state.written.length + state.synced.length === 2);
  await recorder.close(5_000);
  assert.deepEqual(state.synced, [1, 2]);
});

test("a crash between a write and its sync: the next process writes the records again", async () => {
  for (const isPowerLoss of [false, true]) {
    const disk = new ModelDisk();
    const first = syncedSink();
    const killed = await startSpool(disk, [first.sink]);
    for (let i = 0; i < 3; i++) killed.record(decision());
    await waitFor("the first sync", () => first.state.synced.length === 3 && killed.isDelivered());
    for (let i = 0; i < 3; i++) killed.record(decision());
    await waitFor("the last ones to be written", () => first.state.written.length === 3);
    killed.kill();
    const random = randomFrom(1);
    const next = syncedSink();
    const recorder = await startSpool(isPowerLoss ? disk.afterPowerLoss(random) : disk.afterKill(random), [next.sink], {
      boot: "boot-2",
    });
    await waitFor("the records of the killed process", () => next.state.all.length >= 3);
    assert.deepEqual(next.state.all.slice(0, 3), [4, 5, 6]);
    await recorder.close(5_000);
  }
});

const record = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision(`/${seq}`) });

test("a file whose sync failed once does not count as synced, although the next sync succeeds", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "cardea-audit-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "audit.jsonl");
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1)));
  await sink.sync?.();
  const other = await open(path);
  const handles = Object.getPrototypeOf(other) as Pick<typeof other, "datasync">;
  await other.close();
  const failOnce = (): void => {
    t.mock.method(handles, "datasync", async () => Promise.reject(new Error("EIO")), { times: 1 });
  };
  failOnce();
  await sink.write(batchOf(record(2)));
  await assert.rejects(async () => sink.sync?.(), { code: "ERR_AUDIT_FILE_UNSYNCED" });
  await sink.write(batchOf(record(2)));
  await sink.sync?.();

  // The renamed file is synced before it is closed: its failure is the next write's, and that of the sync after it.
  await sink.write(batchOf(record(3)));
  await rename(path, `${path}.1`);
  failOnce();
  await assert.rejects(sink.write(batchOf(record(4))), { code: "ERR_AUDIT_FILE_UNSYNCED" });
  await assert.rejects(async () => sink.sync?.(), { code: "ERR_AUDIT_FILE_UNSYNCED" });
  for (const seq of [3, 4]) await sink.write(batchOf(record(seq)));
  await sink.sync?.();
  await sink.close();
  const inFile = async (name: string): Promise<number[]> =>
    (await readFile(name, "utf8")).split("\n").flatMap((line) => parseLine(line)?.seq ?? []);
  assert.deepEqual(await inFile(`${path}.1`), [1, 2, 2, 3]);
  const emptyLines = (await readFile(`${path}.1`, "utf8")).match(/\n\n/g) ?? [];
  assert.equal(emptyLines.length, 1, "the end of the line before may have been lost with the failed sync");
  assert.deepEqual(await inFile(path), [3, 4]);
});

test("a folder whose sync failed is synced before anything is written to the file", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "cardea-audit-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const sink = createFileSink(join(folder, "audit.jsonl"));
  const other = await open(folder);
  const handles = Object.getPrototypeOf(other) as Pick<typeof other, "sync">;
  await other.close();
  let syncs = 0;
  t.mock.method(handles, "sync", async () => {
    syncs++;
    if (syncs === 1) throw new Error("EMFILE");
  });
  await assert.rejects(sink.write(batchOf(record(1))), /EMFILE/);
  await sink.write(batchOf(record(1)));
  assert.equal(syncs, 2);
  await sink.close();
});
