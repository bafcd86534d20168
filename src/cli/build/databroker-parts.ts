/**
 * Databroker of a process: the broker itself if it runs here, else a client of remote brokers. The parts of a broker
 * (broker-parts.ts, region-parts.ts) are loaded only where one runs.
 */
import { randomBytes } from "node:crypto";
import type { Duty } from "../../broker/index.ts";
import type { Config } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import { connectNatsFanout, type Fanout } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { BrokerClient, Role } from "../../replication/wire/index.ts";
import { clientOf } from "./broker-client.ts";
import type { DatabrokerParts } from "./broker-parts.ts";

type Options = Readonly<{ node: NodeId; logger: Logger; duties: readonly Duty[] }>;

function natsOf(config: Config, options: Readonly<{ name: string; logger: Logger }>): Fanout | null {
  const { nats, broker } = config;
  if (nats === null) return null;
  return connectNatsFanout({
    servers: nats.servers,
    cluster: broker.clusterName,
    secrets: [config.sharedSecret, ...(config.sharedSecretPrevious === null ? [] : [config.sharedSecretPrevious])],
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

export async function startDatabroker(config: Config, options: Options): Promise<DatabrokerParts> {
  const isRegion = config.services.has("databroker") && config.broker.homeUrls.length > 0;
  if (isRegion) return (await import("./region-parts.ts")).startRegion(config, options);
  const nats = natsOf(config, { name: options.node, logger: options.logger });
  if (!config.services.has("databroker"))
    return remoteDatabroker(config, nats, { ...options, snapshotRole: nodeRoleOf(config) });
  return (await import("./broker-parts.ts")).startLocalBroker(config, nats, options);
}

/** The role in which a node of this process reads the log. */
export function nodeRoleOf({ services }: Config): "proxy" | "authenticate" {
  return services.has("proxy") || services.has("authorize") ? "proxy" : "authenticate";
}

function remoteDatabroker(
  config: Config,
  fanout: Fanout | null,
  options: Readonly<{ node: NodeId; logger: Logger; snapshotRole: Role }>,
): DatabrokerParts {
  const clients = new Map<Role, BrokerClient>();
  function forRole(role: Role): BrokerClient {
    const client = clients.get(role) ?? clientOf(config, { ...options, urls: config.broker.urls, role });
    clients.set(role, client);
    return client;
  }
  return {
    fanout,
    broker: null,
    log: null,
    snapshotService: null,
    forRole,
    snapshots: { supply: forRole(options.snapshotRole).snapshots, folder: "own" },
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
