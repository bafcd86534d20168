/**
 * Process tree: signals that reach a process and all its descendants.
 *
 * A process group is not enough, because each Postgres backend makes itself the leader of its own group. So a parent is
 * stopped first, to prevent it from starting more children. Then its children are found and treated the same way.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

export function pauseTree(pid: number): void {
  signal(pid, "SIGSTOP");
  for (const child of childrenOf(pid)) pauseTree(child);
}

/** Resumes children first, because a resumed parent might treat silent children as hung. */
export function resumeTree(pid: number): void {
  for (const child of childrenOf(pid)) resumeTree(child);
  signal(pid, "SIGCONT");
}

/** Kills the tree as a power cut would: no process flushes or shuts down. A paused tree is killed too. */
export function killTree(pid: number): void {
  signal(pid, "SIGSTOP");
  for (const child of childrenOf(pid)) killTree(child);
  signal(pid, "SIGKILL");
}

/** @returns whether the process exists */
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

/** Reads the parent after the command's name, which is in parentheses and may hold any character: state, parent, … */
function parentFromProc(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0; // it ended while we were looking
  }
}
