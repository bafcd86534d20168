/**
 * Mutation gate: `npm run simulate:mutants [-- --only name,name] [--cheapest] [--first-seed K] [--processes N]
 * [--at-most N]`.
 *
 * Each mutant has a process of its own, in which its sentences are changed as their modules are loaded (mutants.ts),
 * and runs seeds until one of them breaks an invariant that the same seed keeps with the rule in place. One line for
 * each, a table, one summary line last; exit 1 when one escapes, 2 on a usage error. `--at-most`: no more seeds than
 * this for each, whatever it is allowed.
 */
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";
import { changeSources } from "../../scripts/mutation/change-sources.ts";
import type { Mutant } from "./mutant.ts";
import { cheapest, mutants } from "./mutants.ts";
import type { SimOptions } from "./swarm.ts";

type Result = Readonly<{
  mutant: string;
  /** How many seeds were run; the last one is the one that caught it, if one did. */
  seeds: number;
  ms: number;
  /** Null: it escaped. */
  caught: Readonly<{ seed: number; invariant: string; what: string }> | null;
}>;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    cheapest: { type: "boolean", default: false },
    "first-seed": { type: "string", default: "1" },
    processes: { type: "string", default: "2" },
    "at-most": { type: "string" },
    /** Used between ourselves: be the process of this mutant. */
    mutant: { type: "string" },
    seeds: { type: "string", default: "0" },
    /** And this: run the seed with every rule in place. */
    control: { type: "string" },
    /** With the changes that this mutant makes beside its own. */
    beside: { type: "string" },
  },
});
const firstSeed = Number(values["first-seed"]);
/**
 * Of each seed that a mutant was caught in: whether it breaks nothing with every rule in place. By the seed, and what
 * is changed beside.
 */
const controls = new Map<string, Promise<boolean>>();

if (values.mutant !== undefined) {
  const result = await runMutant(values.mutant, mutantNamed(values.mutant), Number(values.seeds));
  process.stdout.write(`${JSON.stringify(result)}\n`);
} else if (values.control !== undefined) {
  const { beside } = values;
  if (beside !== undefined) changeSources(beside, mutantNamed(beside).beside ?? []);
  process.stdout.write(`${JSON.stringify(await isKept(Number(values.control)))}\n`);
} else {
  const only = values.only?.split(",");
  const names = only ?? (values.cheapest ? cheapest : Object.keys(mutants));
  for (const name of names) mutantNamed(name);
  process.exitCode = await gate(names, Number(values.processes));
}

function mutantNamed(name: string): Mutant {
  const mutant = mutants[name];
  if (mutant !== undefined) return mutant;
  console.error(`there is no mutant ${name}; there are ${Object.keys(mutants).join(", ")}`);
  return process.exit(2);
}

/** In the mutant's own process. */
async function runMutant(name: string, mutant: Mutant, seedsMax: number): Promise<Result> {
  const changed = changeSources(name, [...mutant.changes, ...(mutant.beside ?? [])]);
  const [{ runSeed }, { optionsOf }] = await Promise.all([import("./run-seed.ts"), import("./swarm.ts")]);
  const since = performance.now();
  const ended = (seeds: number, caught: Result["caught"]): Result => {
    if (changed.size !== 0) throw new Error(`${name}: never loaded: ${[...changed].join(", ")}`);
    return { mutant: name, seeds, ms: Math.round(performance.now() - since), caught };
  };
  let seeds = 0;
  for (let seed = firstSeed; seeds < seedsMax; seed += 1) {
    if (mutant.where !== undefined && !isEligible(optionsOf(seed), mutant.where)) continue;
    seeds += 1;
    try {
      const [violation] = (await runSeed(seed, { stopAtFirst: true })).violations;
      if (violation !== undefined)
        return ended(seeds, { seed, invariant: String(violation.invariant), what: violation.what });
    } catch (error) {
      // Without the rule the product finds itself in a state that it knows to be impossible.
      return ended(seeds, { seed, invariant: "throws", what: error instanceof Error ? error.message : String(error) });
    }
  }
  return ended(seedsMax, null);
}

function isEligible({ classes, remotes, outside }: SimOptions, where: NonNullable<Mutant["where"]>): boolean {
  if (where === "regional") return remotes.length > 0;
  return classes.some((name) => name === where) || Object.entries(outside).some(([name, is]) => name === where && is);
}

/** In a process without a mutant: whether the seed breaks nothing. */
async function isKept(seed: number): Promise<boolean> {
  const { runSeed } = await import("./run-seed.ts");
  try {
    return (await runSeed(seed, { stopAtFirst: true })).violations.length === 0;
  } catch {
    return false;
  }
}

/** @returns the exit code */
async function gate(names: readonly string[], processes: number): Promise<number> {
  const since = performance.now();
  const waiting = [...names];
  const results = new Map<string, Result | Error>();
  async function work(): Promise<void> {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const result = await confirmCaught(name).catch((error: Error) => error);
      results.set(name, result);
      process.stdout.write(`${lineOf(name, result)}\n`);
    }
  }
  await Promise.all(Array.from({ length: Math.max(1, processes) }, work));
  process.stdout.write(`\n${tableOf(names, results)}\n\n`);
  const escaped = names.filter((name) => !isCaught(results.get(name)));
  const seeds = [...results.values()].reduce((sum, each) => sum + ("seeds" in each ? each.seeds : 0), 0);
  const duration = ((performance.now() - since) / 1_000).toFixed(0);
  const description = escaped.length === 0 ? "none escaped" : `escaped: ${escaped.join(", ")}`;
  process.stdout.write(
    `mutants: ${names.length - escaped.length} of ${names.length} caught in ${seeds} seeds, ${duration} s; ${description}\n`,
  );
  return escaped.length === 0 ? 0 : 1;
}

/** What a seed breaks with the rule in place as well says nothing of the mutant: then the hunt goes on behind it. */
async function confirmCaught(name: string): Promise<Result> {
  const { within } = mutantNamed(name);
  const seedsMax = Math.min(within, Number(values["at-most"] ?? within));
  let [first, ms] = [firstSeed, 0];
  for (let seeds = 0; seeds < seedsMax; ) {
    const own = ["--mutant", name, "--first-seed", `${first}`, "--seeds", `${seedsMax - seeds}`];
    const result = (await inOwnProcess(own)) as Result;
    seeds += result.seeds;
    ms += result.ms;
    first = (result.caught?.seed ?? first) + 1;
    if (result.caught === null || (await isKeptWithout(name, result.caught.seed))) return { ...result, seeds, ms };
  }
  return { mutant: name, seeds: seedsMax, ms, caught: null };
}

function isKeptWithout(name: string, seed: number): Promise<boolean> {
  const beside = mutantNamed(name).beside ?? [];
  const key = JSON.stringify([seed, beside]);
  const own = beside.length === 0 ? [] : ["--beside", name];
  const known = controls.get(key) ?? (inOwnProcess(["--control", `${seed}`, ...own]) as Promise<boolean>);
  controls.set(key, known);
  return known;
}

/** @returns what its last line says */
function inOwnProcess(own: readonly string[]): Promise<unknown> {
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, ...own], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    out += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    errors = (errors + chunk).slice(-4_000);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      const line = out.trimEnd().split("\n").at(-1) ?? "";
      if (code === 0 && line !== "") resolve(JSON.parse(line));
      else reject(new Error(`its process ended with ${code}: ${errors.trim()}`));
    });
  });
}

function isCaught(result: Result | Error | undefined): boolean {
  return result !== undefined && !(result instanceof Error) && result.caught !== null;
}

function lineOf(name: string, result: Result | Error): string {
  if (result instanceof Error) return `${name}: ${result.message}`;
  const { seeds, ms, caught } = result;
  const duration = `${(ms / 1_000).toFixed(1)} s`;
  if (caught === null) return `${name}: ESCAPED ${seeds} seeds (${duration})`;
  return `${name}: caught by ${caught.invariant} at seed ${caught.seed} (${duration}): ${caught.what}`;
}

function seedsOf(result: Result | Error | undefined): number {
  return result === undefined || result instanceof Error ? 0 : result.seeds;
}

function tableOf(names: readonly string[], results: ReadonlyMap<string, Result | Error>): string {
  const rows = [["mutant", "without the rule", "caught after", "of seeds", "by invariant"]];
  for (const name of names) {
    const result = results.get(name);
    const { meaning, within, holds, where } = mutantNamed(name);
    const caught = result === undefined || result instanceof Error ? null : result.caught;
    const description = holds === undefined ? meaning : `${meaning} (with its second line: ${holds})`;
    rows.push([
      name,
      description,
      caught === null ? "–" : String(seedsOf(result)),
      where === undefined ? String(within) : `${within} with ${where}`,
      caught?.invariant ?? "escaped",
    ]);
  }
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
