/** Where lines of the access log go: all of them, whole, and nobody waits for who reads them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openAccessLog } from "../../src/cli/access-log.ts";
import { TemporaryFolder } from "../support/child.ts";

test("lines arrive whole and in order, and what is left arrives at the end", async () => {
  using folder = new TemporaryFolder("access-log");
  const file = join(folder.path, "out");
  const fd = openSync(file, "a");
  const log = openAccessLog(fd);
  const lines = Array.from({ length: 1_000 }, (_, i) => JSON.stringify({ i, path: "/".padEnd(i % 300, "x") }));
  for (const [i, line] of lines.entries()) {
    assert.equal(log.write(line), true);
    if (i % 100 === 0) writeSync(fd, "a line of another log\n"); // as pino does, at once
  }
  await log.close();
  const read = readFileSync(file, "utf8").split("\n");
  assert.deepEqual(
    read.filter((line) => line.startsWith("{")),
    lines,
  );
  assert.equal(read.filter((line) => line === "a line of another log").length, 10);
});

test("a reader that does not read costs lines, never time or memory without end", async () => {
  using folder = new TemporaryFolder("access-log");
  const pipe = join(folder.path, "pipe");
  execFileSync("mkfifo", [pipe]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
  const log = openAccessLog(writer);
  const line = "x".repeat(1_000);
  let dropped = 0;
  for (let i = 0; i < 10_000; i++) if (!log.write(line)) dropped++;
  assert.ok(dropped > 1_000 && dropped < 10_000, `${dropped} of 10,000 lines of 1 kB were dropped`);
  const bytes = Buffer.alloc(8_192);
  const [first] = bytes.subarray(0, readSync(reader, bytes)).toString().split("\n");
  assert.equal(first, line);
  closeSync(reader);
});
