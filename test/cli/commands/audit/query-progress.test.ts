/** Progress of a search: one line on a terminal, which is gone before anything else is printed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createProgress } from "../../../../src/cli/commands/audit/query-progress.ts";

function progressOn({ interactive }: Readonly<{ interactive: boolean }>) {
  let now = 0;
  const written: string[] = [];
  const terminal = { out() {}, err: (text: string) => written.push(text), interactive, env: {} };
  const progress = createProgress({ ...terminal, err: (text) => void terminal.err(text) }, () => now);
  return {
    written,
    progress,
    wait(ms: number) {
      now += ms;
    },
  };
}

test("it is drawn five times a second at most, and removed once", () => {
  const { written, progress, wait } = progressOn({ interactive: true });
  for (let i = 0; i < 1_000; i++) {
    wait(1);
    progress.update(i * 1_048_576, 1_000 * 1_048_576, "bytes");
  }
  assert.equal(written.length, 5);
  assert.equal(written[0], "\r\u001b[2K19 % of 1000 MiB read");
  progress.clear();
  progress.clear();
  assert.deepEqual(written.slice(5), ["\r\u001b[2K"]);
  wait(1_000);
  progress.update(3, 90, "days");
  assert.equal(written.at(-1), "\r\u001b[2K3 of 90 days read");
});

test("without a terminal nothing is drawn", () => {
  const { written, progress, wait } = progressOn({ interactive: false });
  wait(1_000);
  progress.update(1, 2, "segments");
  progress.clear();
  assert.deepEqual(written, []);
});
