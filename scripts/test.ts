/**
 * Test: the runner behind `npm test`.
 *
 *   npm test                     services, types, lint, and every test
 *   npm run test:unit            the tests that need no service and no browser
 *   npm test -- test/events …    the tests in these folders or files
 *
 * Some suites run by themselves: the one that needs containers runs when CI_CONTAINERS=1 or when it is named, and the
 * page of nine machines, which takes minutes, when it is named. The last line is the result.
 */
import { execFile } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { cpus } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { ensureServices } from "./ensure-services.ts";
import { lowerPriority, type Outcome, runTestFiles } from "./test-file.ts";

/** Files with services that always run at once. */
const filesAtOnce = 2;
/**
 * Many of them mostly wait: for leases to expire, for a server to return. While processors are idle, or do only what
 * fills gaps, up to so many more files run, shortest first.
 */
const moreWhileIdleMax = 5;
/** How much of all processors has to be idle or filling gaps before one more file starts. */
const idleShareMin = 0.2;
/** Most files that fill such a gap take a second, so a longer pause between them would leave half of it unused. */
const idleLookMs = 500;
/**
 * Files without services fill the gaps that remain: so many run at once, at a priority below that of the others, whose
 * leases and deadlines they therefore do not delay. Types and lint do the same.
 */
const fillingAtOnce = 3;
const fillingPriority = 5;
/** Files that take forty seconds and more, longest first. They start first, so that none of them ends the run alone. */
const longest = [
  ...["integration/regions/lost-home", "integration/failover/move-home", "integration/drills/process-drills"],
  ...["integration/cluster/idle", "integration/cluster/auditor", "integration/identity/idle"],
  ...["integration/cluster/without-nats", "integration/failover/synchronous", "integration/cluster/behind-retention"],
  ...["integration/upgrade/rolling-upgrade", "integration/regions/regions", "chaos/sim/simulate"],
  ...["integration/failover/lost-lessees", "integration/cluster/snapshots", "integration/cluster/nats"],
  ...["integration/regions/absent", "integration/upgrade/rotation", "integration/failover/procedures-rotation"],
  ...["integration/fidelity/postgres-fidelity", "integration/upgrade/left-behind", "integration/drills/canary-drills"],
  ...["integration/cluster/clocks", "integration/failover/promotion", "integration/regions/snapshots"],
  ...["end-to-end/revocation", "integration/failover/emptied-names", "integration/cluster/failover"],
  ...["integration/cluster/revocation", "integration/failover/unknown-tightening"],
].map((name) => `test/${name}.test.ts`);
const fileMsMax = 600_000;
/** What fills gaps may have to wait for the end of the others. */
const fillingMsMax = 1_500_000;
const outputBytesMax = 64 * 1024 * 1024;
/** Tests in these folders start the program. */
const startsProgram = /^test\/(attacks|cli|end-to-end|integration)\//;
const containerTests = "test/integration/containers/";
/** Long tests, each with a script of its own. */
const ownScripts: Readonly<Record<string, string>> = {
  "test/deploy/regions-setup.test.ts": "test:regions-setup",
  "test/integration/cluster/decided-again.test.ts": "test:decided-again",
};
const needsService = /^test\/(integration|end-to-end|contract)\/|\/browser\.test\.ts$/;
/** Tests in these folders may share a process, since loading the sources takes longer than most of the files. */
const sharesProcess = /^test\/(audit|auth|broker|chaos|cli|config|console|deploy|dev|events|proxy|replication)\//;
/** A file that touches what belongs to the whole process runs alone. */
const needsOwnProcess =
  /\bprocess\.(argv|chdir|env|exit|exitCode|kill|memoryUsage|on|once|stderr|stdout)\b|\bmock\.|\bglobalThis\b|\bgc\(|\bregisterHooks\b/;
const filesTogetherMax = 12;

const root = join(import.meta.dirname, "..");
process.chdir(root);
process.env["PATH"] = `${join(root, "node_modules", ".bin")}${delimiter}${process.env["PATH"] ?? ""}`;
// Half of the work of each process that a test starts is compiling the same sources.
process.env["NODE_COMPILE_CACHE"] ??= join(root, ".cache", "compile");

const startedAt = performance.now();
const named = process.argv.slice(2);
const failedSteps: string[] = [];
const unsteady: string[] = [];
const besideTests: Promise<boolean>[] = [];
if (named.length === 0) {
  if (!(await ensureServices())) failedSteps.push("services");
  besideTests.push(
    step("types", "tsc", "-p", ".", "--incremental", "--tsBuildInfoFile", ".cache/types.tsbuildinfo"),
    step("lint", "biome", "check", "--error-on-warnings", "."),
  );
}
const files = chooseTests(named);
if (files.some((file) => startsProgram.test(file))) await buildProgram();
const outcomes = await runTests(
  named.length === 0 || named[0] === "unit" ? together(files) : files.map((file) => [file]),
);
await Promise.all(besideTests);
const [passed, failed, skipped] = (["passed", "failed", "skipped"] as const).map((what) =>
  outcomes.reduce((sum, outcome) => sum + outcome[what], 0),
);
if (files.length === 0 || failed !== 0) failedSteps.push("tests");

const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
// Repeated at the end for a reader who sees only the last lines.
for (const { failed, text } of outcomes) if (failed > 0) console.log(`\n${text}`);
if (unsteady.length > 0) console.log(`\nunsteady, passed in a second run: ${unsteady.join(", ")}`);
console.log(
  failedSteps.length === 0
    ? `\nAll passed after ${seconds} s.`
    : `\nFAILED after ${seconds} s: ${failedSteps.join(", ")}`,
);
const cpuS = outcomes.reduce((sum, outcome) => sum + outcome.cpuS, 0);
console.log(`The tests took ${cpuS.toFixed(0)} s of processor time, but for processes that outlived theirs.`);
console.log(`tests: ${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failedSteps.length === 0 ? 0 : 1);

/** Runs beside what follows, at the priority of what fills gaps. @returns whether it succeeded */
async function step(name: string, command: string, ...args: string[]): Promise<boolean> {
  const running = promisify(execFile)(command, args, { maxBuffer: outputBytesMax });
  lowerPriority(running.child.pid, fillingPriority);
  try {
    await running;
    console.log(`✔ ${name}`);
    return true;
  } catch (error) {
    const { message, stdout = "", stderr = "" } = error as Error & { stdout?: string; stderr?: string };
    failedSteps.push(name);
    console.log(`✖ ${name}\n${`${stdout}${stderr}` || message}`);
    return false;
  }
}

/** Tests then start the built program (test/support/program.ts). */
async function buildProgram(): Promise<void> {
  if (!existsSync("node_modules/.bin/esbuild")) {
    console.log("  tests start the sources, which takes longer, because esbuild is not installed: npm ci");
    return;
  }
  const folder = join(root, ".cache", "program");
  if (await step("program", process.execPath, "scripts/build.ts", folder))
    process.env["CARDEA_TEST_PROGRAM"] ??= join(folder, "dist", "main.js");
}

function chooseTests(wanted: readonly string[]): string[] {
  if (wanted.length === 0) {
    for (const [file, script] of Object.entries(ownScripts)) console.log(`  ${file} left out: npm run ${script}`);
    const all = globSync("test/**/*.test.ts")
      .sort()
      .filter((file) => ownScripts[file] === undefined);
    if (process.env["CI_CONTAINERS"] === "1") return all;
    console.log(`  ${containerTests} left out: npm run test:containers`);
    return all.filter((file) => !file.startsWith(containerTests));
  }
  if (wanted[0] === "unit") {
    return globSync("test/**/*.test.ts")
      .sort()
      .filter((file) => !needsService.test(file) && ownScripts[file] === undefined);
  }
  return wanted.flatMap((path) =>
    statSync(path).isDirectory() ? globSync(join(path, "**/*.test.ts")).sort() : [path],
  );
}

/** @returns what one process runs: a file, or several that may share it */
function together(chosen: readonly string[]): (readonly string[])[] {
  const mayShare = (file: string): boolean =>
    sharesProcess.test(file) && !needsService.test(file) && !needsOwnProcess.test(readFileSync(file, "utf8"));
  const alone = chosen.filter((file) => !mayShare(file)).map((file) => [file]);
  const sharing = Map.groupBy(chosen.filter(mayShare), (file) => startsProgram.test(file));
  const shared = [...sharing.values()].flatMap((files) =>
    Array.from({ length: Math.ceil(files.length / filesTogetherMax) }, (_, i) =>
      files.slice(i * filesTogetherMax, (i + 1) * filesTogetherMax),
    ),
  );
  return [...shared, ...alone];
}

/**
 * Files with services run longest first; files without fill the gaps beside them, and so do those with services that
 * are left when more processors are idle. A file that failed beside others gets one more run, alone and at the end; the
 * files that shared its process do not, if the failures are known to be its own. If it fails again, it counts. If it
 * passes, it is reported as unsteady, with the failure.
 */
async function runTests(chosen: readonly (readonly string[])[]): Promise<Outcome[]> {
  const hasServices = (files: readonly string[]): boolean =>
    files.some((file) => needsService.test(file) || startsProgram.test(file));
  const rank = ([file = ""]: readonly string[]): number =>
    longest.includes(file) ? longest.indexOf(file) : longest.length;
  const waiting = chosen.filter(hasServices).sort((a, b) => rank(a) - rank(b));
  const filling = chosen
    .filter((files) => !hasServices(files))
    .sort((a, b) => rank(a) - rank(b) || b.length - a.length);
  const ended: Outcome[] = [];
  const again: string[] = [];
  const processors = watchProcessors();
  const runOne = async (files: readonly string[], priority = 0): Promise<void> => {
    const outcome = await run(files, priority);
    if (outcome.failed === 0) {
      ended.push(outcome);
      return;
    }
    ended.push({ ...outcome, ...outcome.elsewhere, failed: 0 });
    again.push(...outcome.failedFiles);
  };
  const always = async (): Promise<void> => {
    for (let files = next(); files !== undefined; files = next()) await runOne(files);
    function next() {
      return waiting.shift() ?? filling.shift();
    }
  };
  const whileIdle = async (): Promise<void> => {
    for (;;) {
      while (waiting.length > 0 && !processors.takeIdle()) await sleep(idleLookMs);
      const files = waiting.pop();
      if (files === undefined) return;
      await runOne(files);
    }
  };
  const fill = async (): Promise<void> => {
    for (let files = filling.shift(); files !== undefined; files = filling.shift())
      await runOne(files, fillingPriority);
  };
  await Promise.all([
    ...Array.from({ length: filesAtOnce }, always),
    ...Array.from({ length: moreWhileIdleMax }, whileIdle),
    ...Array.from({ length: fillingAtOnce }, fill),
  ]);
  processors.close();
  for (const file of again) {
    console.log(`once more, alone: ${file}`);
    const outcome = await run([file], 0);
    ended.push(outcome);
    if (outcome.failed === 0) unsteady.push(file);
  }
  return ended;
}

/**
 * Samples the processors. `takeIdle` says once for each sample that they were idle enough. What runs at a lower
 * priority gives way, so its time counts as idle.
 */
function watchProcessors(): Readonly<{ takeIdle: () => boolean; close: () => void }> {
  let before = processorTimes();
  let isIdle = false;
  const timer = setInterval(() => {
    const now = processorTimes();
    isIdle = (now.idle - before.idle) / (now.total - before.total) >= idleShareMin;
    before = now;
  }, idleLookMs);
  return {
    takeIdle() {
      const was = isIdle;
      isIdle = false;
      return was;
    },
    close: () => clearInterval(timer),
  };
}

function processorTimes(): Readonly<{ idle: number; total: number }> {
  const all = cpus().flatMap(({ times }) => Object.values(times));
  const idle = cpus().reduce((sum, { times }) => sum + times.idle + times.nice, 0);
  return { idle, total: all.reduce((sum, ms) => sum + ms, 0) };
}

async function run(files: readonly string[], priority: number): Promise<Outcome> {
  const msMax = priority === 0 ? fileMsMax : fillingMsMax;
  const outcome = await runTestFiles(files, { root, msMax, priority });
  console.log(outcome.text);
  return outcome;
}
