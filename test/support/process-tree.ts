/**
 * Process tree: signals that reach a process and everything it started.
 *
 * A process group is not enough: each Postgres backend makes itself the leader of a group of its own. So a parent is
 * stopped first, that it cannot start more, and then its children are looked up and treated the same way.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

export function pauseTree(pid: number): void {
  signal(pid, "SIGSTOP");
  for (const child of childrenOf(pid)) pauseTree(child);
}

/** Children first: a parent that wakes to find them silent might think them hung. */
export function resumeTree(pid: number): void {
  for (const child of childrenOf(pid)) resumeTree(child);
  signal(pid, "SIGCONT");
}

/** As a power cut would: nothing is flushed, nobody says goodbye. A paused tree dies as well. */
export function killTree(pid: number): void {
  signal(pid, "SIGSTOP");
  for (const child of childrenOf(pid)) killTree(child);
  signal(pid, "SIGKILL");
}

/** @returns whether there was such a process */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

function childrenOf(parent: number): number[] {
  return allProcesses()
    .filter((each) => each.parent === parent)
    .map((each) => each.pid);
}

type Process = Readonly<{ pid: number; parent: number }>;

function allProcesses(): Process[] {
  if (!existsSync("/proc/self/stat")) {
    const rows = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
    return rows.map((row) => {
      const [pid, parent] = row.trim().split(/\s+/).map(Number);
      return { pid: pid ?? 0, parent: parent ?? 0 };
    });
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: parentFromProc(name) }));
}

/** The fields behind the command's name, which stands in parentheses and may hold anything: state, parent, … */
function parentFromProc(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0; // it ended while we were looking
  }
}
