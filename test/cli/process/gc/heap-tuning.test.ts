/** Heap tuning: how far a heap may grow before the next full collection, and what such a collection copies. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { growthPercentOf } from "../../../../src/cli/process/gc/heap-tuning.ts";

const MB = 1024 * 1024;
/** Whether the process that runs it promotes young pages sooner than V8 does by itself: its tag is of all flags. */
const promotesSooner = `
  import { cachedDataVersionTag, setFlagsFromString } from "node:v8";
  import { tuneHeap } from "${pathToFileURL(join(import.meta.dirname, "../../../../src/cli/process/gc/heap-tuning.ts")).href}";
  tuneHeap();
  const before = cachedDataVersionTag();
  setFlagsFromString("--page-promotion-threshold=70");
  console.log(before !== cachedDataVersionTag());`;

test("a heap may grow by a quarter, and a small one by as many bytes as one of 100 MB, at most to its double", () => {
  assert.equal(growthPercentOf(0), 100);
  assert.equal(growthPercentOf(20 * MB), 100);
  assert.equal(growthPercentOf(40 * MB), 60);
  assert.equal(growthPercentOf(80 * MB), 30);
  assert.equal(growthPercentOf(100 * MB), 25);
  assert.equal(growthPercentOf(4_000 * MB), 25);
});

test("a process that collects on its main thread copies less at the end of a full collection", () => {
  for (const [flag, expected] of [
    ["--single-threaded-gc", "true"],
    ["--no-single-threaded-gc", "false"],
  ] as const) {
    const args = [flag, "--input-type=module", "-e", promotesSooner];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.equal(stdout.trim(), expected, stderr);
  }
});
