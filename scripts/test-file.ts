/**
 * Test file: runs one file of tests, or several that share a process, in a process group, and ends what remains of the
 * group.
 *
 * Output goes to a file rather than a pipe: a service that outlives its test would keep a pipe open, and the run would
 * wait for it.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { setPriority, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import type { TestLine } from "./test-events.ts";

export type Outcome = Readonly<{
  tests: number;
  passed: number;
  failed: number;
  skipped: number;
  /** The files that have to run again, if it failed: all of them unless the failures name their files. */
  failedFiles: readonly string[];
  /** Tests in the other files. */
  elsewhere: Readonly<Record<"passed" | "skipped", number>>;
  /** Seconds of processor time. */
  cpuS: number;
  /** One line for the file or files, and the errors of failed tests. */
  text: string;
}>;

/** How much of a failed file's output is shown, from its end. */
const outputCharactersMax = 20_000;
const reporter = join(import.meta.dirname, "test-events.ts");
const loader = join(import.meta.dirname, "test-together.ts");

/**
 * @param files relative to the root; several run one after another
 * @param options `msMax`: the group is killed after this time, and the files have failed; `priority`: as of
 * `os.setPriority`, also of all that the files start
 */
export async function runTestFiles(
  files: readonly string[],
  { root, msMax, priority = 0 }: Readonly<{ root: string; msMax: number; priority?: number }>,
): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), "cardea-test-"));
  const [output, events] = [join(folder, "output"), join(folder, "events")];
  const startedAt = performance.now();
  const paths = files.map((file) => resolve(root, file));
  const ending = await ended(paths.length === 1 ? paths : [loader, ...paths], { output, events, msMax, priority });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const lines = readLines(events);
  const printed = readFileSync(output, "utf8").slice(-outputCharactersMax);
  rmSync(folder, { recursive: true, force: true });
  const [first = ""] = files;
  const name = files.length === 1 ? first : `${first} and ${files.length - 1} more`;
  const outcome = outcomeOf(name, { lines, ending, printed, seconds });
  const named = new Set(lines.flatMap((line) => (line.type === "failed" ? [relative(root, line.file)] : [])));
  const isWhole = lines.some(({ type }) => type === "summary") && [...named].every((file) => files.includes(file));
  const failedFiles = isWhole && named.size > 0 ? [...named] : files;
  const count = (type: "passed" | "skipped"): number =>
    lines.filter((line) => line.type === type && !failedFiles.includes(relative(root, line.file))).length;
  return { ...outcome, failedFiles, elsewhere: { passed: count("passed"), skipped: count("skipped") } };
}

/** Process groups do not end with this process by themselves. */
const running = new Set<number | undefined>();
process.on("exit", () => {
  for (const pid of running) killGroup(pid);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => {
    console.log(`\nFAILED: ended by ${signal}`);
    process.exit(1);
  });
}

type Ending = Readonly<{ isClean: boolean; story: string }>;

async function ended(
  program: readonly string[],
  { output, events, msMax, priority }: Readonly<{ output: string; events: string; msMax: number; priority: number }>,
): Promise<Ending> {
  const printing = openSync(output, "a");
  const child = spawn(
    process.execPath,
    ["--test-force-exit", `--test-reporter=${reporter}`, `--test-reporter-destination=${events}`, ...program],
    { detached: true, stdio: ["ignore", printing, printing] },
  );
  closeSync(printing);
  running.add(child.pid);
  lowerPriority(child.pid, priority);
  let isLate = false;
  const killing = setTimeout(() => {
    isLate = true;
    killGroup(child.pid);
  }, msMax);
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  clearTimeout(killing);
  running.delete(child.pid);
  killGroup(child.pid);
  if (isLate) return { isClean: false, story: `it did not end within ${msMax / 1000} s` };
  return { isClean: code === 0, story: signal === null ? `it ended with ${code}` : `it ended by ${signal}` };
}

/** Children inherit it. */
export function lowerPriority(pid: number | undefined, priority: number): void {
  if (pid === undefined || priority === 0) return;
  try {
    setPriority(pid, priority);
  } catch {
    // It has ended.
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is empty.
  }
}

function readLines(events: string): TestLine[] {
  try {
    return readFileSync(events, "utf8")
      .split("\n")
      .flatMap((line) => (line === "" ? [] : [JSON.parse(line) as TestLine]));
  } catch {
    return []; // It was killed while writing, or never started.
  }
}

function outcomeOf(
  name: string,
  {
    lines,
    ending,
    printed,
    seconds,
  }: Readonly<{ lines: readonly TestLine[]; ending: Ending; printed: string; seconds: string }>,
): Omit<Outcome, "failedFiles" | "elsewhere"> {
  const failures = lines.filter((line) => line.type === "failed");
  const reasons = new Set(lines.flatMap((line) => (line.type === "skipped" ? [line.reason] : [])));
  const summary = lines.find((line) => line.type === "summary");
  const { tests, passed, skipped, cpuS } = summary ?? { tests: failures.length, passed: 0, skipped: 0, cpuS: 0 };
  const hasFailed = summary === undefined || summary.failed > 0 || failures.length > 0 || !ending.isClean;
  // A file that fails without a failed test (it did not load, or ended early) is a failure, too.
  const failed = hasFailed ? Math.max(summary?.failed ?? 0, failures.length, 1) : 0;

  const why = skipped > 0 ? `, ${skipped} skipped: ${[...reasons].join("; ")}` : "";
  const took = `${seconds} s, ${cpuS.toFixed(1)} s of processor time`;
  const text = [`${hasFailed ? "✖" : "✔"} ${name}  ${passed}/${tests} in ${took}${why}`];
  if (hasFailed) {
    if (printed.trim() !== "") text.push(indent(printed));
    for (const { name: test, line, story } of failures) text.push(`  ✖ ${name}:${line}  ${test}`, indent(story));
    if (failures.length === 0) {
      text.push(`  ✖ ${name}: ${ending.story}, without a failed test`);
      for (const line of lines) if (line.type === "remark") text.push(indent(line.text));
      if (summary === undefined) text.push(...unended(lines).map((test) => `    not ended: ${test}`));
    }
  }
  return { tests: Math.max(tests, failed), passed, failed, skipped, cpuS, text: text.join("\n") };
}

function unended(lines: readonly TestLine[]): string[] {
  const running: string[] = [];
  for (const line of lines) {
    if (line.type === "began") running.push(line.name);
    if (line.type === "ended") running.splice(running.indexOf(line.name), 1);
  }
  return running;
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^/gm, "    ");
}
