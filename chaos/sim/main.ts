/**
 * Simulation command line: runs seeds, checks them with the monitors, and prints the first failures as short stories.
 *
 * The last line of the output sums up the result.
 *
 *   npm run simulate                              200 seeds
 *   npm run simulate -- --seeds 2000 --first-seed 1
 *   npm run simulate -- --twice                   runs each seed twice; the two hashes must be equal
 *   SEED=7 npm run simulate                       one seed with its trace; the output is identical each time
 *   npm run simulate -- --plans FILE              the shrunk plans of a failing seed (the file that its story names)
 *
 * Exit codes: 0 success; 1 a violation, a seed that did not repeat, or a situation that was never reached; 2 wrong
 * usage.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { buildCluster } from "./cluster-setup.ts";
import { type Plans, plansOf, runPlans, shrinkSeed } from "./failure-report.ts";
import { formatFault } from "./fault-plan.ts";
import { runSeeds } from "./runner.ts";
import { Summary } from "./summary.ts";
import { formatOptions, optionsOf } from "./swarm.ts";

const storiesMax = 3;
const shrinkRunsMax = 160;
const progressEveryMs = 10_000;
const traceLinesMax = 1_000_000;
const failuresEnough = 50;
const storiesFolder = join(import.meta.dirname, "stories");

const options = {
  seeds: { type: "string", default: "200" },
  "first-seed": { type: "string", default: "1" },
  workers: { type: "string", default: `${availableParallelism()}` },
  twice: { type: "boolean", default: false },
  "twice-every": { type: "string" },
  plans: { type: "string" },
  "no-stories": { type: "boolean", default: false },
  "no-trace": { type: "boolean", default: false },
} as const;

process.exitCode = await main();

function argumentsGiven() {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return wrongUse(error instanceof Error ? error.message : String(error));
  }
}

async function main(): Promise<number> {
  const values = argumentsGiven();
  const seed = process.env["SEED"];
  if (values.plans !== undefined) return replay(readPlans(values.plans), !values["no-trace"]);
  if (seed !== undefined) return replay(plansOf(wholeNumber(seed, "SEED")), !values["no-trace"]);
  const every = values.twice
    ? 1
    : values["twice-every"] === undefined
      ? 0
      : wholeNumber(values["twice-every"], "twice-every");
  return runMany({
    firstSeed: wholeNumber(values["first-seed"], "first-seed"),
    seeds: wholeNumber(values.seeds, "seeds"),
    workers: wholeNumber(values.workers, "workers"),
    twice: (each) => every > 0 && each % every === 0,
    stories: values["no-stories"] ? 0 : storiesMax,
  });
}

type Many = Readonly<{
  firstSeed: number;
  seeds: number;
  workers: number;
  twice: (seed: number) => boolean;
  stories: number;
}>;

async function runMany({ stories, ...many }: Many): Promise<number> {
  const summary = new Summary();
  const since = performance.now();
  let lastProgress = since;
  await runSeeds({
    ...many,
    enough: () => summary.failed.length >= failuresEnough,
    onCovered(coverage) {
      summary.coverage = coverage;
    },
    onDone({ report, repeated }) {
      summary.add(report);
      if (!repeated) summary.different.push(report.seed);
      const [first] = report.violations;
      if (first !== undefined)
        console.log(`seed ${report.seed}: invariant ${first.invariant}: ${first.story.split("\n")[0]}`);
      if (performance.now() - lastProgress < progressEveryMs) return;
      lastProgress = performance.now();
      console.log(`  ${summary.seeds} of ${many.seeds} seeds, ${summary.failed.length} failed`);
    },
  });
  const seconds = (performance.now() - since) / 1_000;
  const failed = summary.failed.toSorted((a, b) => a.seed - b.seed);
  const kinds = new Set<string>();
  for (const { seed, violations } of failed) {
    const kind = violations[0]?.invariant ?? "";
    if (kinds.size >= stories || kinds.has(kind)) continue; // one story of each kind
    kinds.add(kind);
    await printStory(seed);
  }
  for (const line of summary.details()) console.log(line);
  console.log(summary.line(seconds));
  return summary.isGood ? 0 : 1;
}

async function printStory(seed: number): Promise<void> {
  console.log(`\nshrinking seed ${seed} …`);
  const story = await shrinkSeed(plansOf(seed), buildCluster, shrinkRunsMax);
  if (story === undefined) {
    console.log(`seed ${seed} did not fail again: it does not repeat`);
    return;
  }
  mkdirSync(storiesFolder, { recursive: true });
  const file = join(storiesFolder, `${seed}.json`);
  writeFileSync(file, `${JSON.stringify(story.plans)}\n`);
  console.log(story.text);
  console.log(`what is left of it: npm run simulate -- --plans ${relative(process.cwd(), file)}\n`);
}

/** Prints nothing that depends on the machine's clock, so that two replays can be compared byte by byte. */
async function replay(plans: Plans, traced: boolean): Promise<number> {
  console.log(formatOptions(optionsOf(plans.seed)));
  for (const fault of plans.faults) console.log(formatFault(fault));
  const { report, trace } = await runPlans(plans, buildCluster, traced ? { traceLinesMax } : {});
  for (const line of trace) console.log(line);
  for (const { story } of report.violations) console.log(story);
  console.log(
    `seed ${plans.seed}: ${(report.simulatedMs / 1_000).toFixed(0)} simulated seconds, ${report.steps} steps, ${report.faults} faults, ${report.commands} commands, ${report.requests} requests, ${report.counts.length === 0 ? "0 violations" : report.counts.map(([invariant, count]) => `${count} × invariant ${invariant}`).join(", ")}, hash ${report.hash}`,
  );
  return report.counts.length === 0 ? 0 : 1;
}

function readPlans(file: string): Plans {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Plans;
  } catch (error) {
    return wrongUse(`${file} is not what is left of a seed: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function wholeNumber(text: string, name: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  return wrongUse(`${name} is a whole number, not ${text}`);
}

function wrongUse(message: string): never {
  console.error(message);
  return process.exit(2);
}
