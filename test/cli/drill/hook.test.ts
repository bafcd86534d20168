/** Hooks: which options a drill takes, and real commands and processes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { DrillFault } from "../../../src/cli/drill/drill.ts";
import { hookOf } from "../../../src/cli/drill/hook.ts";
import { CannotError, UsageError } from "../../../src/cli/terminal/command.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

const restart: DrillFault = { type: "process", kind: "proxy", how: "restart" };
const pause: DrillFault = { type: "process", kind: "proxy", how: "pause" };
const canary: DrillFault = { type: "canary", change: "remove-member" };
const none = { do: undefined, undo: undefined, noUndo: false, pid: undefined };

test("a drill that changes only the canary takes no command", () => {
  assert.equal(hookOf(none, canary), null);
  assert.throws(() => hookOf({ ...none, do: "true", noUndo: true }, canary), UsageError);
  assert.throws(() => hookOf({ ...none, pid: "123" }, canary), UsageError);
});

test("a drill that stops a process needs a command and its undo, or the words that there is none", () => {
  assert.throws(() => hookOf(none, restart), UsageError);
  assert.throws(() => hookOf({ ...none, do: "true" }, restart), UsageError);
  assert.throws(() => hookOf({ ...none, do: "true", undo: "true", noUndo: true }, restart), UsageError);
  assert.throws(() => hookOf({ ...none, do: "true", noUndo: true }, pause), UsageError);
  assert.throws(() => hookOf({ ...none, do: "true", pid: "123" }, restart), UsageError);
  assert.throws(() => hookOf({ ...none, pid: "1" }, restart), UsageError);
  assert.equal(hookOf({ ...none, do: "a", undo: "b" }, pause)?.undoes, "run: b");
  assert.equal(hookOf({ ...none, do: "a", noUndo: true }, restart)?.undoes, null);
});

test("commands run by the shell, and one that fails says how and what it printed", async () => {
  using folder = new TemporaryFolder("hook");
  const file = join(folder.path, "it's here");
  const hook = hookOf({ ...none, do: `echo done > "${file}"`, undo: `rm "${file}"` }, pause);
  await hook?.inject();
  assert.equal(readFileSync(file, "utf8"), "done\n");
  await hook?.undo();
  assert.ok(!existsSync(file));
  const failing = hookOf({ ...none, do: "echo no such pod >&2; exit 7", noUndo: true }, restart);
  await assert.rejects(
    () => failing?.inject() ?? Promise.resolve(),
    (error) => error instanceof CannotError && /exit 7: no such pod/.test(error.message),
  );
});

test("a local process is stopped and continued by its id", async (t) => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => process.stdout.write('.'), 10)"]);
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  const hook = hookOf({ ...none, pid: String(child.pid) }, pause);
  assert.match(hook?.does ?? "", /SIGSTOP to process \d+ \(.*setInterval/);
  await hook?.inject();
  await waitFor("the process to stop", () => /^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, "utf8")));
  await hook?.undo();
  await waitFor("the process to run", () => !/^State:\s+T/m.test(readFileSync(`/proc/${child.pid}/status`, "utf8")));
});
