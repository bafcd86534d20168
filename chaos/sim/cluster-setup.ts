/**
 * Cluster setup: builds the processes of a seed in its world, with the real cores of brokers and nodes.
 *
 *   east: pg-1, pg-2, nats-1, nats-2, broker-1, node-1, node-2, client-1
 *   west: pg-3, nats-3, broker-2, node-3, node-4, client-2
 *
 * In some seeds the nodes of the west call only regional brokers: region-west and, in half of these seeds,
 * region-west-2. In half of these seeds there is a third region, south: nats-4 (a leaf), region-south, perhaps
 * region-south-2, node-5, node-6. Each node of a remote region starts with another one of its brokers. In some seeds
 * node-3 or node-5 also calls home brokers.
 */
import {
  type BootId,
  type BrokerId,
  type Epoch,
  type NodeId,
  parseBrokerId,
  parseNodeId,
} from "../../src/events/index.ts";
import { bootIdOf, type Certificate } from "../../src/replication/wire/index.ts";
import type { NodeActor } from "./actors.ts";
import type { BrokerPort } from "./broker-port.ts";
import { builds, firstBuildOf } from "./builds.ts";
import { Seals, type SimEnvelope } from "./envelopes.ts";
import { Forger, type Insider } from "./forger.ts";
import { NatsModel } from "./nats-model.ts";
import { NodeFiles } from "./node-file.ts";
import { directoryGroups } from "./outside/provisioned-people.ts";
import { SimDirectory } from "./outside/sim-directory.ts";
import { SimSignals } from "./outside/sim-signals.ts";
import { PostgresModel } from "./postgres-model.ts";
import { type SimProcess, simCluster } from "./process.ts";
import { addressOf } from "./region-revocation-io.ts";
import { addSimBroker, type SimBroker } from "./sim-broker.ts";
import { addSimNode } from "./sim-node.ts";
import { SimProvider } from "./sim-provider.ts";
import { addSimRegion, type SimRegion } from "./sim-region.ts";
import type { BuildCluster } from "./simulation.ts";
import { emptyDisk } from "./snapshot-disk.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

const cluster = simCluster;
const secret = new Uint8Array(32).fill(7);
const partitionSize = 24;
const streamEntriesMax = 2_000;

const regionOf = (number: number): string => (number > 4 ? "south" : number > 2 ? "west" : "east");

export const buildCluster: BuildCluster = (world, options) => {
  const seals = new Seals();
  const { everyEvents } = options.snapshots;
  const rules = { everyEvents, retentionMs: 0, hold: "everything" as "everything" | "nothing" };
  const postgres = new PostgresModel({
    ...{ world, synchronous: options.synchronous, partitionSize, checkpointerMsMax: 2_000 },
    servers: [1, 2, 3].map((number) => ({ name: `pg-${number}`, region: regionOf(number) })),
  });
  const nats = natsOf(world, options);
  const provider = new SimProvider(world);
  const users = Array.from({ length: options.load.users }, (_, index) => `user-${index + 1}`);
  const directory = options.outside.directory
    ? new SimDirectory(world, { people: users, groups: directoryGroups })
    : null;
  const signals = options.outside.signals ? new SimSignals(world) : null;
  const brokers: SimBroker[] = [];
  const build = options.startsNew ? builds.new : builds.old;
  for (const [number, region] of ["east", "west"].entries()) {
    const name = `broker-${number + 1}`;
    const broker: BrokerId = parseBrokerId(name);
    const common = {
      world,
      options,
      postgres,
      nats,
      provider,
      directory,
      signals,
      seals,
      rules,
      cluster,
      secret,
      brokers: () => brokers,
    };
    brokers.push(addSimBroker({ ...common, disk: emptyDisk(), name, broker, region, build }));
  }
  const compromisedNode: Omit<Certificate, "publicKey"> = {
    ...{ cluster, role: "proxy", name: "node-9", boot: "accomplice" as BootId, epoch: 0 as Epoch, incarnation: "" },
  };
  const forger = new Forger(world, nats, {
    compromisedNode: (payload) => seals.seal(compromisedNode, payload),
    insider: world.random("insider").chance(0.5) ? insiderOf(seals) : undefined,
  });
  const regionals: readonly SimRegion[] = options.remotes.flatMap(({ region, brokers: count }) =>
    [`region-${region}`, `region-${region}-2`].slice(0, count).map((name) =>
      addSimRegion({
        ...{ world, options, nats, seals, cluster, secret, name, region, build },
        brokers: () => brokers,
        peers: () => regionals.filter(({ process }) => process.region === region),
      }),
    ),
  );
  const files = new NodeFiles();
  const numbers = hasSouth(options) ? [1, 2, 3, 4, 5, 6] : [1, 2, 3, 4];
  const nodes: NodeActor[] = numbers.map((number) => {
    const name = `node-${number}`;
    const node: NodeId = parseNodeId(name);
    const region = regionOf(number);
    const own = brokers.filter(({ process }) => process.region === region);
    const home: readonly BrokerPort[] = [...own, ...brokers.filter((broker) => !own.includes(broker))];
    const regional = regionals.filter(({ process }) => process.region === region).map(({ forNodes }) => forNodes);
    const inTurn = number % 2 === 0 ? regional.toReversed() : regional;
    const { pastRegion } = options;
    const isPast = pastRegion?.region === region && number % 2 === 1;
    const withHome = pastRegion?.homeFirst === true ? [...home, ...inTurn] : [...inTurn, ...home];
    const ports = (regional.length === 0 ? home : isPast ? withHome : inTurn).map((broker) =>
      options.load.forgeEveryMs === null ? broker : forger.between(name, broker),
    );
    return addSimNode({
      ...{ world, options, nats, seals, cluster, secret, name, node, region },
      ...{ lessee: "proxy", ...firstBuildOf(options, number - 1) },
      brokers: () => ports,
      addresses: ports.map(({ process }) => addressOf(process.name)),
      files,
    });
  });
  const clients = [addClient(world, "client-1", "east"), addClient(world, "client-2", "west")];
  postgres.start();
  for (const name of nats.serverNames) world.process(name).start();
  for (const { process } of [...brokers, ...regionals, ...nodes]) process.start();
  if (options.load.forgeEveryMs !== null) forger.start();
  const actors = {
    ...{ world, postgres, nats, brokers, directory, signals, nodes, regionals },
    keepNothing: () => {
      Object.assign(rules, { everyEvents: Math.min(everyEvents, partitionSize), hold: "nothing" });
      return () => Object.assign(rules, { everyEvents, hold: "everything" });
    },
    snapshot: () => brokers.find((broker) => broker.leads())?.requestSnapshot(),
  };
  const names = nodes.map(({ process }) => process.name);
  const ports: readonly BrokerPort[] = brokers;
  return { actors, clients, forge: (action) => forger.forge(action, { brokers: ports, nodes: names }) };
};

/** An insider: it holds the enrolment secret of proxies and a key of its own. */
function insiderOf(seals: Seals): Insider {
  const publicKey = new Uint8Array(32).fill(9);
  const bootIdFor = (node: NodeId): BootId => bootIdOf({ cluster, role: "proxy", name: node, publicKey });
  return {
    bootIdFor,
    seal: ({ node, boot }, payload) =>
      seals.seal(
        { ...{ cluster, role: "proxy", name: node, boot, publicKey }, epoch: 0 as Epoch, incarnation: "" },
        payload,
      ),
  };
}

function hasSouth({ remotes }: SimOptions): boolean {
  return remotes.some(({ region }) => region === "south");
}

function natsOf(world: World, options: SimOptions): NatsModel<SimEnvelope> {
  const { nats } = options;
  const members = [1, 2, 3].map((number) => ({ name: `nats-${number}`, region: regionOf(number) }));
  const leaf = { name: "nats-4", region: "south", kind: "leaf" } as const;
  const model = new NatsModel<SimEnvelope>({
    ...{ world, limits: nats, dedupeMs: 120_000, streamEntriesMax, mirrorEveryMs: 200 },
    servers: [...members, ...(hasSouth(options) ? [leaf] : [])],
  });
  const { drop, repeat, overtake, lateMsMax } = nats;
  Object.assign(model.disturbances, { drop, repeat, overtake, lateMsMax });
  return model;
}

function addClient(world: World, name: string, region: string): SimProcess {
  const identity = { role: "client", node: null, lessee: null, build: "", unknownTypes: [] } as const;
  return world.addProcess({ name, region, identity, start: () => {} });
}
