/**
 * Databroker of a process: the broker itself if it runs here, else a client of remote brokers. The parts of a broker
 * (broker-parts.ts, region-parts.ts) are loaded only where one runs.
 */
import type { Duty } from "../../broker/index.ts";
import type { Config } from "../../config/index.ts";
import type { NodeId, Position } from "../../events/index.ts";
import type { Fanout } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { BrokerClient, Role } from "../../replication/wire/index.ts";
import { clientOf } from "./broker-client.ts";
import type { DatabrokerParts } from "./broker-parts.ts";
import { natsFanoutOf } from "./nats-parts.ts";

type Options = Readonly<{
  node: NodeId;
  logger: Logger;
  duties: readonly Duty[];
  /** As in `LocalBrokerOptions`. */
  neededAfter?: () => Position | null;
}>;

export async function startDatabroker(config: Config, options: Options): Promise<DatabrokerParts> {
  const { node, logger } = options;
  const runs = config.services.has("databroker");
  if (runs && mayBeHome(config))
    return (await import("./changing-databroker.ts")).startChangingDatabroker(config, options);
  if (runs && config.broker.homeUrls.length > 0)
    return (await import("./region-parts.ts")).startRegion(config, { node, logger });
  const nats = natsFanoutOf(config, { node, logger, keepReplayBuffer: runs });
  if (!runs) return remoteDatabroker(config, nats, { ...options, snapshotRole: nodeRoleOf(config) });
  return (await import("./broker-parts.ts")).startLocalBroker(config, nats, options);
}

/** Whether the Postgres of the process's own region may hold the primary (`broker.homes`). */
function mayBeHome({ broker, region, store }: Config): boolean {
  return store.type === "postgres" && broker.homes.some((home) => home.region === region && home.postgres.length > 0);
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
