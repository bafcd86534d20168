/** Seed report: the result of one seed as plain data that processes can exchange. Pure. */
import { describe, type Invariant, type Observation } from "./monitors/index.ts";
import type { SimResult } from "./simulation.ts";
import type { Situation } from "./sometimes.ts";

export type SeedReport = Readonly<{
  seed: number;
  hash: string;
  simulatedMs: number;
  steps: number;
  faults: number;
  commands: number;
  requests: number;
  receipts: number;
  complete: number;
  /** Number of rightful requests in quiet times. `permitted`: how many of them were permitted. */
  rightful: number;
  permitted: number;
  head: number;
  lostAcknowledged: number;
  situations: readonly Situation[];
  observations: readonly (readonly [look: Observation, count: number])[];
  violations: readonly SeedViolation[];
  /** Number of violations per invariant. */
  counts: readonly (readonly [invariant: string, count: number])[];
}>;

export type SeedViolation = Readonly<{ invariant: string; at: number; story: string }>;

/** Value of `invariant` for a run that ended in an error instead of a judgement. */
export const crashed = "crash";
const violationsMax = 8;

export function reportOf(result: SimResult): SeedReport {
  const { monitorResult, workload } = result;
  return {
    ...{ seed: result.seed, hash: result.hash, simulatedMs: result.simulatedMs, steps: result.steps },
    ...{ faults: result.faults, commands: workload.commands, requests: workload.requests },
    ...{ receipts: workload.receipts, complete: workload.complete },
    ...{ rightful: monitorResult.availability.rightful, permitted: monitorResult.availability.permitted },
    ...{ head: monitorResult.head, lostAcknowledged: monitorResult.lostAcknowledged },
    situations: [...result.situations.keys()],
    observations: [...monitorResult.observations],
    violations: monitorResult.violations
      .slice(0, violationsMax)
      .map((violation) => ({ invariant: `${violation.invariant}`, at: violation.at, story: describe(violation) })),
    counts: [...monitorResult.counts].map(
      ([invariant, count]: [Invariant, number]) => [`${invariant}`, count] as const,
    ),
  };
}

/** The report of a run in which a core or a model threw an error, which is a finding, too. */
export function reportOfCrash(seed: number, error: unknown): SeedReport {
  const story = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const nothing = { faults: 0, commands: 0, requests: 0, receipts: 0, complete: 0, rightful: 0, permitted: 0, head: 0 };
  return {
    ...{ seed, hash: "", simulatedMs: 0, steps: 0, ...nothing, lostAcknowledged: 0, situations: [], observations: [] },
    violations: [{ invariant: crashed, at: 0, story: `the simulation ended in an error\n${story}` }],
    counts: [[crashed, 1]],
  };
}
