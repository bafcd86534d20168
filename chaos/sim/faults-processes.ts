/** Faults of processes (NATS servers included) and of their machines, clocks and disks. */

import type { NodeActor } from "./actors.ts";
import type { Frozen } from "./clock.ts";
import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, FaultContext, Undo } from "./faults.ts";
import { both } from "./faults-links.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

/** Largest clock rate error that the fault sets. The protocol assumes a bound (docs/protocol.md §1.2, A3). */
const rateErrorMax = 0.0095;
const stepMsMax = 12_000;
const setLateMs = 1_000;

export const processFaults = {
  "kill-node": onNode((node) => down(node.process)),
  "restart-node": onNode((node) => {
    node.process.restart();
    return () => {};
  }),
  /** An orderly stop, as by an operator: the node says goodbye and ends. */
  "stop-node": onNode((node) => {
    node.process.run(() => node.stop());
    return () => upAgain(node.process);
  }),
  /** A machine is gone without a goodbye, and comes back only when everything is repaired. */
  "leave-node": onNode((node) => down(node.process)),
  "old-disk": onNode((node) => {
    node.disk("old");
    return down(node.process);
  }),
  "lost-disk": onNode((node) => {
    node.disk("lost");
    return down(node.process);
  }),
  "pause-node": onNode((node) => paused(node.process)),
  /**
   * The wall clock keeps running: a suspension that stops both clocks looks like a short one (docs/protocol.md §5.5).
   */
  "suspend-node": onNode((node, _, { actors }) => asleep(actors.world, node.process, "monotonic")),
  "pause-broker": onBroker((process) => paused(process)),
  "suspend-broker": onBroker((process, { much }, { actors }) =>
    asleep(actors.world, process, much < 0.5 ? "monotonic" : "both"),
  ),
  "kill-broker": onBroker((process) => down(process)),
  "kill-leader": onLeader((process) => down(process)),
  "pause-leader": onLeader((process) => paused(process)),
  "kill-brokers"(context) {
    const undo = both(...context.actors.brokers.map(({ process }) => down(process)));
    return { about: "every broker", undo };
  },
  "clock-rate": onClock((process, { much }) => {
    const before = process.clock.rate;
    process.setRate(1 + (2 * much - 1) * rateErrorMax);
    return () => process.setRate(before);
  }),
  "clock-step": onClock((process, { much }) => {
    const ms = Math.round((2 * much - 1) * stepMsMax);
    process.stepWall(ms);
    return () => process.stepWall(-ms);
  }),
  "kill-nats": onNats(down),
  "pause-nats": onNats(paused),
  "kill-all-nats"(context) {
    const undo = both(...natsServers(context).map(down));
    return { about: "every NATS server", undo };
  },
  "nats-suffix"({ actors }, { much }) {
    return { about: `${actors.nats.loseStreamSuffix(1 + Math.floor(much * 30))} messages`, undo: () => {} };
  },
  "nats-stream"({ actors }) {
    actors.nats.deleteStream();
    return { about: "the replay buffer is gone", undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;

function onNode(act: (node: NodeActor, planned: PlannedFault, context: FaultContext) => Undo): Fault {
  return (context, planned) => {
    const node = context.pick(context.actors.nodes, planned.who);
    return node && { about: node.process.name, undo: act(node, planned, context) };
  };
}

function onBroker(act: (process: SimProcess, planned: PlannedFault, context: FaultContext) => Undo): Fault {
  return (context, planned) => {
    const broker = context.pick(context.actors.brokers, planned.who);
    return broker && { about: broker.process.name, undo: act(broker.process, planned, context) };
  };
}

function onLeader(act: (process: SimProcess, planned: PlannedFault) => Undo): Fault {
  return (context, planned) => {
    const leader = context.actors.brokers.find((broker) => broker.leads());
    return leader && { about: `${leader.process.name}, which leads`, undo: act(leader.process, planned) };
  };
}

function onClock(act: (process: SimProcess, planned: PlannedFault) => Undo): Fault {
  return (context, planned) => {
    const { nodes, brokers, regionals } = context.actors;
    const all = [...nodes, ...brokers, ...regionals].map(({ process }) => process);
    const process = context.pick(all, planned.who);
    return process && { about: process.name, undo: act(process, planned) };
  };
}

function onNats(act: (process: SimProcess) => Undo): Fault {
  return (context, planned) => {
    const server = context.pick(natsServers(context), planned.who);
    return server && { about: server.name, undo: act(server) };
  };
}

function natsServers({ actors }: FaultContext): SimProcess[] {
  return actors.nats.serverNames.map((name) => actors.world.process(name));
}

export function down(process: SimProcess): Undo {
  process.kill();
  return () => up(process);
}

/** A process that has not finished stopping is killed first, as a supervisor does. */
export function upAgain(process: SimProcess): void {
  if (process.isUp) process.restart();
  else up(process);
}

export function up(process: SimProcess): void {
  if (!process.isUp) process.start();
}

/** Pauses this boot. The undo does not resume a later boot. */
export function paused(process: SimProcess): Undo {
  if (!process.isUp) return () => {};
  const { boot } = process;
  process.pause();
  return () => {
    if (process.boot === boot) process.resume();
  };
}

/** Suspends a process. If both clocks stop, the wall clock is late after the wake-up until a time server sets it. */
export function asleep(world: World, process: SimProcess, frozen: Frozen): Undo {
  if (!process.isUp) return () => {};
  const { boot } = process;
  process.suspend(frozen);
  return () => {
    if (process.boot === boot) process.wake();
    world.after(setLateMs, () => process.setByServer());
  };
}
