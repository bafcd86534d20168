/** Pinned process: a server on one core, started until its port answers, with its processor time and memory. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const readyMsMax = 120_000;

export type Pinned = Readonly<{
  stop(): Promise<void>;
  /** Milliseconds of a core, of all its processes and threads. A busy machine does not distort it. */
  cpuMs(): number;
  /** Resident bytes now, of all its processes. */
  rssBytes(): number;
  /** How it ended, with the end of its output; null: it runs. */
  ended(): string | null;
}>;

export async function startPinned(
  core: string,
  command: string,
  args: readonly string[],
  port: number,
): Promise<Pinned> {
  const child = spawn("taskset", ["-c", core, command, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.on("data", (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-2_000);
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const giveUpAt = performance.now() + readyMsMax;
  while (!(await answers(port))) {
    if (child.exitCode !== null || performance.now() > giveUpAt)
      throw new Error(`${command} did not come up on port ${port}: ${output}`);
    await sleep(50);
  }
  return {
    async stop() {
      child.kill("SIGTERM");
      await Promise.race([exited, sleep(5_000)]);
      child.kill("SIGKILL");
    },
    cpuMs: () => cpuMsOf(child.pid ?? 0),
    rssBytes: () => rssBytes(child.pid ?? 0),
    ended: () =>
      child.exitCode === null && child.signalCode === null
        ? null
        : `${command} ended with ${child.signalCode ?? child.exitCode}: ${output}`,
  };
}

/** From the scheduler's count, in nanoseconds. */
export function cpuMsOf(pid: number): number {
  let total = 0;
  for (const task of readdirSync(`/proc/${pid}/task`))
    total += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]) / 1e6;
  for (const child of childrenOf(pid)) total += cpuMsOf(child);
  return total;
}

function rssBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return childrenOf(pid).reduce((sum, child) => sum + rssBytes(child), Number(kilobytes ?? 0) * 1_024);
}

function childrenOf(pid: number): readonly number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").split(" ").filter(Boolean).map(Number),
  );
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
