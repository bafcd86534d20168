/**
 * Abandon services: starts two services, prints what they are, and dies the hardest way there is.
 *
 * They are `sleep`ing children rather than servers: what is tried is the reaper.
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
