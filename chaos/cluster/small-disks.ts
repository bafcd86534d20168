/**
 * Small disks: a file system in memory for the audit spool of each proxy, so that it can be full.
 *
 * They are mounted in a mount namespace of their own, which a helper process holds and the proxies enter. So they
 * survive a kill of a proxy, nothing is mounted on the machine itself, and all end with the helper. Where a process may
 * not mount, there are none: spools are then in ordinary folders, and no disk fills up.
 */
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { Child } from "../../test/support/child.ts";

export type SmallDisks = Readonly<{
  /** The spool folder of a process, as the process sees it. */
  folder(process: string): string;
  /** The command that runs in the namespace, before the command of a process. Empty: there is none. */
  enter: readonly string[];
  /** Whether disks can fill up. */
  mounted: boolean;
  /** Leaves no byte free. */
  fill(process: string): Promise<void>;
  free(process: string): Promise<void>;
  stop(): Promise<void>;
}>;

const run = promisify(execFile);
const diskBytes = 64 * 1_024 * 1_024;
const mountWithinMs = 5_000;
const pollEveryMs = 20;
const fillerName = "filler";
const pieces = [1_048_576, 4_096, 1];

export async function startSmallDisks(processes: readonly string[], folder: string): Promise<SmallDisks> {
  const root = join(folder, "spools");
  for (const process of processes) mkdirSync(join(root, process), { recursive: true, mode: 0o700 });
  const folderOf = (process: string): string => join(root, process);
  const holder = processes.length === 0 ? null : await mount(processes.map(folderOf), join(folder, "small-disks.log"));
  if (holder === null)
    return {
      folder: folderOf,
      enter: [],
      mounted: false,
      fill: () => Promise.reject(new Error("there is no small disk")),
      free: async () => {},
      stop: async () => {},
    };
  const filler = (process: string): string => join(`/proc/${holder.pid}/root${folderOf(process)}`, fillerName);
  return {
    folder: folderOf,
    enter: ["nsenter", "--mount", "--target", String(holder.pid), "--"],
    mounted: true,
    fill: (process) => fill(filler(process)),
    free: (process) => rm(filler(process), { force: true }),
    stop: async () => void (await holder.kill()),
  };
}

/** @returns the process that holds the namespace; null: mounting is not permitted here */
async function mount(folders: readonly string[], logFile: string): Promise<Child | null> {
  try {
    await run("unshare", ["--mount", "true"]);
  } catch {
    return null;
  }
  const mounts = folders.map((path) => `mount -t tmpfs -o size=${diskBytes},mode=0700 disk '${path}'`);
  const script = [...mounts, `touch ${folders.map((path) => `'${join(path, "mounted")}'`).join(" ")}`].join(" && ");
  const holder = await Child.start({
    command: "unshare",
    args: ["--mount", "sh", "-c", `${script} && exec sleep 1000000`],
    logFile,
  });
  const last = join(`/proc/${holder.pid}/root${folders.at(-1)}`, "mounted");
  for (const giveUpAt = performance.now() + mountWithinMs; holder.running && performance.now() < giveUpAt; ) {
    const isThere = await stat(last).then(
      () => true,
      () => false,
    );
    if (isThere) return holder;
    await delay(pollEveryMs);
  }
  await holder.kill();
  return null;
}

async function fill(path: string): Promise<void> {
  const file = await open(path, "a", 0o600);
  try {
    for (const size of pieces) {
      const piece = Buffer.alloc(size);
      while (await wrote(file.appendFile(piece)));
    }
  } finally {
    await file.close();
  }
}

async function wrote(writing: Promise<void>): Promise<boolean> {
  try {
    await writing;
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOSPC") return false;
    throw error;
  }
}
