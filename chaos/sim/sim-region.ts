/**
 * Simulated regional broker: a process of the world (region-boot.ts), with the interfaces for the nodes of its region,
 * faults and operators. Its disk survives its boots.
 */
import { RegionCopy } from "../../src/broker/region/region-copy.ts";
import { type CommandResult, parseNodeId } from "../../src/events/index.ts";
import type { RegionActor } from "./actors.ts";
import type { BrokerPort } from "./broker-port.ts";
import { callMs } from "./copy-driver.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { NatsModel } from "./nats-model.ts";
import { isUnavailable, RegionBoot } from "./region-boot.ts";
import { RegionDisk } from "./region-disk.ts";
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
}>;

/** Adds the process to the world; it is down until its first start. */
export function addSimRegion(options: SimRegionOptions): BrokerPort & RegionActor {
  const { world, name, region, build } = options;
  const disk = new RegionDisk();
  let running: RegionBoot | undefined;
  const process = world.addProcess({
    name,
    region,
    identity: { role: "broker", node: parseNodeId(name), lessee: "broker", build, unknownTypes: [] },
    start(started) {
      disk.turn();
      running = new RegionBoot(options, { process: started, disk, copy: new RegionCopy(disk.rows) });
      running.start();
    },
  });
  return {
    process,
    disk,
    stop: () => running?.stop(),
    read: (asked, answered) => running?.read(asked, answered),
    sendMessage: (envelope, answered) => running?.receiveMessage(envelope, answered),
    submit: (request, answered) =>
      running?.forward<CommandResult>(
        {
          timeoutMs: callMs.submit,
          ask: (broker, reply) => broker.submit(request, reply),
          isUnavailable,
        },
        (result) =>
          answered(
            result ?? {
              ...{ type: "unavailable", commandId: request.commandId, retryAfterMs: 1_000 },
              message: "the home region is unreachable",
            },
          ),
      ),
    snapshot: (answered) => {
      const saved = disk.saves.at(-1);
      answered(saved === undefined ? null : { ...load(saved), retained: [] });
    },
  };
}
