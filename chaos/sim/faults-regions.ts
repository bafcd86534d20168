/** Faults of remote regions: their links to the other regions, their brokers, and the disks of these brokers. */
import { type Actors, type RegionActor, revocationSteps } from "./actors.ts";
import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, FaultContext, Undo } from "./faults.ts";
import { both } from "./faults-links.ts";
import { asleep, down, paused, up, upAgain } from "./faults-processes.ts";
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
  /** Cuts the brokers of a region off from the home brokers. NATS still forwards batches. */
  "cut-home": onRegion((region, _, { actors }) => {
    const home = actors.brokers.map(({ process }) => process);
    return actors.world.network.part(processesOf(brokersOf(region, actors)), home);
  }),
  /** Loses everything in one direction, from a region to the others or back. */
  "cut-region-one-way": onRegion((region, { much }, context) => {
    const { inside, outside } = partsOf(region, context, { nats: "inside" });
    const [from, to] = much < 0.5 ? [inside, outside] : [outside, inside];
    return both(...from.flatMap((one) => to.map((other) => context.actors.world.network.cut(one, other))));
  }),
  /** Cuts a region's NATS off from the other regions, and the region's processes from their NATS. */
  "cut-leaf": onRegion((region, _, context) => {
    const { inside, outside } = partsOf(region, context, { nats: "inside" });
    return context.actors.world.network.part(inside, outside.filter(isNats));
  }),
  /** Cuts the remote regions off from each other, and from nothing else. */
  "cut-remote-regions"({ actors, infrastructure }) {
    const regions = [...new Set(actors.regionals.map(({ process }) => process.region))];
    const [one, other] = regions.map((region) => infrastructure.filter((process) => process.region === region));
    if (one === undefined || other === undefined) return undefined;
    return { about: regions.join(" and "), undo: actors.world.network.part(one, other) };
  },
  /**
   * Cuts a whole region off. Its links heal one after another, in any order: each broker to the home brokers, the
   * nodes, NATS.
   */
  "heal-in-pieces": onRegion((region, { much, other, forMs }, context) => {
    const { world } = context.actors;
    const { inside, outside } = partsOf(region, context, { nats: "inside" });
    const pieces = inside.map((one) => world.network.part([one], outside));
    const random = world.random("faults/pieces");
    for (const piece of pieces) world.after(forMs * Math.min(1, other + (1 - other) * random.next()), piece);
    if (much < 0.3) region.process.restart();
    return both(...pieces);
  }),
  /** Cuts one regional broker off from the home region, from the other broker of its region, or from both. */
  "cut-regional-broker": onRegion((region, { much }, { actors }) => {
    const { network } = actors.world;
    const home = actors.brokers.map(({ process }) => process);
    const peers = processesOf(brokersOf(region, actors)).filter((process) => process !== region.process);
    const from = [...(much < 0.65 ? home : []), ...(much > 0.35 ? peers : [])];
    return network.part([region.process], from);
  }),
  /** Cuts every process of a region off from one of its brokers, which still reaches the home region, or does not. */
  "cut-regional-brokers": onRegion((region, planned, context) => {
    const { actors, infrastructure } = context;
    const mates = infrastructure.filter(
      (one) => one.region === region.process.region && one !== region.process && !isNats(one),
    );
    const undo = actors.world.network.part([region.process], mates);
    return planned.much < 0.5 ? both(undo, cutOff(region, planned, context)) : undo;
  }),
  /** Kills every broker of a region that is cut off; they start again one after the other. */
  "kill-regional-brokers": onRegion((region, planned, context) => {
    const { actors } = context;
    const undo = planned.other < 0.5 ? cutOff(region, planned, context) : () => {};
    const ups = brokersOf(region, actors).map(({ process }) => down(process));
    for (const [index, start] of ups.entries())
      actors.world.after(planned.forMs * (0.3 + 0.5 * index * planned.much), start);
    return both(undo, ...ups);
  }),
  /** Replaces the disk of one regional broker, or of every broker of its region, while the region is cut off. */
  "lose-regional-disks": onRegion((region, planned, context) => {
    const undo = cutOff(region, planned, context);
    const lost = planned.much < 0.6 ? [region] : brokersOf(region, context.actors);
    const ups = lost.map((one) => {
      one.disk.fail("lost");
      return down(one.process);
    });
    for (const start of ups) context.actors.world.after(planned.forMs * 0.4, start);
    return both(undo, ...ups);
  }),
  /** Ends the process of a regional broker at one step of the next local revocation, in a region that is cut off. */
  "crash-while-revoking": onRegion((region, planned, context) => {
    const { much, other, forMs } = planned;
    const { world } = context.actors;
    const undo = cutOff(region, planned, context);
    const step = revocationSteps[Math.floor(other * revocationSteps.length)];
    if (step !== undefined) region.disk.crash = { step, how: much < 0.5 ? "process" : "power" };
    region.disk.markMs = 2 + markMsMax * much * much;
    const start = (): void => up(region.process);
    world.after(forMs * 0.7, start);
    return both(undo, start, () => {
      region.disk.crash = null;
      region.disk.markMs = 2;
    });
  }),
  /**
   * A node of a region that is cut off stores no local revocations, or takes none; or all of them do. Half of the time
   * they also restart once the region may have accepted some: then no lease from before them counts. The region heals
   * first, the nodes last.
   */
  "node-lacks-revocations": onRegion((region, planned, context) => {
    const { much, other, forMs } = planned;
    const { world, nodes } = context.actors;
    const undo = cutOff(region, planned, context);
    const random = world.random("faults/lacking");
    const own = nodes.filter(({ process }) => process.region === region.process.region);
    const one = context.pick(own, much);
    const lacking = random.chance(0.5) ? own : own.filter((node) => node === one);
    const restarts = random.chance(0.5);
    for (const node of lacking) node.limitRevocations(other < 0.3 ? "none stored" : "none taken");
    world.after(forMs * 0.57, () => {
      for (const { process } of lacking) if (restarts && process.isUp) process.restart();
    });
    world.after(forMs * 0.7, undo);
    return both(undo, () => {
      for (const node of lacking) node.limitRevocations("none");
    });
  }),
} satisfies Readonly<Record<string, Fault>>;

function onRegion(act: (region: RegionActor, planned: PlannedFault, context: FaultContext) => Undo): Fault {
  return (context, planned) => {
    const region = context.pick(context.actors.regionals, planned.who);
    return region && { about: region.process.name, undo: act(region, planned, context) };
  };
}

/**
 * Cuts the regional brokers, the nodes and, half of the time, the NATS servers of the region off from the other
 * regions.
 */
function cutOff(region: RegionActor, { other }: PlannedFault, context: FaultContext): Undo {
  const { inside, outside } = partsOf(region, context, { nats: other < 0.5 ? "inside" : "outside" });
  return context.actors.world.network.part(inside, outside);
}

/** The processes of a region that has regional brokers, and the others. */
function partsOf(
  region: RegionActor,
  { infrastructure, actors }: FaultContext,
  { nats }: Readonly<{ nats: "inside" | "outside" }>,
): Readonly<{ inside: readonly SimProcess[]; outside: readonly SimProcess[] }> {
  const own = new Set([...brokersOf(region, actors), ...actors.nodes].map(({ process }) => process));
  const isInside = (one: SimProcess): boolean =>
    one.region === region.process.region && (own.has(one) || (isNats(one) && nats === "inside"));
  return { inside: infrastructure.filter(isInside), outside: infrastructure.filter((one) => !isInside(one)) };
}

function brokersOf({ process }: RegionActor, { regionals }: Actors): readonly RegionActor[] {
  return regionals.filter((one) => one.process.region === process.region);
}

function processesOf(regions: readonly RegionActor[]): readonly SimProcess[] {
  return regions.map(({ process }) => process);
}

function isNats({ identity }: SimProcess): boolean {
  return identity.role === "nats";
}
