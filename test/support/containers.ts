/**
 * Containers: the services of postgres.ts and nats.ts, run from the images `postgres:17` and `nats:2.10` with
 * testcontainers. They have the same methods as the local processes.
 *
 * - A host port is chosen once and kept, so an address survives a restart, as with local processes.
 * - reaper.ts removes what is left. The reaper of testcontainers is not used, because it is one more image to fetch.
 */
import { randomBytes } from "node:crypto";
import { GenericContainer, getContainerRuntimeClient, Network, type StartedTestContainer, Wait } from "testcontainers";
import { reap } from "./child.ts";
import { freePorts, onFreePort } from "./free-port.ts";
import { isHealthy, natsCluster, natsConfig } from "./nats-cluster.ts";
import { newDatabase, withClient } from "./postgres-client.ts";
import type { NatsCluster, NatsNode, NatsOptions, PostgresOptions, PostgresServer, Service } from "./service.ts";
import { waitFor } from "./wait-for.ts";

process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";

export const postgresImage = "postgres:17";
export const natsImage = "nats:2.10";

/** @returns why no Docker engine is available; `undefined` when one is */
export async function whyNoEngine(): Promise<string | undefined> {
  try {
    await getContainerRuntimeClient();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

export async function startPostgresContainer({ settings }: PostgresOptions = {}): Promise<PostgresServer> {
  const password = randomBytes(12).toString("hex");
  const all = { fsync: "off", max_connections: "200", ...settings };
  const { container, port } = await onFreePort(async (port) => ({
    container: await new GenericContainer(postgresImage)
      .withEnvironment({ POSTGRES_PASSWORD: password, POSTGRES_INITDB_ARGS: "--locale=C --encoding=UTF8 --no-sync" })
      .withExposedPorts({ container: 5432, host: port })
      .withCommand(Object.entries(all).flatMap(([key, value]) => ["-c", `${key}=${value}`]))
      // Twice: the first server only runs the initialisation and accepts no outside connections.
      .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
      .withStartupTimeout(120_000)
      .start(),
    port,
  }));
  reap({ type: "container", id: container.getId() });
  const host = hostOf(container);
  const connectionString = (database = "postgres") => `postgres://postgres:${password}@${host}:${port}/${database}`;
  const serves = async () => {
    await withClient(connectionString(), (client) => client.query("select 1"));
    return true;
  };
  await waitFor(`Postgres in a container on port ${port}`, serves, { withinMs: 30_000 });
  const server: PostgresServer = {
    ...containerService(container, { name: "Postgres", serves }),
    host,
    port,
    connectionString,
    newDatabase: () => newDatabase(server),
  };
  return server;
}

export async function startNatsContainers({
  size = 1,
  name: family = "nats",
  config = "",
}: NatsOptions = {}): Promise<NatsCluster> {
  const network = size > 1 ? await new Network().start() : undefined;
  if (network !== undefined) reap({ type: "network", id: network.getId() });
  const inside = { client: 4222, monitor: 8222, cluster: 6222 };
  const names = Array.from({ length: size }, (_, index) => `${family}-${index + 1}`);
  const free = await freePorts(size * 2);
  const nodes = await Promise.all(
    names.map(async (name, index): Promise<NatsNode> => {
      const [clientPort = 0, monitorPort = 0] = free.slice(index * 2);
      const content = natsConfig({
        name,
        host: "0.0.0.0",
        ports: inside,
        routes: network === undefined ? [] : names.map((each) => `nats://${each}:${inside.cluster}`),
        storeFolder: "/store",
        config,
      });
      const image = new GenericContainer(natsImage)
        .withExposedPorts(
          { container: inside.client, host: clientPort },
          { container: inside.monitor, host: monitorPort },
        )
        .withCopyContentToContainer([{ content, target: "/test.conf" }])
        .withCommand(["--config", "/test.conf"])
        .withWaitStrategy(Wait.forLogMessage("Server is ready")) // the image has no shell to look at ports with
        .withStartupTimeout(120_000);
      if (network !== undefined) image.withNetwork(network).withNetworkAliases(name);
      const container = await image.start();
      reap({ type: "container", id: container.getId() });
      const host = hostOf(container);
      return {
        ...containerService(container, { name, serves: () => isHealthy({ host, port: monitorPort }) }),
        name,
        host,
        port: clientPort,
        url: `nats://${host}:${clientPort}`,
      };
    }),
  );
  const cluster = natsCluster(nodes);
  await cluster.start();
  const stop = async (): Promise<void> => {
    await cluster.stop();
    await network?.stop();
  };
  return { ...cluster, stop, [Symbol.asyncDispose]: stop };
}

type Served = Readonly<{ name: string; serves: () => Promise<boolean> }>;

function containerService(container: StartedTestContainer, { name, serves }: Served): Service {
  const id = container.getId();
  const engine = async () => (await getContainerRuntimeClient()).container.getById(id);
  const state = async () => (await (await engine()).inspect()).State;
  const untilItServes = async (): Promise<void> => {
    await waitFor(`${name} in container ${id.slice(0, 12)}`, serves, { withinMs: 60_000, everyMs: 50 });
  };
  let stopped = false;
  const service: Service = {
    async stop() {
      if (stopped) return;
      stopped = true;
      await (await engine()).remove({ force: true, v: true });
    },
    async kill() {
      const { Running, Paused } = await state();
      if (Paused) await (await engine()).unpause(); // or the engine would wait for it
      if (Running) await (await engine()).kill();
    },
    async start() {
      if (!(await state()).Running) await (await engine()).start();
      await untilItServes();
    },
    async restart() {
      await (await engine()).restart({ t: 10 });
      await untilItServes();
    },
    async pause() {
      await (await engine()).pause();
    },
    async resume() {
      await (await engine()).unpause();
    },
    async log() {
      const output = await (await engine()).logs({ stdout: true, stderr: true, follow: false });
      return output.toString("utf8");
    },
    [Symbol.asyncDispose]: () => service.stop(),
  };
  return service;
}

function hostOf(container: StartedTestContainer): string {
  const host = container.getHost();
  return host === "localhost" ? "127.0.0.1" : host; // the engine may publish on IPv4 alone
}
