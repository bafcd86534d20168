/** Rotation of the audit file: by size and time, compressed, bounded, and whole after a crash at any step. */
import assert from "node:assert/strict";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { type AuditRecord, auditFiles, createFileSink, parseLine } from "../../src/audit/index.ts";
import type { FileRotation } from "../../src/config/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { batchOf, decision } from "./support.ts";

const day = 86_400_000;
const noon = Date.UTC(2026, 10, 30, 12);
const record = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision(`/${"x".repeat(300)}`) });
/** Two records fit in a file. */
const fileBytesMax = Math.floor(2.5 * batchOf(record(10)).bytes.length);
const rotationDefault: FileRotation = {
  ...{ fileBytesMax, everyMs: null, keepFiles: 100, keepBytes: 1_000_000_000, compress: true },
};

function world(t: TestContext, live = "decisions.jsonl") {
  const folder = new TemporaryFolder("rotation");
  t.after(() => folder.remove());
  const path = join(folder.path, live);
  const clock = { nowMs: noon };
  const failures: string[] = [];
  const textOf = (file: string): string => {
    const bytes = readFileSync(file);
    return (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
  };
  return {
    ...{ path, clock, failures, folder: folder.path },
    openSink: (rotation: Partial<FileRotation> = {}) =>
      createFileSink(path, {
        rotation: { ...rotationDefault, ...rotation },
        nowMs: () => clock.nowMs,
        onFailure: (error) => failures.push(String(error)),
      }),
    names: () => readdirSync(folder.path).sort(),
    /** The numbers that readers find, in their order, repetitions included. */
    numbers: () =>
      auditFiles(path, 0).flatMap((file) =>
        textOf(file)
          .split("\n")
          .flatMap((line) => parseLine(line)?.seq ?? []),
      ),
  };
}

const isSettled = (names: readonly string[]): boolean =>
  names.every((name) => name === "decisions.jsonl" || /^decisions.*\.jsonl\.gz$/.test(name));

test("a full file is renamed and compressed, and readers find all records in order", async (t) => {
  const { openSink, names, numbers, folder } = world(t);
  const sink = openSink();
  for (let seq = 1; seq <= 9; seq++) await sink.write(batchOf(record(seq)));
  await waitFor("the renamed files to be compressed", () => isSettled(names()));
  await sink.close();
  assert.ok(names().length > 3);
  assert.ok(names().some((name) => /^decisions-20261130T120000000Z-[0-9a-f]{6}\.jsonl\.gz$/.test(name)));
  assert.deepEqual(numbers(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (const name of names()) {
    assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
    assert.ok(!name.endsWith(".gz") || gunzipSync(readFileSync(join(folder, name))).length <= fileBytesMax, name);
  }
});

test("a batch larger than the bound has a file of its own", async (t) => {
  const { openSink, numbers, names } = world(t);
  const sink = openSink({ compress: false });
  await sink.write(batchOf(record(1)));
  await sink.write(batchOf(record(2), record(3), record(4), record(5)));
  await sink.write(batchOf(record(6)));
  await sink.close();
  assert.deepEqual([names().length, numbers()], [3, [1, 2, 3, 4, 5, 6]]);
});

test("at the end of a period the file is renamed at the next record, also by the next process", async (t) => {
  const { openSink, names, numbers, path, clock } = world(t);
  const rotation = { everyMs: day, fileBytesMax: 1_000_000, compress: false };
  const sink = openSink(rotation);
  const writtenAt = (ms: number): void => utimesSync(path, ms / 1_000, ms / 1_000);
  await sink.write(batchOf(record(1)));
  writtenAt(noon);
  await sink.write(batchOf(record(2)));
  writtenAt(noon + day / 2 - 1);
  assert.equal(names().length, 1);
  clock.nowMs = noon + day / 2;
  await sink.write(batchOf(record(3)));
  writtenAt(clock.nowMs);
  assert.match(names().join(), /^decisions-20261201T000000000Z-[0-9a-f]{6}\.jsonl,decisions\.jsonl$/);
  await sink.close();
  clock.nowMs += day;
  const next = openSink(rotation);
  await next.write(batchOf(record(4)));
  await next.close();
  assert.equal(names().length, 3);
  assert.deepEqual(numbers(), [1, 2, 3, 4]);
});

test("the oldest files beyond the bound of count or bytes are deleted, and none that the operator renamed", async (t) => {
  const { openSink, names, numbers, path, clock } = world(t);
  const sink = openSink({ keepFiles: 2, compress: false });
  await sink.write(batchOf(record(1)));
  renameSync(path, `${path}.1`);
  copyFileSync(`${path}.1`, join(path, "..", "decisions-2026-11-01.jsonl"));
  for (let seq = 2; seq <= 12; seq++) {
    clock.nowMs += 1_000;
    await sink.write(batchOf(record(seq)));
  }
  const rotated = (): string[] => names().filter((name) => /-\d{8}T/.test(name));
  await waitFor("the oldest to be deleted", () => rotated().length === 2);
  await sink.close();
  assert.ok(names().includes("decisions.jsonl.1") && names().includes("decisions-2026-11-01.jsonl"));
  assert.deepEqual(new Set(numbers()), new Set([1, 8, 9, 10, 11, 12]));
  const small = openSink({ keepBytes: fileBytesMax, compress: false });
  await small.write(batchOf(record(13)));
  await waitFor("the bound of bytes", () => rotated().length === 1);
  await small.close();
});

test("the newest full file stays though its batch is longer than the bound of bytes", async (t) => {
  const { openSink, names, numbers, clock } = world(t);
  const sink = openSink({ keepBytes: fileBytesMax, compress: false });
  for (const first of [1, 6, 11]) {
    clock.nowMs += 1_000;
    await sink.write(batchOf(...[0, 1, 2, 3, 4].map((n) => record(first + n))));
  }
  await waitFor("the oldest to be deleted", () => names().length === 2);
  await sink.close();
  assert.deepEqual(numbers(), [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
});

test("a file without the extension keeps its name in front", async (t) => {
  const { openSink, names, numbers } = world(t, "audit.log");
  const sink = openSink();
  for (let seq = 1; seq <= 5; seq++) await sink.write(batchOf(record(seq)));
  await waitFor("the renamed files to be compressed", () =>
    names().every((name) => /log$|Z-[0-9a-f]{6}\.gz$/.test(name)),
  );
  await sink.close();
  assert.ok(names().some((name) => /^audit\.log-20261130T120000000Z-[0-9a-f]{6}\.gz$/.test(name)));
  assert.deepEqual(numbers(), [1, 2, 3, 4, 5]);
});

test("after a crash at any step of a rotation every record is found once", async (t) => {
  const plain = "decisions-20261130T110000000Z-00ff00.jsonl";
  const steps: Readonly<Record<string, (folder: string) => void>> = {
    "renamed, no new file": () => undefined,
    "half compressed": (folder) =>
      writeFileSync(
        join(folder, `.${plain}.gz.999999.partial`),
        gzipSync(readFileSync(join(folder, plain))).subarray(0, 50),
      ),
    "compressed under the temporary name": (folder) =>
      writeFileSync(join(folder, `.${plain}.gz.999999.partial`), gzipSync(readFileSync(join(folder, plain)))),
    "compressed, the plain file is still there": (folder) =>
      writeFileSync(join(folder, `${plain}.gz`), gzipSync(readFileSync(join(folder, plain)))),
  };
  for (const [step, leave] of Object.entries(steps)) {
    const { openSink, names, numbers, folder, failures } = world(t);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, plain), batchOf(record(1), record(2)).bytes);
    leave(folder);
    assert.deepEqual(numbers(), [1, 2], step);
    for (const name of names()) utimesSync(join(folder, name), noon / 1_000 - 7_200, noon / 1_000 - 7_200);
    const sink = openSink();
    await sink.write(batchOf(record(3)));
    await waitFor(`the file to be compressed: ${step}`, () => isSettled(names()));
    await sink.close();
    assert.deepEqual(names(), [`${plain}.gz`, "decisions.jsonl"], step);
    assert.deepEqual([numbers(), failures], [[1, 2, 3], []], step);
  }
});

test("names sort like the renames, and no name is used twice", async (t) => {
  const { openSink, names, folder } = world(t);
  writeFileSync(join(folder, "decisions-20261130T120000000Z-000000.jsonl.gz"), gzipSync("old"));
  writeFileSync(join(folder, "decisions-20261130T120000001Z-000000.jsonl"), "old");
  const sink = openSink({ compress: false });
  for (let seq = 1; seq <= 3; seq++) await sink.write(batchOf(record(seq)));
  await sink.close();
  assert.ok(names().some((name) => name.startsWith("decisions-20261130T120000002Z-")));
  assert.equal(readFileSync(join(folder, "decisions-20261130T120000001Z-000000.jsonl"), "utf8"), "old");
});

test("two processes choose different names at the same moment", async (t) => {
  const chosen = [world(t), world(t)].map(async ({ openSink, names }) => {
    const sink = openSink({ compress: false });
    for (let seq = 1; seq <= 3; seq++) await sink.write(batchOf(record(seq)));
    await sink.close();
    return names()[0];
  });
  const [one, other] = await Promise.all(chosen);
  assert.match(one ?? "", /^decisions-20261130T120000000Z-/);
  assert.notEqual(one, other);
});

test("two processes that rename at the same moment do not overwrite each other's file", async (t) => {
  for (let round = 0; round < 5; round++) {
    const { openSink, numbers, names } = world(t);
    const sinks = [openSink({ compress: false }), openSink({ compress: false })];
    const write = async (sink: ReturnType<typeof openSink>, from: number): Promise<void> => {
      for (let seq = from; seq < from + 8; ) {
        const isWritten = await sink.write(batchOf(record(seq))).then(
          () => true,
          () => false,
        );
        if (isWritten) seq++;
      }
    };
    await Promise.all(sinks.map((sink, i) => write(sink, 1 + 100 * i)));
    for (const sink of sinks) await sink.close();
    assert.equal(new Set(numbers()).size, 16, names().join());
  }
});

test("a batch that was written to a file which another process renamed meanwhile is written again", async (t) => {
  const { path, numbers } = world(t);
  const sink = createFileSink(path);
  await sink.write(batchOf(record(1)));
  const other = await open(path);
  const handles = Object.getPrototypeOf(other) as Pick<typeof other, "write">;
  await other.close();
  const { write } = handles;
  t.mock.method(
    handles,
    "write",
    function (this: typeof other, ...args: Parameters<typeof write>) {
      renameSync(path, `${path}.1`);
      return write.apply(this, args);
    },
    { times: 1 },
  );
  await assert.rejects(sink.write(batchOf(record(2))), { code: "ERR_AUDIT_FILE_MOVED" });
  await sink.write(batchOf(record(2)));
  await sink.close();
  assert.deepEqual(numbers(), [1, 2, 2]);
  assert.match(readFileSync(path, "utf8"), /"seq":2/);
});

test("two processes share one file: every record of both is found", async (t) => {
  const { openSink, numbers, names } = world(t);
  const [a, b] = [openSink(), openSink()];
  const write = async (sink: ReturnType<typeof openSink>, seq: number): Promise<void> => {
    for (;;) {
      try {
        return await sink.write(batchOf(record(seq)));
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  };
  const all = async (sink: ReturnType<typeof openSink>, from: number): Promise<void> => {
    for (let seq = from; seq < from + 60; seq++) await write(sink, seq);
  };
  await Promise.all([all(a, 1), all(b, 101)]);
  await waitFor("the renamed files to be compressed", () => isSettled(names()));
  await Promise.all([a.close(), b.close()]);
  assert.equal(new Set(numbers()).size, 120);
});
