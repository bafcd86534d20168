/**
 * Chaos: breaks a real cluster for two minutes and compares what its clients saw with what its operator was promised.
 *
 *   npm run chaos                      a new seed, 120 seconds
 *   npm run chaos -- --seed 7          the same faults at the same times
 *   npm run chaos -- --prove           with one safety rule removed: must end with a violation
 *   npm run chaos -- --prove --rule R  the same with another rule (weakenings.ts)
 *   npm run chaos -- --keep            keeps the output of the processes beside the report
 *
 * Exit codes: 0 no violation, 1 a violation, 2 usage error, 3 it could not run. However it ends, the test reaper ends
 * the processes that it started.
 */
import { randomInt } from "node:crypto";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { TemporaryFolder } from "../test/support/child.ts";
import { checkHistory } from "./checker.ts";
import { measure } from "./measure.ts";
import { type Plan, planFaults } from "./plan.ts";
import { report, summaryLine } from "./report.ts";
import { type RunOptions, runCluster, type Seen } from "./run-cluster.ts";
import { firstRule, weakenings } from "./weakenings.ts";
import { groupOf, isFirstMember, windowMsOf } from "./world.ts";

/**
 * How late a reader's event loop may stamp bytes that had reached its machine before a cut. A longer stall is recorded
 * and excuses more.
 */
const allowanceMs = 250;
/**
 * The most bytes that the kernel of a stopped process may still send on one connection: docs/receipts.md,
 * docs/adr/0032.
 */
const kernelBytesMax = 81_920;
const seconds = { usual: 120, toProve: 60, min: 20, max: 3_600 };
const reportsFolder = join(import.meta.dirname, "reports");

type Options = Readonly<{
  seed: number;
  seconds: number;
  weakened: RunOptions["weakened"];
  keep: "always" | "on-violation";
}>;

process.exit(await main()); // open handles must not keep the process alive

async function main(): Promise<number> {
  const options = readOptions();
  if (options === undefined) return 2;
  const plan = planFaults({ seed: options.seed, seconds: options.seconds, proxies: 3, natsServers: 3 });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      console.log(`chaos ${plan.seed}: could not run: ${signal}`);
      process.exit(3);
    });
  }
  console.log(`seed ${plan.seed}: ${plan.faults.length} faults in ${plan.seconds} s`);
  using folder = new TemporaryFolder("chaos");
  const print = (line: string): void => console.log(line);
  try {
    const seen = await runCluster({ plan, folder: folder.path, weakened: options.weakened, print });
    return reportRun(options, plan, seen, folder.path);
  } catch (error) {
    console.error(error);
    console.log(`chaos ${plan.seed}: could not run: ${error instanceof Error ? error.message : String(error)}`);
    keepFiles(plan, folder.path);
    return 3;
  }
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: "string" },
        seconds: { type: "string" },
        prove: { type: "boolean", default: false },
        rule: { type: "string", default: firstRule },
        keep: { type: "boolean", default: false },
      },
    });
    const weakening = values.prove ? weakenings[values.rule] : null;
    if (weakening === undefined) throw new RangeError(`--rule is one of ${Object.keys(weakenings).join(", ")}`);
    return {
      seed: values.seed === undefined ? randomInt(1, 1_000_000) : wholeNumber("--seed", values.seed, 0, 2 ** 32 - 1),
      seconds:
        values.seconds === undefined
          ? seconds[values.prove ? "toProve" : "usual"]
          : wholeNumber("--seconds", values.seconds, seconds.min, seconds.max),
      weakened: weakening === null ? null : { rule: values.rule, processes: weakening.in },
      keep: values.keep ? "always" : "on-violation",
    };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    console.error("usage: npm run chaos -- [--seed N] [--seconds N] [--prove [--rule NAME]] [--keep]");
    return undefined;
  }
}

function wholeNumber(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < low || value > high)
    throw new RangeError(`${name} ${text}: a whole number from ${low} to ${high}`);
  return value;
}

function reportRun(options: Options, plan: Plan, seen: Seen, folder: string): number {
  const { history, ending, restarts, startedAt } = seen;
  const traffic = {
    ...{ groupOf, windowMsOf, isFirstMember, allowanceMs, clients: "load", upstream: "upstream" },
    kernelBytesMax,
  };
  const { violations } = checkHistory(history, ending, traffic);
  const parts = {
    ...{ plan, history, ending, violations, restarts, startedAt },
    weakened: options.weakened?.rule ?? null,
    measures: measure(history, traffic),
    takeovers: Math.max(0, (ending.log ?? []).filter(({ type }) => type === "EpochOpened").length - 1),
  };
  mkdirSync(reportsFolder, { recursive: true });
  writeFileSync(join(reportsFolder, `${plan.seed}.md`), report(parts));
  if (options.keep === "always" || (violations.length > 0 && options.weakened === null)) keepFiles(plan, folder);
  for (const { what } of violations.slice(0, 10)) console.log(`✖ ${what}`);
  console.log(`report: chaos/reports/${plan.seed}.md`);
  console.log(summaryLine(parts));
  return violations.length === 0 ? 0 : 1;
}

/** The output of the processes, without their data and secrets. */
function keepFiles({ seed }: Plan, folder: string): void {
  const left = new Set(["data", "compile-cache"]);
  const filter = (from: string): boolean => !left.has(basename(from)) && !from.endsWith(".yaml");
  cpSync(folder, join(reportsFolder, String(seed)), { recursive: true, filter });
}
