/** Region revocations: a regional broker's file of revocations, and its clients of the region's other brokers. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { openRevocationsFile, type RegionRevocationParts } from "../../broker/index.ts";
import { type Config, windowLimits } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { BrokerClient } from "../../replication/wire/index.ts";
import { clientOf } from "./broker-client.ts";

type Options = Readonly<{
  node: NodeId;
  logger: Logger;
}>;

export function openRegionRevocations(
  config: Config,
  options: Options,
): Readonly<{ parts: RegionRevocationParts; close(): Promise<void> }> {
  const clients = new Map<string, BrokerClient>();
  function clientFor(address: string): BrokerClient {
    const client = clients.get(address) ?? clientOf(config, { ...options, urls: [new URL(address)], role: "broker" });
    clients.set(address, client);
    return client;
  }
  const { broker, dataDir, region } = config;
  const store = randomBytes(16).toString("hex");
  // A new file may replace a lost one, and the boot before may have passed on leases of the longest window.
  const windowMs = Math.max(...Object.values(windowLimits(config)));
  return {
    parts: {
      region,
      file: openRevocationsFile({
        path: revocationsPath(dataDir, options.node),
        initial: { store, windowMs, drift: broker.clockDrift },
      }),
      urls: broker.urls,
      ownUrl: ownUrlOf(config),
      calls: { exchange: (address, question) => clientFor(address).exchangeRevocations(question) },
    },
    async close() {
      await Promise.all([...clients.values()].map((client) => client.close()));
    },
  };
}

/** The file of a regional broker. */
export function revocationsPath(dataDir: string, node: NodeId): string {
  return join(dataDir, `local-revocations-${encodeURIComponent(node)}`);
}

/** This broker's own address; null: one of `broker.urls`, or none. As workers of its process name it. */
function ownUrlOf({ broker }: Config): URL | null {
  if (broker.advertisedUrl !== null || broker.urls.length > 0) return broker.advertisedUrl;
  if (broker.listen === null) return null;
  return new URL(`${broker.tls === null ? "http" : "https"}://127.0.0.1:${broker.listen.port}`);
}
