/** Services from local binaries, and the reaper that ends them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { startNats } from "../support/nats.ts";
import { startPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/wait-for.ts";
import { describeServices } from "./service-suite.ts";

describeServices("services of this machine", { startPostgres, startNats });

test("no service survives its test process, even if that process is killed and the services are paused", async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, "abandon-services.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [printed] = await Promise.all([text(child.stdout), once(child, "exit")]);
  const abandoned = JSON.parse(printed) as { pids: number[]; folders: string[] };
  assert.equal(abandoned.pids.length, 2);
  assert.equal(abandoned.folders.length, 2);
  await waitFor("the processes to be gone", () => abandoned.pids.every((pid) => !isAlive(pid)));
  await waitFor("the folders to be gone", () => abandoned.folders.every((folder) => !existsSync(folder)));
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
