/**
 * Simulated regional broker: a process of the world (region-boot.ts) as the nodes of its region meet it. Its disk, with a copy of the
 * log and a snapshot, outlives its boots.
 */
import { type CommandResult, parseNodeId } from "../../src/events/index.ts";
import type { BrokerPort } from "./broker-port.ts";
import { callMs } from "./copy-driver.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { NatsModel } from "./nats-model.ts";
import { isUnavailable, RegionBoot, type RegionDisk } from "./region-boot.ts";
import { load } from "./saved-projection.ts";
import { SimRegionCopy } from "./sim-region-copy.ts";
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
  /** Of the home region. */
  brokers: () => readonly BrokerPort[];
}>;

/** A process of the world, made down. */
export function addSimRegion(options: SimRegionOptions): BrokerPort {
  const { world, name, region, build } = options;
  const disk: RegionDisk = { copy: new SimRegionCopy(), saved: null, lastBoot: null, leasesByAge: "none" };
  let running: RegionBoot | undefined;
  const process = world.addProcess({
    ...{ name, region },
    identity: { role: "broker", node: parseNodeId(name), lessee: "broker", build, unknownTypes: [] },
    start(started) {
      running = new RegionBoot(options, { process: started, disk });
      running.start();
    },
  });
  return {
    process,
    read: (asked, answered) => running?.read(asked, answered),
    say: (envelope, answered) => running?.said(envelope, answered),
    submit: (request, answered) =>
      running?.handOn<CommandResult>(
        {
          timeoutMs: callMs.submit,
          ask: (broker, reply) => broker.submit(request, reply),
          isUnavailable,
        },
        (result) =>
          answered(
            result ?? {
              ...{ type: "unavailable", commandId: request.commandId, retryAfterMs: 1_000 },
              message: "the home region is out of reach",
            },
          ),
      ),
    snapshot: (answered) => answered(disk.saved === null ? null : { ...load(disk.saved), sticky: [] }),
  };
}
