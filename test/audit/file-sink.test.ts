/** The audit file: readable by its owner only, rotated from outside, and no partial line is ever read as a record. */
import assert from "node:assert/strict";
import { appendFile, chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type AuditRecord, createFileSink, parseLine } from "../../src/audit/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { ModelDisk } from "./spool/model-disk.ts";
import { startSpool } from "./spool/spool-support.ts";
import { batchOf, decision } from "./support.ts";

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "cardea-audit-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

const record = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision(`/${seq}`) });
const numbersIn = async (path: string): Promise<number[]> =>
  (await readFile(path, "utf8"))
    .split("\n")
    .map(parseLine)
    .filter((each) => each !== undefined)
    .map(({ seq }) => seq);

test("only the owner can read the file and its folder, and records are lines of JSON", async (t) => {
  const path = join(await folder(t), "deep", "er", "audit.jsonl");
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1), record(2)));
  await sink.write(batchOf(record(3)));
  await sink.close();
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal((await stat(join(path, ".."))).mode & 0o777, 0o700);
  const lines = (await readFile(path, "utf8")).split("\n");
  assert.equal(lines.length, 4);
  assert.equal(lines[3], "");
  assert.deepEqual(lines.slice(0, 3).map(parseLine), [record(1), record(2), record(3)]);
});

test("a renamed file is followed by a new one at the next batch, and a removed one too", async (t) => {
  const path = join(await folder(t), "audit.jsonl");
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1)));
  await rename(path, `${path}.1`);
  await sink.write(batchOf(record(2)));
  assert.deepEqual(await numbersIn(`${path}.1`), [1]);
  assert.deepEqual(await numbersIn(path), [2]);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await rm(path);
  await sink.write(batchOf(record(3)));
  assert.deepEqual(await numbersIn(path), [3]);
  await rm(join(path, ".."), { recursive: true });
  await sink.write(batchOf(record(4)));
  assert.deepEqual(await numbersIn(path), [4]);
  await sink.close();
});

test("an existing file is appended to, and a partial line left by a crash damages no record", async (t) => {
  const path = join(await folder(t), "audit.jsonl");
  await writeFile(path, `${JSON.stringify(record(1))}\n{"kind":"decision","seq":2,"pa`);
  const sink = createFileSink(path);
  await sink.write(batchOf(record(3)));
  await sink.close();
  assert.deepEqual(await numbersIn(path), [1, 3]);
  const again = createFileSink(path);
  await again.write(batchOf(record(4)));
  await again.close();
  assert.ok(!(await readFile(path, "utf8")).includes("\n\n"), "no empty line unless the last one is partial");
});

test("a disk that fails for a while loses no record", async (t) => {
  const at = await folder(t);
  const path = join(at, "inner", "audit.jsonl");
  await writeFile(join(at, "inner"), "a file where the folder should be");
  const recorder = await startSpool(new ModelDisk(), [createFileSink(path)]);
  for (let i = 0; i < 3; i++) recorder.record(decision());
  while (recorder.failures.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await rm(join(at, "inner"));
  recorder.record(decision());
  await waitFor("all records to be written", () => recorder.stats().sinks[0]?.written === 4);
  await recorder.close(5_000);
  assert.deepEqual(await numbersIn(path), [1, 2, 3, 4]);
});

test("foreign lines in the file are skipped on reading", async (t) => {
  const path = join(await folder(t), "audit.jsonl");
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1)));
  await appendFile(path, 'null\n"text"\n[]\n{}\n{"kind":"decision","seq":"one"}\n{"kind":"odd","seq":3}\nnot json\n');
  await sink.write(batchOf(record(2)));
  await sink.close();
  assert.deepEqual(await numbersIn(path), [1, 2]);
});

test("a stricter mode set by the operator stays", async (t) => {
  const at = await folder(t);
  const path = join(at, "audit.jsonl");
  await mkdir(at, { recursive: true });
  await writeFile(path, "");
  await chmod(path, 0o640);
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1)));
  await sink.close();
  assert.equal((await stat(path)).mode & 0o777, 0o640, "the mode of an existing file stays");
});
