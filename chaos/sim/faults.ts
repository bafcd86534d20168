/**
 * Faults: applies the plan's faults to the cast, undoes each after its duration, and finally repairs everything.
 *
 * - A fault selects its target when it happens. A fault without a target (a leader when there is none) ends at once.
 * - Each fault reports its start before it acts and its end after its undo, so its actions never look fault-free.
 */
import type { Actors } from "./actors.ts";
import type { PlannedFault } from "./fault-plan.ts";
import { linkFaults } from "./faults-links.ts";
import { postgresFaults } from "./faults-postgres.ts";
import { processFaults } from "./faults-processes.ts";
import { regionFaults } from "./faults-regions.ts";
import { operatorFaults } from "./operators.ts";
import type { SimProcess } from "./process.ts";
import type { FaultKind, SimOptions } from "./swarm.ts";
import { type Rollout, upgradeTheRest } from "./upgrade.ts";

export type Undo = () => void;

/** The input of a fault: cast, options and target selection. */
export type FaultContext = Readonly<{
  actors: Actors;
  options: SimOptions;
  /** Every process except clients: the processes that a fault can cut off from each other. */
  infrastructure: readonly SimProcess[];
  /** The clients from which operators send commands. */
  clients: readonly SimProcess[];
  rollout: Rollout;
  /** Selects one element of a list by a number of the plan. */
  pick: <T>(list: readonly T[], by: number) => T | undefined;
}>;

/** @returns the undo and a description of the target; undefined: there was no target */
export type Fault = (
  context: FaultContext,
  planned: PlannedFault,
) => Readonly<{ about: string; undo: Undo }> | undefined;

const faults: Readonly<Record<FaultKind, Fault>> = {
  ...linkFaults,
  ...regionFaults,
  ...processFaults,
  ...postgresFaults,
  ...operatorFaults,
};

export type Faults = Readonly<{
  /** Number of faults that have acted so far. */
  begun: () => number;
  /** Ends the open faults, repairs the rest, and calls `done` when the system is healthy. */
  heal: (done: () => void) => void;
}>;

/** Schedules the whole plan. */
export function startFaults(context: FaultContext, plan: readonly PlannedFault[]): Faults {
  const { world } = context.actors;
  const open = new Map<number, Readonly<{ kind: FaultKind; undo: Undo }>>();
  let begun = 0;
  let over = false;

  function begin(planned: PlannedFault): void {
    if (over) return;
    const { id, kind } = planned;
    const at = world.now;
    // Reported before the fault acts. Its target is known only afterwards; the trace names it.
    world.report({ type: "fault-began", at, process: "operator", id, kind, about: `for ${planned.forMs} ms` });
    const done = faults[kind](context, planned);
    world.note(
      "fault",
      `${id} ${kind}${done === undefined ? ": nothing to break" : `: ${done.about}, for ${planned.forMs} ms`}`,
    );
    if (done === undefined) {
      world.report({ type: "fault-ended", at, process: "operator", id, kind });
      return;
    }
    begun += 1;
    open.set(id, { kind, undo: done.undo });
    world.after(planned.forMs, () => end(id));
  }

  function end(id: number): void {
    const fault = open.get(id);
    if (fault === undefined) return;
    open.delete(id);
    world.note("fault", `${id} ${fault.kind} is over`);
    fault.undo();
    world.report({ type: "fault-ended", at: world.now, process: "operator", id, kind: fault.kind });
  }

  for (const planned of plan) world.at(planned.atMs, () => begin(planned));
  return {
    begun: () => begun,
    heal(done) {
      over = true;
      for (const id of [...open.keys()]) end(id);
      repair(context, done);
    },
  };
}

/** Repairs the system as operators do: every process up, every clock right, one primary that the others follow. */
function repair(context: FaultContext, done: () => void): void {
  const { actors, options } = context;
  const { world, postgres } = actors;
  for (const process of world.processes.values()) {
    while (process.status === "paused") process.wake();
    if (!process.isUp) process.start();
  }
  upgradeTheRest(context);
  postgres.setSynchronous(options.synchronous);
  const whenIdle = (): void => {
    if (postgres.isBusy) world.after(100, whenIdle);
    else postgres.heal(done);
  };
  whenIdle();
}
