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

test("the simulator, the random faults and the tests run in this order; the last line is that of the tests", () => {
  const { code, lines } = runCi({});
  assert.deepEqual(
    [code, lines.map((line) => line.replace(/ -- .*/, ""))],
    [0, ["npm ci", "npm run simulate", "npm run chaos", "npm test"]],
  );
});

test("a violation under random faults is said before the tests, does not keep them from running, and fails the run", () => {
  const { code, lines } = runCi({ "run chaos": 3 });
  assert.equal(code, 3);
  assert.match(lines.at(-2) ?? "", /npm run chaos ended with 3, so this run will fail/);
  assert.equal(lines.at(-1), "npm test");
});

test("the result of the tests is the result of the run, and a broken build or simulator ends it at once", () => {
  assert.equal(runCi({ test: 1, "run chaos": 3 }).code, 1);
  for (const command of ["ci", "run simulate"]) {
    const { code, lines } = runCi({ [command]: 4 });
    assert.deepEqual([code, lines.includes("npm test")], [4, false]);
  }
});
