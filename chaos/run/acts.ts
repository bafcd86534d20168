/** Acts: what happens on a stage: the faults of a plan, or scenarios one after another. */
import { setTimeout as delay } from "node:timers/promises";
import type { Plan } from "../faults/plan.ts";
import { nsPerMs } from "../judge/history.ts";
import { playScenario } from "../scenarios/play-scenario.ts";
import type { Scenario } from "../scenarios/scenario.ts";
import type { Stage } from "./stage.ts";

/** Injects the faults of a plan at their times, and lasts as long as the plan says. */
export function planned({ faults: plannedFaults, seconds }: Plan): (stage: Stage) => Promise<void> {
  return async ({ faults, now, startedAt }) => {
    await faults.run(plannedFaults, startedAt);
    await delay(Math.max(0, seconds * 1_000 - (now() - startedAt) / nsPerMs));
  };
}

/** Plays scenarios until one leaves a cluster behind that does not serve any more. */
export function played(scenarios: readonly Scenario[]): (stage: Stage) => Promise<void> {
  return async (stage) => {
    for (const scenario of scenarios) {
      const { boundChecked, broken, serves } = await playScenario(scenario, stage);
      if (!broken && !boundChecked) throw new Error(`${scenario.name} does not check its bound`);
      if (serves) continue;
      stage.say(`the cluster does not serve after ${scenario.name}; the rest is not played`);
      return;
    }
  };
}
