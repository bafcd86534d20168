/** Batches: which scenarios share a cluster, one after another. Pure. */
import type { Scenario } from "./scenario.ts";

/** In the given order within a topology. A scenario that changes its cluster is the last on it. */
export function batchesOf(scenarios: readonly Scenario[]): readonly (readonly Scenario[])[] {
  const batches: Scenario[][] = [];
  for (const topology of ["one-region", "three-regions", "movable-home"] as const) {
    let open: Scenario[] | undefined;
    for (const scenario of scenarios.filter((each) => each.topology === topology)) {
      if (open === undefined) {
        open = [];
        batches.push(open);
      }
      open.push(scenario);
      if (scenario.changesCluster === true) open = undefined;
    }
  }
  return batches;
}
