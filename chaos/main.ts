/**
 * Chaos: breaks a real cluster and compares what its clients saw with what its operator was promised.
 *
 *   npm run chaos                              random faults in three regions for two minutes, with a new seed
 *   npm run chaos -- --list                    the scenarios: fault, promise, bound
 *   npm run chaos -- --scenario NAME           one scenario
 *   npm run chaos -- --random --minutes N --seed S
 *   npm run chaos -- --prove [--rule R]        with one safety rule removed: must end with a violation
 *
 * Exit codes: 0 no violation, 1 a violation, 2 usage error, 3 it could not run, 4 nothing worse than that something
 * took too long. However it ends, the test reaper ends the processes that it started.
 */
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ensureServices } from "../scripts/ensure-services.ts";
import { type ChaosRequest, parseChaosArguments, usage } from "./arguments.ts";
import { topologies } from "./cluster/topology.ts";
import { buildProgram } from "./program.ts";
import { planned, played } from "./run/acts.ts";
import { judgeRun, type RunToJudge } from "./run/judge-run.ts";
import { batchesOf } from "./scenarios/batches.ts";
import { scenarios } from "./scenarios/index.ts";
import type { Scenario } from "./scenarios/scenario.ts";
import { weakenings } from "./weakenings.ts";

const reportsFolder = join(import.meta.dirname, "reports");

process.exit(await main()); // open handles must not keep the process alive

async function main(): Promise<number> {
  const request = readRequest();
  if (request === undefined) return 2;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      console.log(`chaos: could not run: ${signal}`);
      process.exit(3);
    });
  }
  switch (request.type) {
    case "list":
      for (const each of scenarios) console.log(describeScenario(each));
      console.log(`${scenarios.length} scenarios`);
      return 0;
    case "scenarios":
      return runAll(runsOfScenarios(request));
    case "random":
      return runAll(runsOfPlans(request));
  }
}

function readRequest(): ChaosRequest | undefined {
  try {
    return parseChaosArguments(process.argv.slice(2), {
      scenarios,
      readFile: (path) => readFileSync(path, "utf8"),
      newSeed: () => randomInt(1, 1_000_000),
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    console.error(usage);
    return undefined;
  }
}

function describeScenario({ name, topology, fault, promise, boundS }: Scenario): string {
  return `${name}  (${topology}, ${boundS} s)\n    fault    ${fault}\n    promise  ${promise}`;
}

/** All of them run, whatever the first says. @returns the worst exit code: a violation, then 3, then 4 */
async function runAll(runs: readonly RunToJudge[]): Promise<number> {
  if (!(await ensureServices("stores")) || !buildProgram()) return 3;
  const codes: number[] = [];
  for (const run of runs) codes.push(await judgeRun(run, reportsFolder));
  const unable = codes.filter((code) => code === 3).length;
  if (runs.length > 1)
    console.log(
      `chaos: ${runs.length} runs, ${codes.filter((code) => code === 1 || code === 4).length} with violations, ${unable} could not run`,
    );
  return [1, 3, 4].find((worst) => codes.includes(worst)) ?? 0;
}

function runsOfScenarios(request: Extract<ChaosRequest, { type: "scenarios" }>): readonly RunToJudge[] {
  return batchesOf(request.scenarios).map((batch) => {
    const [first] = batch;
    if (first === undefined) throw new RangeError("a batch has a scenario");
    const name = batch.length === 1 ? first.name : `${first.name}-and-${batch.length - 1}`;
    return {
      name,
      purpose: batch.length === 1 ? `${first.fault} ${first.promise}` : batch.map((each) => each.name).join(", "),
      command: `npm run chaos --${batch.map((each) => ` --scenario ${each.name}`).join("")}`,
      topology: topologies[first.topology],
      seed: 1,
      plan: null,
      weakened: null,
      keep: request.keep,
      act: played(batch),
    };
  });
}

function runsOfPlans({
  rounds,
  rule,
  keep,
  command,
}: Extract<ChaosRequest, { type: "random" }>): readonly RunToJudge[] {
  const weakening = rule === null ? undefined : weakenings[rule];
  return rounds.map((plan, i) => ({
    name: String(plan.seed),
    purpose: `Random faults${rounds.length === 1 ? "" : `, round ${i + 1} of ${rounds.length}`}`,
    command,
    topology: topologies[plan.topology],
    seed: plan.seed,
    plan,
    weakened: rule === null || weakening === undefined ? null : { rule, processes: weakening.in },
    keep,
    act: planned(plan),
  }));
}
