/** Seed run: one seed with the real cores in the simulated world. */
import { buildCluster } from "./cluster-setup.ts";
import type { Violation } from "./monitors/index.ts";
import { type SimResult, type Spec, simulate } from "./simulation.ts";

export type SeedRun = SimResult & Readonly<{ violations: readonly Violation[] }>;

/** @throws any error of a core or a model; such an error is a finding, too */
export async function runSeed(seed: number, how: Omit<Spec, "seed"> = {}): Promise<SeedRun> {
  const result = await simulate({ seed, ...how }, buildCluster);
  return { ...result, violations: result.monitorResult.violations };
}
