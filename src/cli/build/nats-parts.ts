/** NATS of a process: its fan-out, from the configuration. */
import { randomBytes } from "node:crypto";
import type { Config } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import { connectNatsFanout, type Fanout, type NatsFanoutOptions } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";

type Options = Readonly<{ node: NodeId; logger: Logger }> &
  Pick<NatsFanoutOptions, "keepReplayBuffer" | "mirror" | "retiredStreams">;

/** @returns null: the configuration names no NATS server */
export function natsFanoutOf(config: Config, { node, ...options }: Options): Fanout | null {
  const { nats, broker } = config;
  if (nats === null) return null;
  return connectNatsFanout({
    ...options,
    servers: nats.servers,
    cluster: broker.clusterName,
    secrets: [config.sharedSecret, ...(config.sharedSecretPrevious === null ? [] : [config.sharedSecretPrevious])],
    name: node,
    credentialsFile: nats.credentialsFile,
    user: nats.user,
    password: nats.password,
    tlsCa: nats.tlsCa,
    randomBytes,
  });
}
