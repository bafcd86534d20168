/**
 * Test cluster: brokers and nodes in one test process on real Postgres servers, over real HTTP.
 *
 * A test can take the store from each broker, and the brokers from each node, one by one.
 */
import assert from "node:assert/strict";
import { type Broker, createLeaderClient, startBroker, startDatabrokerServer } from "../../../src/broker/index.ts";
import {
  type BrokerId,
  type CommandResult,
  type NodeId,
  type SessionId,
  sessionStream,
} from "../../../src/events/index.ts";
import { createLocalFanout } from "../../../src/replication/fanout/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { type EventLog, openPostgresLog } from "../../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient } from "../../../src/replication/wire/index.ts";
import { asked, cluster, quiet, random, secret } from "../../broker/support.ts";
import { freePort } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Relay, startRelay } from "../cluster/relay.ts";

/** Digests are compared between copies of one build. */
const build = "test";

type Done = Extract<CommandResult, { type: "done" }>;

export type TestBroker = Readonly<{
  broker: Broker;
  log: EventLog;
  port: number;
  /** Ends the broker as a crash would: it neither resigns nor replies. */
  crash(): Promise<void>;
}>;

export type TestNode = Readonly<{
  replica: ReplicaProcess;
  relay: Relay;
  client: BrokerClient;
  /** Whether a proxy would permit a request of this session on a route that serves when stale. */
  permits(session: string): boolean;
  stop(): Promise<void>;
}>;

/** PEM: the certificate of every broker, which is also the only trusted authority, and its key. */
export type Tls = Readonly<{ cert: string; key: string }>;

export type Timing = Readonly<{ deltaMs: number; windowMs: number }>;

export class InProcessCluster {
  readonly #connectionString: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  readonly timing: Timing;
  readonly #tls: Tls | null;

  constructor(
    connectionString: string,
    timing: Timing = { deltaMs: 1_500, windowMs: 1_500 },
    { tls = null }: Readonly<{ tls?: Tls | null }> = {},
  ) {
    this.#connectionString = connectionString;
    this.timing = timing;
    this.#tls = tls;
  }

  #url(port: number): string {
    return `${this.#tls === null ? "http" : "https"}://127.0.0.1:${port}`;
  }

  async broker(
    name: string,
    {
      connectionString = this.#connectionString,
      logger = quiet,
      openLog = () =>
        openPostgresLog({
          ...{ connectionString, cluster, connectTimeoutMs: 2_000, writeTimeoutMs: 4_000, readTimeoutMs: 4_000 },
        }),
    }: Readonly<{ connectionString?: string; logger?: Logger; openLog?: () => Promise<EventLog> }> = {},
  ): Promise<TestBroker> {
    const log = await openLog();
    const port = await freePort();
    const broker = startBroker({
      ...{ log, cluster, secret, brokerId: name as BrokerId, fanout: createLocalFanout({ logger: quiet }) },
      ...{ clock: systemClock, random, logger, takeoverMs: 1_000, duties: [], version: build },
      lease: { deltaMs: this.timing.deltaMs, drift: 0.01, beatMs: 100, windowMaxMs: this.timing.windowMs },
      leaderClient: createLeaderClient({
        cluster,
        secret,
        clock: systemClock,
        tlsCa: this.#tls?.cert ?? null,
        allowPlaintext: false,
      }),
      advertisedUrl: this.#url(port),
      commandMs: 15_000,
    });
    const api = await startDatabrokerServer({
      ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port } },
      tls: this.#tls,
    });
    let isOver = false;
    const crash = async (): Promise<void> => {
      if (isOver) return;
      isOver = true;
      await log.close(); // first, so that the broker cannot resign
      await api.close();
      await broker.stop();
    };
    this.#cleanups.push(crash);
    return { broker, log, port, crash };
  }

  async node(
    name: string,
    members: readonly TestBroker[],
    {
      region = "here",
      logger = quiet,
      dataDir = null,
    }: Readonly<{ region?: string; logger?: Logger; dataDir?: string | null }> = {},
  ): Promise<TestNode> {
    const relay = await startRelay({ targets: members.map(({ port }) => port) });
    const client = createBrokerClient({
      ...{ urls: [new URL(this.#url(relay.port))], cluster, role: "proxy", name, secret },
      tlsCa: this.#tls?.cert ?? null,
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
    const replica = startReplica({
      ...{
        name: name as NodeId,
        role: "proxy",
        region,
        version: build,
      },
      ...{ configHash: () => "c", cluster, secret, databroker: client, fanout: null, clock: systemClock },
      ...{
        randomBytes: random,
        logger,
        windowMs: () => this.timing.windowMs,
        dataDir,
        renewMs: 200,
        pollMs: 200,
      },
    });
    const stop = async (): Promise<void> => {
      await replica.stop();
      await client.close();
      await relay.close();
    };
    this.#cleanups.push(stop);
    const graceMs = this.timing.windowMs - this.timing.deltaMs;
    return {
      ...{ replica, relay, client, stop },
      permits(session) {
        if (replica.overdueMs(systemClock.monotonic()) > graceMs) return false;
        const sessionState = replica.projection.session(session as SessionId);
        return sessionState?.status === "active" && !replica.isDeniedLocally(sessionStream(session as SessionId));
      },
    };
  }

  async stop(): Promise<void> {
    for (const one of this.#cleanups.splice(0).reverse()) await one().catch(() => {});
  }
}

export const waitToLead = (member: TestBroker): Promise<true> =>
  waitFor("the broker to lead", () => member.broker.leading() || undefined, { withinMs: 30_000 });

/** Submits a command, again under the same id while its outcome is unknown. */
export async function submitCommand(member: TestBroker, command: Parameters<typeof asked>[0]): Promise<Done> {
  const databroker = member.broker.databroker(command.type === "revokeSession" ? "operator" : "authenticate");
  const request = asked(command);
  return waitFor(
    `an outcome of ${command.type}`,
    async () => {
      const result = await databroker.submit(request);
      if (result.type === "unavailable") throw new Error(result.message); // submitted again
      return result;
    },
    { withinMs: 30_000 },
  ).then((result) => {
    assert.ok(result.type === "done", JSON.stringify(result));
    return result;
  });
}
