/**
 * Reaper: a process beside the test process that cleans up after it, even after a SIGKILL.
 *
 * - It reads from its standard input which processes to end and what to delete.
 * - When that pipe closes, the test process has ended. The reaper then cleans up and ends too.
 * - It touches nothing that was not listed on that input.
 */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { killTree } from "./process-tree.ts";

export type ReaperOrder =
  | Readonly<{ type: "process"; pid: number }>
  | Readonly<{ type: "processEnded"; pid: number }>
  | Readonly<{ type: "folder"; path: string }>
  | Readonly<{ type: "container" | "network"; id: string }>
  | Readonly<{ type: "compose"; project: string; file: string; images: readonly string[] }>
  | Readonly<{ type: "composeEnded"; project: string }>;

for (const ignored of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(ignored, () => {});

const pids = new Set<number>();
const folders = new Set<string>();
const containers = new Set<string>();
const networks = new Set<string>();
const projects = new Map<string, Extract<ReaperOrder, { type: "compose" }>>();
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as ReaperOrder;
  if (order.type === "process") pids.add(order.pid);
  else if (order.type === "processEnded") pids.delete(order.pid);
  else if (order.type === "folder") folders.add(order.path);
  else if (order.type === "compose") projects.set(order.project, order);
  else if (order.type === "composeEnded") projects.delete(order.project);
  else if (order.type === "container") containers.add(order.id);
  else networks.add(order.id);
}
for (const pid of pids) killTree(pid);
for (const path of folders) rmSync(path, { recursive: true, force: true, maxRetries: 5 });
for (const { project, file, images } of projects.values()) {
  const down = ["--volumes", "--remove-orphans", "--timeout", "1"];
  spawnSync("docker", ["compose", "--file", file, "--project-name", project, "down", ...down], { stdio: "ignore" });
  spawnSync("docker", ["image", "rm", "--no-prune", ...images], { stdio: "ignore" });
}
if (containers.size + networks.size > 0) {
  const { getContainerRuntimeClient } = await import("testcontainers");
  const engine = await getContainerRuntimeClient();
  const alreadyRemoved = () => undefined; // usually the test has removed it already
  for (const id of containers)
    await engine.container.getById(id).remove({ force: true, v: true }).catch(alreadyRemoved);
  for (const id of networks) await engine.network.getById(id).remove().catch(alreadyRemoved);
}
