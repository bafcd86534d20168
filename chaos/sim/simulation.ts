/**
 * Simulation: one seed from its start to its judgement.
 *
 *   start, sign-ins, peace → faults, in sequence and at once → everything is repaired → peace, in which all must
 *   converge
 *
 * - The same seed and the same plans give the same run, byte for byte, as the hash shows.
 * - The caller may pass its own faults and actions. A shrinker passes reduced lists.
 */
import type { Actors } from "./actors.ts";
import { lineOf } from "./fact-lines.ts";
import { type PlannedFault, planFaults } from "./fault-plan.ts";
import { type FaultContext, startFaults } from "./faults.ts";
import { type MonitorResult, watch } from "./monitors/index.ts";
import type { SimProcess } from "./process.ts";
import { type Situation, Sometimes } from "./sometimes.ts";
import { optionsOf, type SimOptions } from "./swarm.ts";
import { startNew } from "./upgrade.ts";
import { Workload, type WorkloadCounts } from "./workload.ts";
import { type PlannedAction, planActions } from "./workload-plan.ts";
import { World, worldStart } from "./world.ts";

/** Builds all processes of the world. Only servers are started. */
export type BuildCluster = (world: World, options: SimOptions) => BuiltCluster;

export type BuiltCluster = Readonly<{
  actors: Actors;
  /** One client in each region. */
  clients: readonly SimProcess[];
  /** Sends a forged message from an attacker without a key. */
  forge: (action: PlannedAction) => void;
}>;

export type Spec = Readonly<{
  seed: number;
  /** Replaces the faults of the seed. */
  faults?: readonly PlannedFault[];
  actions?: readonly PlannedAction[];
  traceLinesMax?: number;
  /** Ends the run at the first violation. */
  stopAtFirst?: true;
}>;

export type SimResult = Readonly<{
  seed: number;
  hash: string;
  simulatedMs: number;
  steps: number;
  faults: number;
  workload: WorkloadCounts;
  monitorResult: MonitorResult;
  situations: ReadonlyMap<Situation, number>;
  trace: readonly string[];
}>;

const sliceMs = 250;
/** Maximum number of steps. No seed needs as many: more means an endless loop. */
const stepsMax = 5_000_000;

export async function simulate(spec: Spec, buildCluster: BuildCluster): Promise<SimResult> {
  const options = optionsOf(spec.seed);
  const { deltaMs, drift, windowMaxMs } = options.lease;
  const monitors = watch({
    ...{ wallStart: worldStart, deltaMs, drift, windowMaxMs },
    massChanges: options.outside.massChanges,
  });
  const sometimes = new Sometimes(monitors.truth);
  const world: World = new World({
    seed: spec.seed,
    traceLinesMax: spec.traceLinesMax ?? 0,
    wallSkewMsMax: options.wallSkewMs,
    facts(fact) {
      if (world.trace.keeps) {
        const line = lineOf(fact);
        if (line !== undefined) world.note(fact.process, line);
      }
      monitors.report(fact);
      sometimes.report(fact);
    },
  });
  const { actors, clients, forge } = buildCluster(world, options);
  const infrastructure = [...world.processes.values()].filter(({ identity }) => identity.role !== "client");
  harden(world, options, infrastructure);
  const context: FaultContext = {
    ...{ actors, options, infrastructure, clients, rollout: { finalizing: "no" } },
    pick: (list, by) => list[Math.floor(by * list.length)],
  };
  for (const client of clients) client.start();
  const workload = new Workload(actors, options, { clients, forge });
  workload.start(spec.actions ?? planActions(options));
  startNew(context);
  const faults = startFaults(context, spec.faults ?? planFaults(options));
  world.at(options.faultsUntilMs, () =>
    faults.heal(() => world.report({ type: "faults-over", at: world.now, process: "operator" })),
  );
  for (let until = sliceMs; until <= options.endMs; until += sliceMs) {
    await world.runSettled(until);
    if (world.steps > stepsMax) throw new Error(`seed ${spec.seed}: ${world.steps} steps in ${until} ms`);
    if (spec.stopAtFirst === true && monitors.found()) break;
  }
  world.report({ type: "run-over", at: world.now, process: "operator" });
  return {
    seed: spec.seed,
    hash: world.trace.hash,
    simulatedMs: world.now,
    steps: world.steps,
    faults: faults.begun(),
    workload: workload.counts,
    monitorResult: monitors.monitorResult(),
    situations: sometimes.reached,
    trace: world.trace.lines,
  };
}

/** Applies the permanent imperfections of the world, with or without faults: clocks, links, the fan-out. */
function harden(world: World, options: SimOptions, all: readonly SimProcess[]): void {
  const { network } = world;
  const clocks = world.random("clock");
  for (const process of all) process.setRate(1 + clocks.within(-options.rateError, options.rateError));
  const { loss, slowMs } = options.network;
  if (loss === 0 && slowMs === 0) return;
  for (const from of all) {
    for (const to of all) {
      if (from === to) continue;
      network.lose(from, to, loss);
      network.slow(from, to, slowMs);
    }
  }
}
