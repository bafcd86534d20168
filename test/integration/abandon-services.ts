/**
 * Abandon services: starts two services, prints their ids and folders, and kills itself with SIGKILL.
 *
 * The services are `sleep` processes, because only the reaper is under test.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { Child, TemporaryFolder } from "../support/child.ts";

const folders = [new TemporaryFolder("abandoned"), new TemporaryFolder("abandoned")];
const children = await Promise.all(
  folders.map(({ path }) => Child.start({ command: "sleep", args: ["600"], logFile: join(path, "log") })),
);
children[0]?.pause();
writeSync(1, JSON.stringify({ pids: children.map((child) => child.pid), folders: folders.map(({ path }) => path) }));
process.kill(process.pid, "SIGKILL");
