/**
 * Failure report: a shrunk description of a failing seed, with the command that reproduces it.
 *
 * It drops what the failure does not need: first everything after the violation, then kinds of wishes, then faults,
 * then single wishes.
 */
import { type PlannedFault, planFaults, tellFault } from "./fault-plan.ts";
import { reportOf, reportOfCrash, type SeedReport } from "./seed-report.ts";
import { shrinkList } from "./shrink.ts";
import { type Company, simulate } from "./simulation.ts";
import { optionsOf } from "./swarm.ts";
import { planWishes, type Wish, type WishKind } from "./workload-plan.ts";

export type Plans = Readonly<{ seed: number; faults: readonly PlannedFault[]; wishes: readonly Wish[] }>;

export type Story = Readonly<{ plans: Plans; report: SeedReport; text: string; runs: number }>;

const traceLines = 400_000;
const toldTraceLines = 60;

/** Runs the plans and never throws: an error is a finding. */
export function runPlans(
  plans: Plans,
  company: Company,
  how: Readonly<{ traceLinesMax?: number; stopAtFirst?: true }> = {},
) {
  try {
    const result = simulate({ ...plans, ...how }, company);
    return { report: reportOf(result), trace: result.trace };
  } catch (error) {
    return { report: reportOfCrash(plans.seed, error), trace: [] };
  }
}

export function plansOf(seed: number): Plans {
  const options = optionsOf(seed);
  return { seed, faults: planFaults(options), wishes: planWishes(options) };
}

/**
 * Shrinks the plans of a failing seed.
 * @param runsMax upper bound of simulations
 * @returns undefined if the seed does not fail
 */
export function shrinkSeed(whole: Plans, company: Company, runsMax: number): Story | undefined {
  let runs = 0;
  const first = runPlans(whole, company, { stopAtFirst: true }).report.violations[0];
  if (first === undefined) return undefined;
  const { seed } = whole;
  const fails = (plans: Plans): boolean => {
    runs += 1;
    const { report } = runPlans(plans, company, { stopAtFirst: true });
    return report.violations[0]?.invariant === first.invariant;
  };
  let plans = whole;
  const attempt = (shorter: Plans): void => {
    if (runs < runsMax && fails(shorter)) plans = shorter;
  };
  attempt({
    seed,
    faults: whole.faults.filter(({ atMs }) => atMs <= first.at),
    wishes: whole.wishes.filter(({ atMs }) => atMs <= first.at),
  });
  for (const kind of kindsIn(plans.wishes)) {
    attempt({ ...plans, wishes: plans.wishes.filter((wish) => wish.kind !== kind) });
  }
  const faults = shrinkList(plans.faults, (some) => fails({ ...plans, faults: some }), Math.max(0, runsMax / 2 - runs));
  plans = { ...plans, faults: faults.left };
  const wishes = shrinkList(plans.wishes, (some) => fails({ ...plans, wishes: some }), Math.max(0, runsMax - runs));
  plans = { ...plans, wishes: wishes.left };
  const last = runPlans(plans, company, { stopAtFirst: true, traceLinesMax: traceLines });
  return { plans, report: last.report, text: tell(plans, last.report, last.trace), runs };
}

function tell(plans: Plans, report: SeedReport, trace: readonly string[]): string {
  const violation = report.violations[0];
  const until = (violation?.at ?? Number.POSITIVE_INFINITY) / 1_000;
  const before = trace.filter((line) => Number.parseFloat(line) <= until + 0.001);
  const counted = [...kindsIn(plans.wishes)].map(
    (kind) => `${plans.wishes.filter((wish) => wish.kind === kind).length} × ${kind}`,
  );
  return [
    `seed ${plans.seed}, shrunk to ${plans.faults.length} faults and ${plans.wishes.length} wishes (${counted.join(", ") || "none"}):`,
    ...plans.faults.map((fault) => `  ${tellFault(fault)}`),
    `what happened${before.length > toldTraceLines ? `, the last ${toldTraceLines} of ${before.length} lines` : ""}:`,
    ...before.slice(-toldTraceLines).map((line) => `  ${line}`),
    ...report.violations.map(({ story }) => story),
    `the whole seed again: SEED=${plans.seed} npm run simulate`,
  ].join("\n");
}

function kindsIn(wishes: readonly Wish[]): Set<WishKind> {
  return new Set(wishes.map(({ kind }) => kind));
}
