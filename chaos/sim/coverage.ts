/**
 * Coverage: the lines of code in `src/` that a run of the simulator has executed, by V8's own counts.
 *
 * - One worker counts, for its first seeds only (`runner.ts`): block counts cost time, and later seeds add little.
 * - The denominator is every line of code in `src/`: lines that hold more than blanks, comments and types. A file that
 *   never loads counts with all of its lines.
 * - A line has run unless an unexecuted range of V8 contains all of it. An import line has run once its file is loaded.
 */
import { globSync, readFileSync } from "node:fs";
import { Session } from "node:inspector";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Lines of code of one package: their total and the number that have run. */
export type PackageCoverage = Readonly<{ lines: number; run: number }>;
/** By package: a folder of `src/`, or a file directly under it. */
export type Coverage = Readonly<Record<string, PackageCoverage>>;

/** V8's coverage of one script: ranges of UTF-16 offsets, outer before inner. */
export type ScriptCoverage = Readonly<{
  url: string;
  functions: readonly Readonly<{
    ranges: readonly Readonly<{ startOffset: number; endOffset: number; count: number }>[];
  }>[];
}>;

const root = join(import.meta.dirname, "../..");

/**
 * Starts to count in this process. Call it before any module of `src/` loads.
 * @returns a function that reads the counts and stops counting
 */
export function startCoverage(): () => Coverage {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.startPreciseCoverage", { callCount: false, detailed: true });
  return () => {
    let scripts: readonly ScriptCoverage[] = [];
    session.post("Profiler.takePreciseCoverage", (error, { result }) => {
      if (error !== null) throw new Error("V8 gives no coverage", { cause: error });
      scripts = result;
    });
    session.post("Profiler.stopPreciseCoverage");
    session.post("Profiler.disable");
    session.disconnect();
    return coverageOf(scripts);
  };
}

function coverageOf(scripts: readonly ScriptCoverage[]): Coverage {
  const byUrl = new Map(scripts.map((script) => [script.url, script]));
  const packages: Record<string, PackageCoverage> = {};
  for (const path of globSync("src/**/*.ts", { cwd: root }).sort()) {
    const file = join(root, path);
    const source = readFileSync(file, "utf8");
    const { lines, run } = linesOf(source, byUrl.get(pathToFileURL(file).href));
    const name = path.split("/")[1] ?? path;
    const { lines: linesBefore, run: runBefore } = packages[name] ?? { lines: 0, run: 0 };
    packages[name] = { lines: linesBefore + lines, run: runBefore + run };
  }
  return packages;
}

/**
 * Lines of code of one file, and the number of them that a script has run. Types become blanks, so offsets do not
 * change.
 */
export function linesOf(source: string, script: ScriptCoverage | undefined): PackageCoverage {
  const lines = stripTypeScriptTypes(source, { mode: "strip" }).split("\n");
  const unexecuted = script?.functions.flatMap(({ ranges }) => ranges) ?? [];
  let [all, run, from] = [0, 0, 0];
  for (const line of lines) {
    const text = line.trim();
    const start = from + line.indexOf(text);
    from += line.length + 1;
    if (!isCode(text)) continue;
    all += 1;
    if (script !== undefined && hasRun(unexecuted, start, start + text.length)) run += 1;
  }
  return { lines: all, run };
}

/** A line that begins with a slash or a star is a comment; a line with only braces is not code. */
function isCode(text: string): boolean {
  return !/^(\/\/|\/\*|\*)/.test(text) && /[\w$#"'`]/.test(text);
}

/** A line has run if the innermost range that contains the whole line has run. */
function hasRun(ranges: ScriptCoverage["functions"][number]["ranges"], start: number, end: number): boolean {
  let [size, count] = [Number.POSITIVE_INFINITY, 1];
  for (const { startOffset, endOffset, count: times } of ranges) {
    if (startOffset > start || endOffset < end || endOffset - startOffset > size) continue;
    size = endOffset - startOffset;
    count = times;
  }
  return count > 0;
}

/** `src/ 34 % (broker 90, proxy 12, …)`. Omits packages of fewer than a hundred lines. */
export function formatCoverage(coverage: Coverage): string {
  const packages = Object.entries(coverage);
  const lines = packages.reduce((sum, [, each]) => sum + each.lines, 0);
  const run = packages.reduce((sum, [, each]) => sum + each.run, 0);
  const shares = packages
    .filter(([, each]) => each.lines >= 100)
    .map(([name, each]) => ({ name, share: percent(each.run, each.lines) }))
    .sort((a, b) => b.share - a.share || (a.name < b.name ? -1 : 1))
    .map(({ name, share }) => `${name} ${share}`);
  return `src/ ${percent(run, lines)} % (${shares.join(", ")})`;
}

function percent(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.round((part * 100) / whole);
}
