/** The script of continuous integration, with an npm of this test: what ends it, what does not, and the last line. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";

const script = new URL("../../.ci/run", import.meta.url);

/** @param failing a command of npm and its exit code */
function runCi(failing: Readonly<Record<string, number>>): Readonly<{ code: number | null; lines: readonly string[] }> {
  using folder = new TemporaryFolder("ci-run");
  const repository = join(folder.path, "repository");
  mkdirSync(join(repository, ".ci"), { recursive: true });
  copyFileSync(script, join(repository, ".ci/run"));
  const cases = Object.entries(failing).map(([command, code]) => `"${command}"*) exit ${code} ;;`);
  const npm = `#!/usr/bin/env bash\necho "npm $*"\ncase "$*" in ${cases.join(" ")} *) exit 0 ;; esac\n`;
  writeFileSync(join(folder.path, "npm"), npm, { mode: 0o755 });
  const { status, stdout } = spawnSync("bash", ["-c", "exec bash .ci/run 2>&1"], {
    cwd: repository,
    encoding: "utf8",
    env: { PATH: `${folder.path}:${process.env["PATH"] ?? ""}` },
  });
  return { code: status, lines: stdout.trim().split("\n") };
}

test("the random faults with the simulator beside them, then the tests; the last line is that of the tests", () => {
  const { code, lines } = runCi({});
  assert.deepEqual(
    [code, lines],
    [0, ["npm ci", "npm run chaos -- --random --minutes 3 --seed 16", "npm run simulate -- --seeds 80", "npm test"]],
  );
});

test("a violation under random faults does not keep the tests from running, fails the run, and is printed at its end", () => {
  const { code, lines } = runCi({ "run chaos": 1 });
  assert.equal(code, 1);
  assert.match(lines[3] ?? "", /npm run chaos ended with 1, so this run will fail/);
  assert.match(lines.at(-3) ?? lines.join(), /npm run chaos/);
  assert.equal(lines.at(-1), "npm test");
  assert.equal(lines.filter((line) => line === "npm run chaos -- --random --minutes 3 --seed 16").length, 2);
});

for (const late of [3, 4]) {
  test(`chaos that ends with ${late} runs once more, and fails the run if it does so again`, () => {
    const { code, lines } = runCi({ "run chaos": late });
    assert.equal(code, late);
    assert.ok(lines.includes(`npm run chaos ended with ${late}; once more.`));
    assert.equal(lines.at(-1), "npm test");
  });
}

test("the result of the tests is the result of the run, and a broken build or simulator ends it before them", () => {
  assert.equal(runCi({ test: 1, "run chaos": 3 }).code, 1);
  for (const command of ["ci", "run simulate"]) {
    const { code, lines } = runCi({ [command]: 4 });
    assert.deepEqual([code, lines.includes("npm test")], [4, false]);
  }
  assert.equal(runCi({ "run simulate": 1 }).lines.at(-2), "npm run simulate -- --seeds 80");
});
