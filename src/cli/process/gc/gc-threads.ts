/**
 * GC threads: whether V8 collects garbage with helper threads or on the main thread alone, and the restart that
 * chooses it (docs/adr/0081-one-core-collects-on-the-main-thread.md).
 *
 * - Where the processes need all cores, helpers only take the core from the main thread.
 * - V8 reads the flag when Node starts. A process replaces itself (execve) and keeps its id, files and environment;
 *   workers get the flag from their parent.
 * - Flags of the operator that concern V8's threads win, then the environment variable, then the number of cores.
 * - It imports nothing of the program: the built program loads it before everything else (scripts/program.mjs).
 */
import { availableParallelism } from "node:os";

const gcVariable = "CARDEA_SINGLE_THREADED_GC";
const flag = "--single-threaded-gc";
/** Commands that run until they are stopped. */
const servers = new Set(["run", "dev"]);
/** Flags of V8 and Node, their opposites included, that say which threads there are or what they do. */
const ofThreads =
  /^--(no-?)?(single-threaded|single-threaded-gc|v8-pool-size|concurrent-[a-z-]+|parallel-[a-z-]+)(=.*)?$/;
const ofOneThread = /^--(no-?)?single-threaded(-gc)?$/;

type Environment = Readonly<Record<string, string | undefined>>;
export type GcFacts = Readonly<{
  /** How many cores these processes may use. */
  cores: number;
  /** How many processes decide requests. */
  processes: number;
  /** Of Node, without those in NODE_OPTIONS. */
  execArgv: readonly string[];
  env: Environment;
}>;
export type GcThreads = "main thread" | "helper threads";

/** The flags of this Node process, with those that the choice adds. */
export function flagsForGc(facts: GcFacts): readonly string[] {
  const { cores, processes, execArgv, env } = facts;
  if (flagsOf(facts).some((each) => ofThreads.test(each))) return execArgv;
  const setting = parseGcSetting(env);
  const wanted = setting === "auto" ? processes >= cores : setting === "true";
  return wanted ? [flag, ...execArgv] : execArgv;
}

/** Threads that collect in a process with these flags. */
export function gcThreadsOf(execArgv: readonly string[]): GcThreads {
  const last = execArgv.map(normalized).findLast((each) => ofOneThread.test(each));
  return last === undefined || last.startsWith("--no") ? "helper threads" : "main thread";
}

/** @returns what is wrong with the value of the variable; null: nothing */
export function problemOfGcSetting(env: Environment): string | null {
  return parseGcSetting(env) === null ? `${gcVariable} must be auto, true or false` : null;
}

/** null: the variable has a value that it cannot have */
function parseGcSetting(env: Environment): "auto" | "true" | "false" | null {
  const text = env[gcVariable] ?? "";
  if (text === "" || text === "auto") return "auto";
  return text === "true" || text === "false" ? text : null;
}

/** Of this process, which may use these cores: Node counts affinity and the quota of its control group. */
export function gcFacts({ processes }: Pick<GcFacts, "processes">): GcFacts {
  return { cores: availableParallelism(), processes, execArgv: process.execArgv, env: process.env };
}

/**
 * Replaces this process by one with other flags if its command is a server and its flags are not those of the choice.
 * It returns otherwise, and where the system refuses to.
 */
export function restartForGc(): void {
  const { argv, argv0, connected, execArgv, execPath } = process;
  // With a channel to a parent it does not restart: Node has already removed the channel from the environment.
  if (!servers.has(argv[2] ?? "") || connected || process.execve === undefined) return;
  const flags = flagsForGc(gcFacts({ processes: 1 }));
  if (flags === execArgv) return;
  try {
    process.execve(execPath, [argv0, ...flags, ...argv.slice(1)], process.env);
  } catch (error) {
    const { message } = error as Error;
    process.stderr.write(`cannot restart Node with ${flag}; garbage collection keeps its helper threads: ${message}\n`);
  }
}

function flagsOf({ execArgv, env }: GcFacts): readonly string[] {
  return [...execArgv, ...(env["NODE_OPTIONS"] ?? "").split(/\s+/)].map(normalized);
}

function normalized(text: string): string {
  return text.replaceAll("_", "-");
}
