/**
 * Child: a process that a test starts, breaks and stops. Also temporary folders that are deleted with the test.
 *
 * - The output of a child goes to a log file in its folder.
 * - A child never keeps the test process alive, and never outlives it (reaper.ts).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killTree, pauseTree, resumeTree, signal } from "./process-tree.ts";
import type { ReaperOrder } from "./reaper.ts";

export type ChildSpec = Readonly<{
  command: string;
  args: readonly string[];
  /** Standard output and standard error are appended here. */
  logFile: string;
  cwd?: string;
  /** Added to the environment of the test process. */
  env?: Readonly<Record<string, string>>;
  /** The user to run as; only root may set it. Absent: the user of the test process. */
  user?: Readonly<{ uid: number; gid: number }>;
}>;

export type Exit = Readonly<{ code: number | null; signal: NodeJS.Signals | null }>;

export class Child {
  readonly pid: number;
  /** Resolves once the process has ended. */
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #logFile: string;

  private constructor(process: ChildProcess, pid: number, logFile: string) {
    this.#process = process;
    this.#logFile = logFile;
    this.pid = pid;
    this.exited = once(process, "exit").then(([code, signal]) => {
      reap({ type: "processEnded", pid });
      return { code, signal };
    });
  }

  /** @throws the system's error when the command cannot be run */
  static async start(spec: ChildSpec): Promise<Child> {
    const log = openSync(spec.logFile, "a");
    try {
      const child = spawn(spec.command, spec.args, {
        stdio: ["ignore", log, log],
        detached: true, // a Ctrl-C at the terminal reaches the test alone
        env: { ...process.env, ...spec.env },
        ...(spec.cwd !== undefined && { cwd: spec.cwd }),
        ...spec.user,
      });
      if (child.pid === undefined) {
        const [error] = await once(child, "error");
        throw error;
      }
      child.unref();
      reap({ type: "process", pid: child.pid });
      return new Child(child, child.pid, spec.logFile);
    } finally {
      closeSync(log);
    }
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** The output so far, standard output and standard error together. */
  log(): string {
    return readFileSync(this.#logFile, "utf8");
  }

  signal(name: NodeJS.Signals): void {
    if (this.running) signal(this.pid, name);
  }

  /** Sends the signal, and kills the process if it has not ended after `withinMs`. */
  async end(name: NodeJS.Signals, { withinMs = 10_000 } = {}): Promise<Exit> {
    resumeTree(this.pid);
    this.signal(name);
    const killing = setTimeout(() => killTree(this.pid), withinMs);
    this.#process.ref(); // or the test process might end while it waits
    try {
      return await this.exited;
    } finally {
      clearTimeout(killing);
    }
  }

  /** Kills the process and its children, as a crash would. */
  async kill(): Promise<Exit> {
    if (this.running) killTree(this.pid);
    this.#process.ref();
    return this.exited;
  }

  pause(): void {
    if (this.running) pauseTree(this.pid);
  }

  resume(): void {
    if (this.running) resumeTree(this.pid);
  }
}

/** A new folder that is deleted on disposal, at the latest when the test process ends. */
export class TemporaryFolder {
  readonly path: string;
  constructor(name: string) {
    this.path = mkdtempSync(join(tmpdir(), `cardea-${name}-`));
    reap({ type: "folder", path: this.path });
  }
  remove(): void {
    rmSync(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
  [Symbol.dispose](): void {
    this.remove();
  }
}

/** The only module state: one reaper per test process, which lives as long as that process. */
let reaper: ChildProcess | undefined;

/** Registers something that the reaper cleans up when the test process has ended. */
export function reap(order: ReaperOrder): void {
  reaper ??= startReaper();
  reaper.stdin?.write(`${JSON.stringify(order)}\n`);
}

function startReaper(): ChildProcess {
  const started = spawn(process.execPath, [join(import.meta.dirname, "reaper.ts")], {
    stdio: ["pipe", "ignore", "inherit"],
    detached: true,
  });
  started.unref();
  if (started.stdin !== null && "unref" in started.stdin) (started.stdin as unknown as { unref(): void }).unref();
  started.stdin?.on("error", () => {});
  return started;
}
