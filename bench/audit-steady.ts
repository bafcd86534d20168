/**
 * Bench: what stored and sealed audit costs a decision at a fixed rate, with the destinations of a default
 * configuration.
 *
 *   node bench/audit-steady.ts [--rate 20000] [--seconds 3] [--rounds 3] [--against FOLDER]
 *
 * Each round starts one process for each side (support/audit-steady.ts). The result is the processor time of a decision
 * whose record is stored and sealed, less that of one whose record only reaches the feed. `--against`: the sources of
 * another version, such as `../before/src`, in turns.
 */
import { execFile } from "node:child_process";
import { parseArgs, promisify } from "node:util";
import { type Budget, reportBudgets } from "./support/budget.ts";

const { values } = parseArgs({
  options: {
    rate: { type: "string", default: "20000" },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    against: { type: "string" },
  },
});
const auditUsMax = 5;
const run = promisify(execFile);
const load = new URL("support/audit-steady.ts", import.meta.url).pathname;
const here = new URL("../src", import.meta.url).pathname;

async function cpuUsOf(sources: string, destinations: "all" | "none"): Promise<number> {
  const { stdout } = await run(process.execPath, [load, sources, values.rate, values.seconds, destinations]);
  const { cpuUs, perSecond, dropped } = JSON.parse(stdout) as Record<"cpuUs" | "perSecond" | "dropped", number>;
  const note = dropped > 0 ? `, ${dropped} records dropped: the disk is too slow for a result` : "";
  console.log(`${sources} ${destinations}: ${cpuUs.toFixed(1)} µs at ${Math.round(perSecond)}/s${note}`);
  return cpuUs;
}

const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;

const versions = values.against === undefined ? [here] : [here, values.against];
const figures = new Map(versions.map((version) => [version, { all: [] as number[], none: [] as number[] }]));
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [version, figure] of figures) {
    figure.none.push(await cpuUsOf(version, "none"));
    figure.all.push(await cpuUsOf(version, "all"));
  }
}
const budgets: Budget[] = [...figures].map(([version, { all, none }]) => {
  const cost = median(all) - median(none);
  const isOurs = version === here;
  return {
    what: `stored and sealed audit, of a decision at ${values.rate}/s${isOurs ? "" : `, ${version}`}`,
    result: `${cost.toFixed(1)} µs (${median(all).toFixed(1)} and ${median(none).toFixed(1)} µs of processor time)`,
    budget: isOurs ? `≤ ${auditUsMax} µs` : "",
    met: isOurs ? cost <= auditUsMax : null,
  };
});
reportBudgets(budgets);
