/**
 * A node of bench/revoke.ts: a replica with a lease that stamps each change it has enforced, and a bare subscriber.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "@nats-io/transport-node";
import { parseNodeId } from "../../src/events/index.ts";
import { connectNatsFanout } from "../../src/replication/fanout/index.ts";
import { startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../src/replication/wire/index.ts";

export type NodeSetup = Readonly<{
  index: number;
  cluster: string;
  secret: string;
  brokerUrl: string;
  natsUrls: readonly string[];
}>;
export type NodeReport = Readonly<{ type: "ready" }> | Readonly<{ type: "seen"; what: string; at: string }>;

const [setup] = (await once(process, "message")) as [NodeSetup];
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const name = `node-${setup.index}`;
const secret = Buffer.from(setup.secret, "base64");
const send = (report: NodeReport): void => void process.send?.(report);

const databroker = createBrokerClient({
  urls: [new URL(setup.brokerUrl)],
  cluster: setup.cluster,
  role: "proxy",
  name,
  secret,
  clock: systemClock,
  randomBytes,
  logger: quiet,
});
const fanout = connectNatsFanout({
  servers: setup.natsUrls,
  cluster: setup.cluster,
  name,
  secrets: [secret],
  logger: quiet,
  randomBytes,
});
const replica = startReplica({
  name: parseNodeId(name),
  role: "proxy",
  region: "bench",
  version: "bench",
  configHash: () => "bench",
  cluster: setup.cluster,
  secret,
  databroker,
  fanout,
  clock: systemClock,
  randomBytes,
  logger: quiet,
  windowMs: () => 5_000,
  dataDir: null,
});
replica.onChange(({ touched }) => {
  const at = String(process.hrtime.bigint());
  for (const what of touched) if (what.startsWith("session:")) send({ type: "seen", what, at });
});

const connection = await connect({ servers: [...setup.natsUrls] });
connection.subscribe("floor", {
  callback: (_error, message) => send({ type: "seen", what: message.string(), at: String(process.hrtime.bigint()) }),
});
await connection.flush();
if (!(await replica.whenReady(20_000))) throw new Error(replica.ready().reasons.join(", "));
send({ type: "ready" });
