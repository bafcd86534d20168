/** A broker on Postgres and NATS in this process, with its API on loopback and without log lines. */
import { randomBytes } from "node:crypto";
import { createLeaderClient, startBroker, startDatabrokerServer } from "../../src/broker/index.ts";
import type { BrokerId } from "../../src/events/index.ts";
import { connectNatsFanout } from "../../src/replication/fanout/index.ts";
import { openPostgresLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";

const logger = { debug() {}, info() {}, warn() {}, error() {} };

type Options = Readonly<{
  cluster: string;
  secret: Buffer;
  port: number;
  natsUrls: readonly string[];
  connectionString: string;
  /** Called before a batch goes to NATS. */
  onPublish: (envelope: Uint8Array) => void;
}>;

export async function startFanoutBroker({ cluster, secret, port, natsUrls, connectionString, onPublish }: Options) {
  const log = await openPostgresLog({ connectionString, cluster });
  const fanout = connectNatsFanout({
    servers: natsUrls,
    cluster,
    name: "bench broker",
    secrets: [secret],
    logger,
    randomBytes,
    keepReplayBuffer: true,
  });
  const broker = startBroker({
    log,
    cluster,
    brokerId: "bench" as BrokerId,
    secret,
    fanout: {
      ...fanout,
      publish(envelope) {
        onPublish(envelope);
        fanout.publish(envelope);
      },
    },
    clock: systemClock,
    random: randomBytes,
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 200, windowMaxMs: 60_000 },
    takeoverMs: 1_500,
    advertisedUrl: `http://127.0.0.1:${port}`,
    leaderClient: createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false }),
    duties: [],
    logger,
  });
  const listen = { host: "127.0.0.1", port };
  const server = await startDatabrokerServer({ broker, cluster, secret, listen, clock: systemClock, logger });
  return {
    broker,
    fanout,
    server,
    async stop(): Promise<void> {
      await server.close();
      await broker.stop();
      await fanout.close();
      await log.close();
    },
  };
}
