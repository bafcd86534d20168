/**
 * Ten followers in one process, each with its own connections to NATS and the brokers, as ten nodes would have. Prints
 * their state ten times a second.
 */
import { randomBytes } from "node:crypto";
import type { NodeId } from "../../../src/events/index.ts";
import { connectNatsFanout } from "../../../src/replication/fanout/index.ts";
import { startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../../src/replication/wire/index.ts";

export type FollowersSpec = Readonly<{
  names: readonly string[];
  cluster: string;
  secret: string;
  brokers: readonly string[];
  nats: readonly string[];
  renewMs: number;
}>;
export type FollowersLine = readonly Readonly<{
  name: string;
  ready: boolean;
  reasons: readonly string[];
  position: number;
  grants: number;
  epoch: number;
}>[];

const spec: FollowersSpec = JSON.parse(process.argv[2] ?? "{}");
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const secret = Uint8Array.from(Buffer.from(spec.secret, "base64"));
const replicas = spec.names.map((name) => {
  const { cluster } = spec;
  const client = createBrokerClient({
    ...{ urls: spec.brokers.map((url) => new URL(url)), cluster, role: "proxy", name, secret },
    ...{ clock: systemClock, randomBytes, logger: quiet },
  });
  const fanout = connectNatsFanout({
    servers: spec.nats,
    cluster,
    name,
    secrets: [secret],
    logger: quiet,
    randomBytes,
  });
  return startReplica({
    ...{
      name: name as NodeId,
      role: "proxy",
      region: "north",
      version: "test",
    },
    ...{ configHash: () => "c", cluster, secret, databroker: client, fanout, clock: systemClock, randomBytes },
    ...{ logger: quiet, windowMs: () => 80_000, dataDir: null, renewMs: spec.renewMs },
  });
});
setInterval(() => {
  const line: FollowersLine = replicas.map((replica) => ({
    name: replica.node,
    ...replica.ready(),
    position: replica.enforced.position,
    grants: replica.metrics().grants,
    epoch: replica.applied.epoch,
  }));
  process.stdout.write(`${JSON.stringify(line)}\n`);
}, 100);
