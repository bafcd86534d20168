/**
 * Hook: the operator's own means to stop one process and to bring it back: a command with its undo, or a local pid.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { CannotError, UsageError } from "../terminal/command.ts";
import type { DrillFault } from "./drill.ts";

export type Hook = Readonly<{
  /** What `inject` does, as a line of the plan. */
  does: string;
  /** What `undo` does; null: the command undoes itself. */
  undoes: string | null;
  /** @throws CannotError */
  inject(): Promise<void>;
  /** @throws CannotError */
  undo(): Promise<void>;
}>;

const commandMsMax = 120_000;
const outputCharsMax = 2_000;

/** @throws UsageError */
export function hookOf(
  given: Readonly<{ do: string | undefined; undo: string | undefined; noUndo: boolean; pid: string | undefined }>,
  fault: DrillFault,
): Hook | null {
  if (fault.type === "canary") {
    if (given.do !== undefined || given.undo !== undefined || given.noUndo || given.pid !== undefined)
      throw new UsageError("this drill changes only the canary: leave out --do, --undo, --no-undo and --pid");
    return null;
  }
  if (given.pid !== undefined) {
    if (given.do !== undefined || given.undo !== undefined || given.noUndo)
      throw new UsageError("give either --pid, or --do with --undo");
    return pidHook(given.pid, fault.how);
  }
  if (given.do === undefined)
    throw new UsageError(
      fault.how === "restart"
        ? "name the command that restarts the process: --do COMMAND, with --undo COMMAND or --no-undo; or --pid PID"
        : "name the command that stops the process: --do COMMAND with --undo COMMAND; or --pid PID",
    );
  if ((given.undo === undefined) === !given.noUndo)
    throw new UsageError("--do needs either --undo COMMAND, or --no-undo if the process comes back by itself");
  if (fault.how === "pause" && given.undo === undefined)
    throw new UsageError("a paused process does not come back by itself: give --undo COMMAND");
  const [inject, undo] = [given.do, given.undo];
  return {
    does: `run: ${inject}`,
    undoes: undo === undefined ? null : `run: ${undo}`,
    inject: () => runCommand(inject),
    undo: async () => {
      if (undo !== undefined) await runCommand(undo);
    },
  };
}

function pidHook(text: string, how: "restart" | "pause"): Hook {
  const pid = Number(text);
  if (!/^[1-9]\d{0,9}$/.test(text) || pid < 2) throw new UsageError(`--pid ${text}: write the id of a process`);
  if (pid === process.pid || pid === process.ppid)
    throw new UsageError(`--pid ${text} is this command itself, or the shell that runs it`);
  const what = describeProcess(pid);
  const send = (signal: NodeJS.Signals): void => {
    try {
      process.kill(pid, signal);
    } catch (cause) {
      throw new CannotError(`${signal} cannot be sent to process ${pid}`, { cause });
    }
  };
  if (how === "pause")
    return {
      does: `send SIGSTOP to process ${pid}${what}`,
      undoes: `send SIGCONT to process ${pid}`,
      inject: async () => send("SIGSTOP"),
      undo: async () => send("SIGCONT"),
    };
  return {
    does: `send SIGTERM to process ${pid}${what}; its supervisor starts it again`,
    undoes: null,
    inject: async () => send("SIGTERM"),
    undo: async () => {},
  };
}

/** The start of its command line, so that a wrong pid is noticed in the plan. */
function describeProcess(pid: number): string {
  try {
    const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return line === "" ? "" : ` (${line.slice(0, 200)})`;
  } catch {
    return ""; // another system, or the process has ended: the signal will tell
  }
}

/** In a process group of its own, so that Ctrl-C at the terminal does not end it half-way. */
function runCommand(command: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn(command, { shell: true, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-outputCharsMax);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const timer = setTimeout(() => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // it has just ended, which its own event reports
    }
  }, commandMsMax);
  child.once("error", (cause) => {
    clearTimeout(timer);
    reject(new CannotError(`${command}: could not be started`, { cause }));
  });
  // `exit`, not `close`: what the command left in the background may keep its output open.
  child.once("exit", (code, signal) => {
    clearTimeout(timer);
    child.stdout.destroy();
    child.stderr.destroy();
    const end = signal === null ? `exit ${code}` : `${signal} after at most ${commandMsMax / 1_000} s`;
    if (code === 0) resolve();
    else reject(new CannotError(`${command}: ${end}: ${output.trim().slice(-500)}`));
  });
  return promise;
}
