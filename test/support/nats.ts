/**
 * NATS for tests: one JetStream server or a cluster of three on free loopback ports.
 *
 * - It runs the `nats-server` of this machine, or containers if there is none (containers.ts).
 * - A server counts as serving once JetStream serves. In a cluster, the servers must also have found each other and
 *   elected a leader.
 */
import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Child, TemporaryFolder } from "./child.ts";
import { freePorts } from "./free-port.ts";
import { isComplete, isHealthy, type NatsPorts, natsCluster, natsConfig } from "./nats-cluster.ts";
import type { NatsCluster, NatsNode, NatsOptions } from "./service.ts";
import { waitFor } from "./wait-for.ts";

/** Starts NATS with the local binary, or in containers if there is none. */
export async function startNats(options: NatsOptions = {}): Promise<NatsCluster> {
  const binary = findNatsServer();
  if (binary !== undefined) return startLocalNats(binary, options);
  const { startNatsContainers } = await import("./containers.ts");
  return startNatsContainers(options);
}

/** @returns the path of `nats-server`: CARDEA_NATS_SERVER, or the one found in PATH */
export function findNatsServer(): string | undefined {
  const chosen = process.env["CARDEA_NATS_SERVER"];
  if (chosen !== undefined) return chosen;
  return [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"]
    .map((folder) => join(folder, "nats-server"))
    .find((path) => existsSync(path));
}

async function startLocalNats(binary: string, options: NatsOptions): Promise<NatsCluster> {
  const { size = 1, name = "nats", config = "", domain } = options;
  const free = await freePorts(size * 3);
  const ports = Array.from({ length: size }, (_, index): NatsPorts => {
    const [client = 0, monitor = 0, cluster = 0] = free.slice(index * 3);
    return { client, monitor, cluster };
  });
  const nodes = ports.map((own, index) =>
    localNode({
      binary,
      name: `${name}-${index + 1}`,
      ports: own,
      routes: size === 1 ? [] : ports.map((each) => `nats://127.0.0.1:${each.cluster}`),
      config,
      domain,
    }),
  );
  const cluster = natsCluster(nodes);
  try {
    await cluster.start();
    const monitors = ports.map(({ monitor }) => ({ host: "127.0.0.1", port: monitor }));
    if (size > 1) {
      const complete = (): Promise<void> =>
        waitFor("the servers to have found each other", () => isComplete(monitors), { withinMs: 15_000 }).then(
          () => {},
        );
      // Servers that start at the same moment sometimes never find each other, so the cluster is restarted once.
      await complete().catch(async () => {
        await cluster.restart();
        await complete();
      });
    }
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

type LocalNode = Readonly<{
  binary: string;
  name: string;
  ports: NatsPorts;
  routes: readonly string[];
  config: string;
  domain: string | undefined;
}>;

function localNode({ binary, name, ports, routes, config, domain }: LocalNode): NatsNode {
  const folder = new TemporaryFolder(name);
  const configFile = join(folder.path, "nats.conf");
  const logFile = join(folder.path, "nats.log");
  const storeFolder = join(folder.path, "store");
  writeFileSync(configFile, natsConfig({ name, host: "127.0.0.1", ports, routes, storeFolder, domain, config }));
  let child: Child | undefined;

  async function launch(): Promise<void> {
    const started = await Child.start({ command: binary, args: ["--config", configFile], logFile });
    child = started;
    await waitFor(
      `${name} on port ${ports.client}`,
      () => !started.running || isHealthy({ host: "127.0.0.1", port: ports.monitor }),
      {
        withinMs: 30_000,
      },
    );
    if (!started.running) throw new Error(`${name} did not start:\n${started.log()}`);
  }

  const node: NatsNode = {
    name,
    host: "127.0.0.1",
    port: ports.client,
    url: `nats://127.0.0.1:${ports.client}`,
    async stop() {
      await child?.end("SIGTERM");
      folder.remove();
    },
    async kill() {
      await child?.kill();
    },
    async start() {
      if (child?.running !== true) await launch();
    },
    async restart() {
      await child?.end("SIGTERM");
      await launch();
    },
    pause: async () => child?.pause(),
    resume: async () => child?.resume(),
    log: async () => child?.log() ?? "",
    [Symbol.asyncDispose]: () => node.stop(),
  };
  return node;
}
