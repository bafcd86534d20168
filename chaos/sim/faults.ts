/**
 * Faults: does to the cast what the plan says, takes it back when its time is over, and heals everything in the end.
 *
 * Whom a fault hits is resolved when it happens. One that hits nothing (a leader where nobody leads) is told as over at
 * once. Every fault is reported before and after it acts, so that nothing it causes is seen in peace.
 */
import type { Cast } from "./actors.ts";
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

/** What a fault has to work with. */
export type Stage = Readonly<{
  cast: Cast;
  options: SimOptions;
  /** Everything but clients: what can be cut off from each other. */
  infrastructure: readonly SimProcess[];
  /** From where operators ask. */
  clients: readonly SimProcess[];
  rollout: Rollout;
  /** One of a list, by a number of the plan. */
  pick: <T>(list: readonly T[], by: number) => T | undefined;
}>;

/** @returns how it is taken back, and a word on whom it hit; undefined: it hit nobody */
export type Fault = (stage: Stage, planned: PlannedFault) => Readonly<{ about: string; undo: Undo }> | undefined;

const faults: Readonly<Record<FaultKind, Fault>> = {
  ...linkFaults,
  ...regionFaults,
  ...processFaults,
  ...postgresFaults,
  ...operatorFaults,
};

export type Faults = Readonly<{
  /** Of those that acted, so far. */
  begun: () => number;
  /** Ends what is still broken, mends the rest, and tells when all is whole. */
  heal: (done: () => void) => void;
}>;

/** Schedules the whole plan. */
export function startFaults(stage: Stage, plan: readonly PlannedFault[]): Faults {
  const { world } = stage.cast;
  const open = new Map<number, Readonly<{ kind: FaultKind; undo: Undo }>>();
  let begun = 0;
  let over = false;

  function begin(planned: PlannedFault): void {
    if (over) return;
    const { id, kind } = planned;
    const at = world.now;
    // Told before it acts; whom it hits is known only afterwards, and is in the trace.
    world.report({ type: "fault-began", at, process: "operator", id, kind, about: `for ${planned.forMs} ms` });
    const done = faults[kind](stage, planned);
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
      mend(stage, done);
    },
  };
}

/** As operators leave it after a bad day: every process up, every clock right, one primary that the others follow. */
function mend(stage: Stage, done: () => void): void {
  const { cast, options } = stage;
  const { world, postgres } = cast;
  for (const process of world.processes.values()) {
    while (process.status === "paused") process.wake();
    if (!process.isUp) process.start();
  }
  upgradeTheRest(stage);
  postgres.setSynchronous(options.synchronous);
  const whenIdle = (): void => {
    if (postgres.isBusy) world.after(100, whenIdle);
    else postgres.heal(done);
  };
  whenIdle();
}
