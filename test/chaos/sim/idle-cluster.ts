/**
 * Idle cluster: the models' servers, with brokers and nodes that do nothing, for tests of faults.
 */
import type { BrokerActor, NodeActor, RegionActor } from "../../../chaos/sim/actors.ts";
import { NatsModel } from "../../../chaos/sim/nats-model.ts";
import { PostgresModel } from "../../../chaos/sim/postgres-model.ts";
import type { Identity, SimProcess } from "../../../chaos/sim/process.ts";
import { RegionDisk } from "../../../chaos/sim/region-disk.ts";
import type { BuiltCluster } from "../../../chaos/sim/simulation.ts";
import type { SimOptions } from "../../../chaos/sim/swarm.ts";
import type { World } from "../../../chaos/sim/world.ts";

const idleIdentity: Omit<Identity, "role"> = { node: null, lessee: null, build: "1", unknownTypes: [] };

export function buildIdleCluster(world: World, options: SimOptions): BuiltCluster & Readonly<{ heard: string[] }> {
  const heard: string[] = [];
  const postgres = new PostgresModel({
    world,
    servers: ["pg-1", "pg-2", "pg-3"].map((name, index) => ({ name, region: index < 2 ? "east" : "west" })),
    synchronous: options.synchronous,
  });
  const nats = new NatsModel<unknown>({
    world,
    servers: ["nats-1", "nats-2", "nats-3"].map((name, index) => ({ name, region: index < 2 ? "east" : "west" })),
    limits: options.nats,
    ...{ dedupeMs: 120_000, streamEntriesMax: 1_000, mirrorEveryMs: 200 },
  });
  const add = (name: string, region: string, role: Identity["role"]): SimProcess =>
    world.addProcess({ name, region, identity: { ...idleIdentity, role }, start: () => {} });
  const brokers = [add("broker-1", "east", "broker"), add("broker-2", "west", "broker")].map(
    (process): BrokerActor => ({
      process,
      leads: () => process.name === "broker-1" && process.isUp,
      level: () => 1,
      submit: ({ commandId }, answered) => {
        heard.push(`${process.name} submit`);
        answered({ type: "unavailable", commandId, message: "idle", retryAfterMs: 0 });
      },
      receipt: (_, answered) => answered(undefined),
    }),
  );
  const nodes = [1, 2, 3, 4].map((number): NodeActor => {
    const process = add(`node-${number}`, number <= 2 ? "east" : "west", "node");
    return {
      process,
      request: (_, decided) => decided("unavailable"),
      disk: (what) => heard.push(`${process.name} ${what} disk`),
      copy: () => undefined,
      limitRevocations: (limit) => heard.push(`${process.name} limit ${limit}`),
      configure: () => heard.push(`${process.name} configure`),
      stop: () => process.kill(),
    };
  });
  const regionals = ["region-west", "region-west-2", "region-south"].map((name): RegionActor => {
    const process = add(name, name === "region-south" ? "south" : "west", "broker");
    return {
      ...{ process, disk: new RegionDisk(), stop: () => process.kill() },
      submit: ({ commandId }, answered) =>
        answered({ type: "unavailable", commandId, message: "idle", retryAfterMs: 0 }),
      localReceipt: (_, __, answered) => answered("unknown"),
    };
  });
  const clients = [add("client-1", "east", "client"), add("client-2", "west", "client")];
  postgres.start();
  for (const name of nats.serverNames) world.process(name).start();
  for (const { process } of [...brokers, ...regionals, ...nodes]) process.start();
  const actors = {
    world,
    postgres,
    nats,
    brokers,
    directory: null,
    signals: null,
    nodes,
    regionals,
    keepNothing: () => () => {},
    snapshot: () => "one",
  };
  return { actors, clients, forge: () => heard.push("forge"), heard };
}
