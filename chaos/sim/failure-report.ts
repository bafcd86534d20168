/**
 * Failure report: a shrunk description of a failing seed, with the command that reproduces it.
 *
 * It drops what the failure does not need: first everything after the violation, then kinds of actions, then faults,
 * then single actions.
 */
import { formatFault, type PlannedFault, planFaults } from "./fault-plan.ts";
import { reportOf, reportOfCrash, type SeedReport } from "./seed-report.ts";
import { shrinkList } from "./shrink.ts";
import { type BuildCluster, simulate } from "./simulation.ts";
import { optionsOf } from "./swarm.ts";
import { type ActionKind, type PlannedAction, planActions } from "./workload-plan.ts";

export type Plans = Readonly<{ seed: number; faults: readonly PlannedFault[]; actions: readonly PlannedAction[] }>;

export type Story = Readonly<{ plans: Plans; report: SeedReport; text: string; runs: number }>;

const traceLines = 400_000;
const printedTraceLines = 60;

/** Runs the plans and never throws: an error is a finding. */
export async function runPlans(
  plans: Plans,
  buildCluster: BuildCluster,
  how: Readonly<{ traceLinesMax?: number; stopAtFirst?: true }> = {},
) {
  try {
    const result = await simulate({ ...plans, ...how }, buildCluster);
    return { report: reportOf(result), trace: result.trace };
  } catch (error) {
    return { report: reportOfCrash(plans.seed, error), trace: [] };
  }
}

export function plansOf(seed: number): Plans {
  const options = optionsOf(seed);
  return { seed, faults: planFaults(options), actions: planActions(options) };
}

/**
 * Shrinks the plans of a failing seed.
 * @param runsMax upper bound of simulations
 * @returns undefined if the seed does not fail
 */
export async function shrinkSeed(
  whole: Plans,
  buildCluster: BuildCluster,
  runsMax: number,
): Promise<Story | undefined> {
  let runs = 0;
  const [first] = (await runPlans(whole, buildCluster, { stopAtFirst: true })).report.violations;
  if (first === undefined) return undefined;
  const { seed } = whole;
  const fails = async (plans: Plans): Promise<boolean> => {
    runs += 1;
    const { report } = await runPlans(plans, buildCluster, { stopAtFirst: true });
    return report.violations[0]?.invariant === first.invariant;
  };
  let plans = whole;
  const attempt = async (shorter: Plans): Promise<void> => {
    if (runs < runsMax && (await fails(shorter))) plans = shorter;
  };
  await attempt({
    seed,
    faults: whole.faults.filter(({ atMs }) => atMs <= first.at),
    actions: whole.actions.filter(({ atMs }) => atMs <= first.at),
  });
  for (const kind of kindsIn(plans.actions)) {
    await attempt({ ...plans, actions: plans.actions.filter((action) => action.kind !== kind) });
  }
  const faults = await shrinkList(
    plans.faults,
    (some) => fails({ ...plans, faults: some }),
    Math.max(0, runsMax / 2 - runs),
  );
  plans = { ...plans, faults: faults.left };
  const actions = await shrinkList(
    plans.actions,
    (some) => fails({ ...plans, actions: some }),
    Math.max(0, runsMax - runs),
  );
  plans = { ...plans, actions: actions.left };
  const last = await runPlans(plans, buildCluster, { stopAtFirst: true, traceLinesMax: traceLines });
  return { plans, report: last.report, text: formatStory(plans, last.report, last.trace), runs };
}

function formatStory(plans: Plans, report: SeedReport, trace: readonly string[]): string {
  const violation = report.violations[0];
  const until = (violation?.at ?? Number.POSITIVE_INFINITY) / 1_000;
  const before = trace.filter((line) => Number.parseFloat(line) <= until + 0.001);
  const counted = [...kindsIn(plans.actions)].map(
    (kind) => `${plans.actions.filter((action) => action.kind === kind).length} × ${kind}`,
  );
  return [
    `seed ${plans.seed}, shrunk to ${plans.faults.length} faults and ${plans.actions.length} actions (${counted.join(", ") || "none"}):`,
    ...plans.faults.map((fault) => `  ${formatFault(fault)}`),
    `what happened${before.length > printedTraceLines ? `, the last ${printedTraceLines} of ${before.length} lines` : ""}:`,
    ...before.slice(-printedTraceLines).map((line) => `  ${line}`),
    ...report.violations.map(({ story }) => story),
    `the whole seed again: SEED=${plans.seed} npm run simulate`,
  ].join("\n");
}

function kindsIn(actions: readonly PlannedAction[]): Set<ActionKind> {
  return new Set(actions.map(({ kind }) => kind));
}
