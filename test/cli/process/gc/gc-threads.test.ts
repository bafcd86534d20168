/** GC threads: which processes collect garbage on the main thread alone, and the restart that makes them do so. */
import assert from "node:assert/strict";
import { fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { flagsForGc, gcThreadsOf, problemOfGcSetting } from "../../../../src/cli/process/gc/gc-threads.ts";
import { TemporaryFolder } from "../../../support/child.ts";

const flag = "--single-threaded-gc";
const folder = new TemporaryFolder("gc-threads");
after(() => folder[Symbol.dispose]());
const moduleUrl = pathToFileURL(join(import.meta.dirname, "../../../../src/cli/process/gc/gc-threads.ts")).href;
/** Restarts as `cardea` does, prints what it runs with, and does what its second argument says. */
const program = join(folder.path, "a program.mjs");
writeFileSync(
  program,
  `import { restartForGc } from ${JSON.stringify(moduleUrl)};
   restartForGc();
   const { pid, execArgv, argv, env } = process;
   const facts = JSON.stringify({ pid, execArgv, args: argv.slice(2), cwd: process.cwd(), mark: env.MARK });
   if (argv[3] === "channel") process.send({ execArgv });
   else if (argv[3] === "echo") process.stdin.on("data", (data) => process.stdout.write(data));
   else process.stdout.write(facts, () => { process.exitCode = 7; });`,
);
const onLinux = { skip: process.platform !== "linux" && "only Linux pins a process to a core" };
const firstCore = (): string => {
  const { stdout } = spawnSync("taskset", ["-cp", String(process.pid)], { encoding: "utf8" });
  return /: (\d+)/.exec(stdout)?.[1] ?? "0";
};
const { CARDEA_SINGLE_THREADED_GC: _, NODE_OPTIONS: __, ...outside } = process.env;

type Run = Readonly<{ flags?: readonly string[]; args: readonly string[]; env?: Readonly<Record<string, string>> }>;

/** Runs the program on one core. */
function runOnOneCore({ flags = [], args, env = {} }: Run): Readonly<{ facts: Record<string, unknown>; pid: number }> {
  const { stdout, stderr, status, pid } = spawnSync(
    "taskset",
    ["-c", firstCore(), process.execPath, ...flags, program, ...args],
    { encoding: "utf8", env: { ...outside, ...env }, cwd: folder.path },
  );
  assert.equal(stderr, "", "no warning");
  assert.equal(status, 7, "the exit code is that of the program");
  return { facts: JSON.parse(stdout) as Record<string, unknown>, pid };
}

test("processes that need all cores collect garbage on the main thread", () => {
  const flags = (cores: number, processes: number): readonly string[] =>
    flagsForGc({ cores, processes, execArgv: ["--no-warnings"], env: {} });
  for (const [cores, processes] of [
    [1, 1],
    [1, 2],
    [2, 2],
    [2, 4],
  ] as const)
    assert.deepEqual(flags(cores, processes), [flag, "--no-warnings"], `${processes} on ${cores}`);
  for (const [cores, processes] of [
    [2, 1],
    [4, 3],
  ] as const)
    assert.deepEqual(flags(cores, processes), ["--no-warnings"], `${processes} on ${cores}`);
});

test("flags of the operator win over the variable, and the variable wins over the number of cores", () => {
  const flags = (execArgv: readonly string[], env: Readonly<Record<string, string>> = {}, cores = 1) =>
    flagsForGc({ cores, processes: 1, execArgv, env });
  for (const own of [
    "--no-single-threaded-gc",
    "--nosingle_threaded_gc",
    "--single-threaded",
    "--v8-pool-size=2",
    "--no-concurrent-marking",
    "--parallel_scavenge",
  ]) {
    assert.deepEqual(flags([own], { CARDEA_SINGLE_THREADED_GC: "true" }), [own]);
    assert.deepEqual(flags([], { NODE_OPTIONS: `--no-warnings  ${own}` }), [], own);
  }
  assert.deepEqual(flags(["--max-old-space-size=500"]), [flag, "--max-old-space-size=500"]);
  assert.deepEqual(flags([], { NODE_OPTIONS: "--max-old-space-size=500" }), [flag]);
  assert.deepEqual(flags([], { CARDEA_SINGLE_THREADED_GC: "false" }), []);
  assert.deepEqual(flags([], { CARDEA_SINGLE_THREADED_GC: "true" }, 8), [flag]);
  for (const text of ["", "auto"]) {
    assert.deepEqual(flags([], { CARDEA_SINGLE_THREADED_GC: text }), [flag]);
    assert.equal(problemOfGcSetting({ CARDEA_SINGLE_THREADED_GC: text }), null);
  }
  assert.match(problemOfGcSetting({ CARDEA_SINGLE_THREADED_GC: "yes" }) ?? "", /must be auto, true or false/);
});

test("the last of the flags says which threads collect", () => {
  assert.equal(gcThreadsOf([]), "helper threads");
  assert.equal(gcThreadsOf([flag, "--no-warnings"]), "main thread");
  assert.equal(gcThreadsOf(["--single_threaded"]), "main thread");
  assert.equal(gcThreadsOf([flag, "--no-single-threaded-gc"]), "helper threads");
});

test(
  "on one core a server restarts in place: same process, arguments, folder, environment and exit code",
  onLinux,
  () => {
    const flags = ["--no-warnings", "--title=a b"];
    const args = ["run", "-c", "a file", "", "*"];
    const { facts, pid } = runOnOneCore({ flags, args, env: { MARK: "ä b\n" } });
    assert.deepEqual(facts, { pid, execArgv: [flag, ...flags], args, cwd: folder.path, mark: "ä b\n" });
  },
);

test("other commands do not restart, nor servers whose operator chose, nor any with two cores", onLinux, () => {
  const execArgv = (run: Run): unknown => runOnOneCore(run).facts["execArgv"];
  assert.deepEqual(execArgv({ args: ["health"] }), []);
  assert.deepEqual(execArgv({ args: ["run"], env: { CARDEA_SINGLE_THREADED_GC: "false" } }), []);
  assert.deepEqual(execArgv({ args: ["run"], env: { NODE_OPTIONS: "--v8-pool-size=1" } }), []);
  assert.deepEqual(execArgv({ args: ["run"], flags: ["--no-single-threaded-gc"] }), ["--no-single-threaded-gc"]);
  if (availableParallelism() === 1) return;
  const { stdout } = spawnSync(process.execPath, [program, "run"], { encoding: "utf8", env: outside });
  assert.deepEqual((JSON.parse(stdout) as Record<string, unknown>)["execArgv"], []);
});

test("a restarted server reads its input and ends by a signal", onLinux, async () => {
  const child = spawn("taskset", ["-c", firstCore(), process.execPath, program, "run", "echo"], { env: outside });
  child.stdin.write("before the restart");
  assert.equal(String((await once(child.stdout, "data"))[0]), "before the restart");
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [null, "SIGTERM"]);
});

test("a process with a channel to its parent keeps the channel, and its helper threads", onLinux, async () => {
  const child = fork(program, ["run", "channel"], {
    execPath: "taskset",
    execArgv: ["-c", firstCore(), process.execPath],
    env: outside,
  });
  assert.deepEqual((await once(child, "message"))[0], { execArgv: [] });
  child.disconnect();
  await once(child, "exit");
});

test("where the system refuses the restart, the server runs with helper threads and says so", onLinux, () => {
  const permissions = ["--permission", "--allow-fs-read=*", "--no-warnings"];
  const { stdout, stderr } = spawnSync(
    "taskset",
    ["-c", firstCore(), process.execPath, ...permissions, program, "run"],
    { encoding: "utf8", env: outside },
  );
  assert.deepEqual((JSON.parse(stdout) as Record<string, unknown>)["execArgv"], permissions);
  assert.match(stderr, /^cannot restart Node with --single-threaded-gc; garbage collection keeps its helper threads: /);
});
