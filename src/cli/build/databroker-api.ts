/** Databroker API of a process: the HTTP server of its broker, from the configuration. */
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../broker/index.ts";
import type { Config } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import type { SnapshotSupply } from "../../replication/snapshot/index.ts";

/** @returns null: no other process uses the broker */
export async function startDatabrokerApi(
  config: Config,
  { broker, supply, logger }: Readonly<{ broker: Broker; supply: SnapshotSupply | null; logger: Logger }>,
): Promise<DatabrokerServer | null> {
  const { broker: settings } = config;
  if (settings.listen === null) return null;
  return startDatabrokerServer({
    broker,
    logger,
    snapshots: supply,
    clock: systemClock,
    listen: settings.listen,
    tls: settings.tls,
    cluster: settings.clusterName,
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
  });
}
