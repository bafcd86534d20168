/** Faults of remote regions: their links to the other regions, their brokers, and the disks of these brokers. */
import type { RegionActor } from "./actors.ts";
import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, FaultContext, Undo } from "./faults.ts";
import { both } from "./faults-links.ts";
import { asleep, down, paused, upAgain } from "./faults-processes.ts";
import type { SimProcess } from "./process.ts";

const killsMax = 3;
/** Upper bound (ms) of the write delay of the age mark's disk, while it has no other fault. */
const markMsMax = 700;

export const regionFaults = {
  /** Cuts the region off; clients still reach it. */
  "cut-region": onRegion((region, planned, context) => cutOff(region, planned, context)),
  /** Delays messages so that some answers of the home region arrive in time and some do not. */
  "slow-region": onRegion(({ process }, { much }, { actors: { world, brokers } }) => {
    const ms = 700 + 700 * much;
    const undo = brokers.flatMap(({ process: one }) => [
      world.network.slow(process, one, ms),
      world.network.slow(one, process, ms),
    ]);
    return both(...undo);
  }),
  /**
   * Restarts the regional broker of a region that is cut off. Grants by age of its earlier boots may still count. A
   * node that restarts meanwhile can only get a lease by age.
   */
  "cut-and-kill-region": onRegion((region, planned, context) => {
    const { much, other, forMs } = planned;
    const { world } = context.actors;
    const undo = cutOff(region, planned, context);
    const kills = 1 + Math.floor(killsMax * much);
    region.disk.markMs = 2 + markMsMax * much;
    for (let index = 1; index <= kills; index++)
      world.after((forMs * index) / (kills + 0.5), () => {
        if (region.process.isUp) region.process.restart();
      });
    const node = context.actors.nodes.find(({ process }) => process.region === region.process.region);
    if (node !== undefined && other < 0.6) node.process.restart();
    return both(undo, () => {
      region.disk.markMs = 2;
    });
  }),
  "kill-region": onRegion(({ process }) => down(process)),
  /** Stops the regional broker in an orderly way: it says goodbye if it may, and ends. */
  "stop-region": onRegion((region) => {
    region.process.run(() => region.stop());
    return () => upAgain(region.process);
  }),
  "pause-region": onRegion(({ process }) => paused(process)),
  "suspend-region": onRegion(({ process }, { much }, { actors }) =>
    asleep(actors.world, process, much < 0.5 ? "monotonic" : "both"),
  ),
  "full-region-disk": onRegion((region, planned, context) => {
    const { much } = planned;
    region.disk.isFull = true;
    const undo = much < 0.5 ? cutOff(region, planned, context) : () => {};
    const until = much < 0.25 ? down(region.process) : () => {};
    return both(undo, until, () => {
      region.disk.isFull = false;
    });
  }),
  "lost-region-disk": onRegion((region) => {
    region.disk.fail("lost");
    return down(region.process);
  }),
  "region-power": onRegion((region) => {
    region.disk.fail("power");
    return down(region.process);
  }),
} satisfies Readonly<Record<string, Fault>>;

function onRegion(act: (region: RegionActor, planned: PlannedFault, context: FaultContext) => Undo): Fault {
  return (context, planned) => {
    const region = context.pick(context.actors.regionals, planned.who);
    return region && { about: region.process.name, undo: act(region, planned, context) };
  };
}

/** Cuts the regional broker, its nodes and, half of the time, the region's NATS servers off from the rest. */
function cutOff({ process }: RegionActor, { other }: PlannedFault, { infrastructure, actors }: FaultContext): Undo {
  const { region } = process;
  const own = new Set([process, ...actors.nodes.map((node) => node.process).filter((node) => node.region === region)]);
  const isInside = (one: SimProcess): boolean =>
    own.has(one) || (one.region === region && one.identity.role === "nats" && other < 0.5);
  return actors.world.network.part(
    infrastructure.filter(isInside),
    infrastructure.filter((one) => !isInside(one)),
  );
}
