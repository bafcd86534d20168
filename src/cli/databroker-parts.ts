/** The databroker of a process: the broker itself where it runs here, else a client of the brokers that do. */
import { randomBytes } from "node:crypto";
import {
  type Broker,
  createLeaderClient,
  type DatabrokerServer,
  type Duty,
  type SnapshotOffice,
  startBroker,
  startDatabrokerServer,
} from "../broker/index.ts";
import type { Config } from "../config/index.ts";
import type { BrokerId, NodeId } from "../events/index.ts";
import {
  type BrokerClient,
  connectNatsFanout,
  createBrokerClient,
  createLocalFanout,
  type Databroker,
  type EventLog,
  type Fanout,
  type Logger,
  type Role,
  type SnapshotSupply,
  systemClock,
} from "../replication/index.ts";
import { openLog } from "./open-log.ts";
import { startRegion } from "./region-parts.ts";
import { keepFresh, snapshotOfficeOf } from "./snapshot-parts.ts";
import { version } from "./version.ts";

export type DatabrokerParts = Readonly<{
  /** Null: nothing is fanned out to this process, and everything comes by reads that wait at the head. */
  fanout: Fanout | null;
  broker: Broker | null;
  log: EventLog | null;
  /** The databroker in the role of one service. */
  as(role: Role): Databroker;
  /** Where nodes of this process have snapshots from; null: nowhere, they read the log. */
  snapshots: Readonly<{ supply: SnapshotSupply; folder: "own" | "none" }> | null;
  /** The broker's own. */
  office: SnapshotOffice | null;
  /** Answers in a broker's place that this process did not believe, by reason. */
  answersRefused(): Readonly<Record<string, number>>;
  /** What the databroker API of this process answered and refused; absent where it serves none. */
  served?: (() => Readonly<Record<string, number>>) | undefined;
  stop(): Promise<void>;
}>;

function natsOf(config: Config, options: Readonly<{ name: string; logger: Logger }>): Fanout | null {
  const { nats, broker } = config;
  if (nats === null) return null;
  return connectNatsFanout({
    servers: nats.servers,
    cluster: broker.clusterName,
    name: options.name,
    credentialsFile: nats.credentialsFile,
    user: nats.user,
    password: nats.password,
    tlsCa: nats.tlsCa,
    logger: options.logger,
    randomBytes,
    keepReplayBuffer: config.services.has("databroker"),
  });
}

export async function startDatabroker(
  config: Config,
  options: Readonly<{ node: NodeId; logger: Logger; duties: readonly Duty[] }>,
): Promise<DatabrokerParts> {
  if (config.services.has("databroker") && config.broker.homeUrls.length > 0) return startRegion(config, options);
  const nats = natsOf(config, { name: options.node, logger: options.logger });
  if (!config.services.has("databroker"))
    return remoteBrokers(config, nats, { ...options, snapshotsAs: nodeRoleOf(config) });
  const fanout = nats ?? createLocalFanout({ logger: options.logger });
  // In the order in which they end; a broker whose neighbour did not start must not go on to lead where nobody reaches it.
  const stops: (() => Promise<unknown>)[] = [() => fanout.close()];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0)) await one();
  };
  try {
    const log = await openLog(config, options.logger, "wait");
    stops.push(() => log.close());
    const others = otherBrokers(config, options);
    if (others !== null) stops.push(() => others.close());
    const office = snapshotOfficeOf(config, { log, others: others?.snapshots ?? null, logger: options.logger });
    const broker = startBrokerOf(config, { ...options, log, fanout, office });
    stops.unshift(() => broker.stop());
    if (office !== null && others !== null) {
      const { snapshotRefreshMs: everyMs } = config.broker;
      const refresh = async (signal: AbortSignal) => !broker.leading() && (await office.refresh(signal));
      stops.unshift(keepFresh(refresh, { everyMs, logger: options.logger }));
    }
    const server = await serve(config, { broker, supply: office?.supply ?? null, logger: options.logger });
    if (server !== null) stops.splice(1, 0, () => server.close());
    return {
      ...{ fanout, broker, log, office, stop },
      snapshots: office === null ? null : { supply: office.supply, folder: "none" },
      as: (role) => broker.databroker(role),
      answersRefused: () => ({}), // what it asks of the leader is counted among its own measures
      served: server?.metrics,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startBrokerOf(
  config: Config,
  parts: Readonly<{
    node: NodeId;
    logger: Logger;
    duties: readonly Duty[];
    log: EventLog;
    fanout: Fanout;
    office: SnapshotOffice | null;
  }>,
): Broker {
  const { broker: settings } = config;
  const { office } = parts;
  return startBroker({
    log: parts.log,
    cluster: settings.clusterName,
    brokerId: parts.node as string as BrokerId,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    fanout: parts.fanout,
    clock: systemClock,
    random: randomBytes,
    lease: { deltaMs: settings.leaseMs, drift: settings.clockDrift, beatMs: settings.beatMs, windowMaxMs: windowMaxMs },
    takeoverMs: settings.takeoverMs,
    advertisedUrl: settings.advertisedUrl?.href ?? null,
    leaderClient: createLeaderClient({
      cluster: settings.clusterName,
      secret: config.sharedSecret,
      previousSecret: config.sharedSecretPrevious,
      clock: systemClock,
      tlsCa: settings.tlsCa,
      allowPlaintext: true, // the configuration has refused it, or said so (grpc_insecure)
    }),
    version,
    duties: office === null ? parts.duties : [...parts.duties, office.duty],
    snapshots: office,
    logger: parts.logger,
  });
}

/** In which a node of this process reads the log. */
export function nodeRoleOf({ services }: Config): "proxy" | "authenticate" {
  return services.has("proxy") || services.has("authorize") ? "proxy" : "authenticate";
}

/** Null: nobody else needs it. */
async function serve(
  config: Config,
  { broker, supply, logger }: Readonly<{ broker: Broker; supply: SnapshotSupply | null; logger: Logger }>,
): Promise<DatabrokerServer | null> {
  const { broker: settings } = config;
  if (settings.listen === null) return null;
  return startDatabrokerServer({
    broker,
    snapshots: supply,
    listen: settings.listen,
    tls: settings.tls,
    cluster: settings.clusterName,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    clock: systemClock,
    logger,
  });
}

/** `stale_grace` is at most 15 minutes; with the longest lease a window is never longer than this. */
const windowMaxMs = 16 * 60_000;

/** Those that this broker copies snapshots from; null: there are none. */
function otherBrokers(config: Config, options: Readonly<{ node: NodeId; logger: Logger }>): BrokerClient | null {
  const own = config.broker.advertisedUrl?.href;
  const urls = config.broker.urls.filter(({ href }) => href !== own);
  return urls.length === 0 ? null : clientOf(config, { ...options, urls, role: "broker" });
}

function clientOf(
  config: Config,
  options: Readonly<{ node: NodeId; logger: Logger; urls: readonly URL[]; role: Role }>,
): BrokerClient {
  const { urls, role, logger } = options;
  return createBrokerClient({
    ...{ urls, role, logger },
    cluster: config.broker.clusterName,
    name: options.node,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    tlsCa: config.broker.tlsCa,
    allowPlaintext: true, // the configuration has refused it, or said so (grpc_insecure)
    clock: systemClock,
    randomBytes,
  });
}

function remoteBrokers(
  config: Config,
  fanout: Fanout | null,
  options: Readonly<{ node: NodeId; logger: Logger; snapshotsAs: Role }>,
): DatabrokerParts {
  const clients = new Map<Role, BrokerClient>();
  function as(role: Role): BrokerClient {
    const client = clients.get(role) ?? clientOf(config, { ...options, urls: config.broker.urls, role });
    clients.set(role, client);
    return client;
  }
  return {
    fanout,
    broker: null,
    log: null,
    office: null,
    as,
    snapshots: { supply: as(options.snapshotsAs).snapshots, folder: "own" },
    answersRefused() {
      const all: Record<string, number> = {};
      for (const client of clients.values())
        for (const [reason, count] of Object.entries(client.refused())) all[reason] = (all[reason] ?? 0) + count;
      return all;
    },
    async stop() {
      await Promise.all([...clients.values()].map((client) => client.close()));
      await fanout?.close();
    },
  };
}
