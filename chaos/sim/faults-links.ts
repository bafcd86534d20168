/** Faults of the network: one-way and two-way cuts, slow and lossy links, broken connections. */

import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, FaultContext, Undo } from "./faults.ts";
import type { SimProcess } from "./process.ts";

export const linkFaults = {
  "cut-pair": pairwise((context, a, b) => context.actors.world.network.part([a], [b])),
  "cut-one-way": pairwise((context, a, b) => context.actors.world.network.cut(a, b)),
  "slow-link": pairwise((context, a, b, { much }) => {
    const { network } = context.actors.world;
    const ms = 20 + 800 * much * much;
    return both(network.slow(a, b, ms), network.slow(b, a, ms));
  }),
  "lossy-link": pairwise((context, a, b, { much }) => {
    const { network } = context.actors.world;
    return both(network.lose(a, b, 0.05 + 0.45 * much), network.lose(b, a, 0.05 + 0.45 * much));
  }),
  /** Cuts a process off from the rest of the system; its clients still reach it. */
  isolate(context, { who }) {
    const one = context.pick(context.infrastructure, who);
    if (one === undefined) return undefined;
    return { about: `${one.name} is cut off`, undo: context.actors.world.network.part([one], context.infrastructure) };
  },
  "part-regions"(context) {
    const east = context.infrastructure.filter(({ region }) => region === "east");
    const west = context.infrastructure.filter(({ region }) => region !== "east");
    return { about: "east and west are cut off from each other", undo: context.actors.world.network.part(east, west) };
  },
  "reset-connections"(context, { much }) {
    const { world } = context.actors;
    const random = world.random("faults/resets");
    const all = [...world.network.connections].filter(() => random.chance(0.2 + 0.8 * much));
    for (const connection of all) connection.reset();
    return { about: `${all.length} connections`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;

function pairwise(act: (context: FaultContext, a: SimProcess, b: SimProcess, planned: PlannedFault) => Undo): Fault {
  return (context, planned) => {
    const a = context.pick(context.infrastructure, planned.who);
    const b = context.pick(
      context.infrastructure.filter((one) => one !== a),
      planned.other,
    );
    if (a === undefined || b === undefined) return undefined;
    return { about: `${a.name} and ${b.name}`, undo: act(context, a, b, planned) };
  };
}

export function both(...undo: readonly Undo[]): Undo {
  return () => {
    for (const one of undo) one();
  };
}
