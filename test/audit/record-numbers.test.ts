/** The numbers of decision records: records lost by a killed process show after its restart. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type AuditRecord, openRecordNumbers, parseLine, recordNumbersFile } from "../../src/audit/index.ts";
import type { NumbersMark, NumbersStore } from "../../src/audit/record-numbers.ts";
import type { BootId } from "../../src/events/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";

const boot = "boot-new" as BootId;

/** A disk, and a clock that the test controls. */
function world(before: NumbersMark | null = null) {
  const marks: NumbersMark[] = [];
  const state = { written: 0, disk: "works" as "works" | "fails" | "hangs", failures: 0 };
  const sleeping = new Set<() => void>();
  const store: NumbersStore = {
    read: async () => before,
    async write(mark) {
      if (state.disk === "hangs") await new Promise(() => {});
      if (state.disk === "fails") throw new Error("no space left on device");
      marks.push(mark);
    },
  };
  const open = () =>
    openRecordNumbers({
      ...{ boot, store, written: () => state.written, onFailure: () => void state.failures++ },
      sleep: (_ms, signal) =>
        new Promise((resolve, reject) => {
          sleeping.add(resolve);
          signal?.addEventListener("abort", () => reject(signal.reason));
        }),
    });
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const second = async (): Promise<void> => {
    for (const resolve of sleeping) resolve();
    sleeping.clear();
    await turns();
  };
  return { marks, state, open, second, turns };
}

test("every number is reserved on disk before it is used, and the next block before the first is used up", async () => {
  const { marks, open, turns } = world();
  const numbers = await open();
  assert.deepEqual(marks, [{ boot, written: 0, used: 0, reserved: 50_000 }]);
  for (let number = 1; number <= 200_000; number++) {
    numbers.use(number);
    if (number % 10_000 === 0) await turns();
    const reserved: number = marks.at(-1)?.reserved ?? 0;
    if (number % 10_000 === 0) assert.ok(number + 25_000 <= reserved, `${number} of ${reserved}`);
  }
  assert.equal(numbers.unreserved(), 0);
  assert.ok(marks.length < 30, "numbers are reserved in blocks");
});

test("an idle process writes nothing, and one that records renews its mark once a second", async () => {
  const { marks, state, open, second, turns } = world();
  const numbers = await open();
  numbers.use(1);
  await turns();
  for (let number = 2; number <= 1_000; number++) numbers.use(number);
  assert.equal(marks.length, 2);
  state.written = 990;
  await second();
  assert.deepEqual(marks.at(-1), { boot, written: 990, used: 1_000, reserved: 51_000 });
  state.written = 1_000;
  await second();
  assert.equal(marks.at(-1)?.written, 1_000);
  const { length } = marks;
  for (let i = 0; i < 5; i++) await second();
  assert.equal(marks.length, length);
});

test("a disk that fails or hangs delays no request: numbers continue and are counted as unreserved", async () => {
  for (const disk of ["fails", "hangs"] as const) {
    const { state, open, second, turns } = world();
    const numbers = await open();
    state.disk = disk;
    for (let number = 1; number <= 60_000; number++) numbers.use(number);
    await turns();
    assert.equal(numbers.unreserved(), 10_000);
    if (disk === "hangs") continue;
    assert.equal(state.failures, 1, "logged once");
    state.disk = "works";
    await second();
    for (let number = 60_001; number <= 60_100; number++) numbers.use(number);
    assert.equal(numbers.unreserved(), 10_000);
  }
});

test("after an orderly stop the next boot declares no loss; after any other end it does", async () => {
  const orderly = world();
  const numbers = await orderly.open();
  for (let number = 1; number <= 10; number++) numbers.use(number);
  orderly.state.written = 10;
  await numbers.close();
  assert.deepEqual(orderly.marks.at(-1), { boot, written: 10, used: 10, reserved: 10 });
  assert.equal((await world(orderly.marks.at(-1)).open()).ended, null);

  const lossy = world();
  const lost = await lossy.open();
  for (let number = 1; number <= 10; number++) lost.use(number);
  lossy.state.written = 7; // the sink had not accepted the rest when the process ended
  await lost.close();
  assert.deepEqual((await world(lossy.marks.at(-1)).open()).ended, { boot, written: 7, used: 10, reserved: 10 });
});

test("after kill -9 the next boot's first record names the numbers that may be lost", async (t) => {
  const folder = new TemporaryFolder("record-numbers");
  t.after(() => folder.remove());
  const start = async (name: string, records: number) => {
    const script = join(import.meta.dirname, "killed-recorder.ts");
    const child = spawn(process.execPath, [script, folder.path, name, String(records)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    await once(child.stdout, "data");
    return child;
  };
  const mark = (): NumbersMark => JSON.parse(readFileSync(join(folder.path, "records-node-1"), "utf8")) as NumbersMark;
  const lines = (): (AuditRecord | undefined)[] =>
    readFileSync(join(folder.path, "audit.jsonl"), "utf8").split("\n").filter(Boolean).map(parseLine);

  const first = await start("boot-1", 500);
  await waitFor("the mark to show the used numbers", async () => mark().used === 500 && mark().written === 100);
  first.kill("SIGKILL");
  await once(first, "exit");
  assert.equal(lines().length, 100, "the file does not show that 400 records are lost");

  const second = await start("boot-2", 100);
  const [gap] = lines().filter((record) => record?.kind === "gap");
  assert.ok(gap?.kind === "gap");
  const { seq, first: from, last, ended, node, boot: own } = gap;
  assert.deepEqual(
    [seq, from, last, node, own],
    [1, 1, 1, "node-1", "boot-2"],
    "a gap record that older readers understand",
  );
  assert.deepEqual([ended?.boot, ended?.written, ended?.used], ["boot-1", 100, 500]);
  assert.ok((ended?.reserved ?? 0) >= 500);
  second.stdin.end();
  await once(second, "exit");
  assert.equal(mark().boot, "boot-2");
  assert.equal(mark().reserved, mark().used, "an orderly stop leaves no reserved numbers");
});

test("a damaged mark is logged and does not prevent the start", async (t) => {
  const folder = new TemporaryFolder("record-numbers");
  t.after(() => folder.remove());
  const path = join(folder.path, "records-node-1");
  for (const damaged of ["", "{", "null", '{"boot":"b","written":-1,"used":0,"reserved":0}']) {
    writeFileSync(path, damaged);
    const logged: unknown[] = [];
    const store = recordNumbersFile(path, (error) => logged.push(error));
    assert.equal(await store.read(), null);
    assert.equal(logged.length, 1, damaged);
    await store.write({ boot, written: 1, used: 2, reserved: 3 });
    assert.deepEqual(await store.read(), { boot, written: 1, used: 2, reserved: 3 });
  }
});
