/** A client of the brokers, built from a configuration. */
import { randomBytes } from "node:crypto";
import type { Config } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../replication/wire/index.ts";

export function clientOf(
  config: Config,
  options: Readonly<{
    node: NodeId;
    logger: Logger;
    urls: readonly URL[];
    role: Role;
    /** `home`: only brokers of the home region answer. */
    audience?: "home" | "any";
  }>,
): BrokerClient {
  const { urls, role, logger } = options;
  return createBrokerClient({
    urls,
    role,
    logger,
    audience: options.audience ?? "any",
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
