/**
 * Simulated regional broker: a process of the world (region-boot.ts), with the interfaces for the nodes of its region,
 * faults and operators. Its disk survives its boots.
 */
import { RegionCopy } from "../../src/broker/region/region-copy.ts";
import { parseNodeId } from "../../src/events/index.ts";
import type { RegionActor } from "./actors.ts";
import type { BrokerPort } from "./broker-port.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { NatsModel } from "./nats-model.ts";
import { RegionBoot } from "./region-boot.ts";
import { RegionDisk } from "./region-disk.ts";
import { addressOf, type PeerPort } from "./region-revocation-io.ts";
import { load } from "./saved-projection.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

export type SimRegionOptions = Readonly<{
  world: World;
  options: SimOptions;
  nats: NatsModel<SimEnvelope>;
  seals: Seals;
  cluster: string;
  secret: Uint8Array;
  name: string;
  region: string;
  build: string;
  /** Brokers of the home region. */
  brokers: () => readonly BrokerPort[];
  /** All brokers of this region, including this one. */
  peers: () => readonly PeerPort[];
}>;

export type SimRegion = RegionActor &
  PeerPort &
  Readonly<{
    /** The interface for the nodes of the region, whose commands the region never accepts by itself. */
    forNodes: BrokerPort;
  }>;

/** Adds the process to the world; it is down until its first start. */
export function addSimRegion(options: SimRegionOptions): SimRegion {
  const { world, name, region, build } = options;
  const disk = new RegionDisk();
  let running: RegionBoot | undefined;
  const process = world.addProcess({
    name,
    region,
    identity: { role: "broker", node: parseNodeId(name), lessee: "broker", build, unknownTypes: [] },
    start(started) {
      if (disk.turn() === "lost") world.report({ type: "disk-replaced", at: world.now, process: name });
      running = new RegionBoot(options, { process: started, disk, copy: new RegionCopy(disk.rows) });
      running.start();
    },
  });
  return {
    process,
    disk,
    address: addressOf(name),
    stop: () => running?.stop(),
    submit: (request, answered) => running?.submit(request, answered),
    localReceipt: (commandId, timeoutMs, answered) => running?.localReceipt(commandId, timeoutMs, answered),
    askedByPeer: (question, answered) => running?.askedByPeer(question, answered),
    forNodes: {
      process,
      read: (asked, answered) => running?.read(asked, answered),
      sendMessage: (envelope, answered) => running?.receiveMessage(envelope, answered),
      submit: (request, answered) => running?.forwardCommand(request, answered),
      denials: (asked, answered) => running?.denials(asked, answered),
      snapshot: (answered) => {
        const saved = disk.saves.at(-1);
        answered(saved === undefined ? null : { ...load(saved), retained: [] });
      },
    },
  };
}
