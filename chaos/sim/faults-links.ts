/** Faults of the network: one-way and two-way cuts, slow and lossy links, broken connections. */

import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, Stage, Undo } from "./faults.ts";
import type { SimProcess } from "./process.ts";

export const linkFaults = {
  "cut-pair": pairwise((stage, a, b) => stage.actors.world.network.part([a], [b])),
  "cut-one-way": pairwise((stage, a, b) => stage.actors.world.network.cut(a, b)),
  "slow-link": pairwise((stage, a, b, { much }) => {
    const { network } = stage.actors.world;
    const ms = 20 + 800 * much * much;
    return both(network.slow(a, b, ms), network.slow(b, a, ms));
  }),
  "lossy-link": pairwise((stage, a, b, { much }) => {
    const { network } = stage.actors.world;
    return both(network.lose(a, b, 0.05 + 0.45 * much), network.lose(b, a, 0.05 + 0.45 * much));
  }),
  /** Cuts a process off from the rest of the system; its clients still reach it. */
  isolate(stage, { who }) {
    const one = stage.pick(stage.infrastructure, who);
    if (one === undefined) return undefined;
    return { about: `${one.name} is cut off`, undo: stage.actors.world.network.part([one], stage.infrastructure) };
  },
  "part-regions"(stage) {
    const east = stage.infrastructure.filter(({ region }) => region === "east");
    const west = stage.infrastructure.filter(({ region }) => region !== "east");
    return { about: "east and west are cut off from each other", undo: stage.actors.world.network.part(east, west) };
  },
  "reset-connections"(stage, { much }) {
    const { world } = stage.actors;
    const random = world.random("faults/resets");
    const all = [...world.network.connections].filter(() => random.chance(0.2 + 0.8 * much));
    for (const connection of all) connection.reset();
    return { about: `${all.length} connections`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;

function pairwise(act: (stage: Stage, a: SimProcess, b: SimProcess, planned: PlannedFault) => Undo): Fault {
  return (stage, planned) => {
    const a = stage.pick(stage.infrastructure, planned.who);
    const b = stage.pick(
      stage.infrastructure.filter((one) => one !== a),
      planned.other,
    );
    if (a === undefined || b === undefined) return undefined;
    return { about: `${a.name} and ${b.name}`, undo: act(stage, a, b, planned) };
  };
}

export function both(...undo: readonly Undo[]): Undo {
  return () => {
    for (const one of undo) one();
  };
}
