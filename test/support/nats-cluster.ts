/**
 * NATS cluster: the parts that local and container servers of a test share. These are the configuration, the health
 * checks, and several servers treated as one.
 */
import type { NatsCluster, NatsNode } from "./service.ts";

export type NatsPorts = Readonly<{ client: number; monitor: number; cluster: number }>;

/** Combines several servers into one service. */
export function natsCluster(nodes: readonly NatsNode[]): NatsCluster {
  const all = async (act: (node: NatsNode) => Promise<void>): Promise<void> => {
    await Promise.all(nodes.map(act));
  };
  const cluster: NatsCluster = {
    nodes,
    node(index) {
      const node = nodes[index];
      if (node === undefined) throw new RangeError(`there is no NATS server ${index}`);
      return node;
    },
    urls: nodes.map((node) => node.url),
    stop: () => all((node) => node.stop()),
    kill: () => all((node) => node.kill()),
    start: () => all((node) => node.start()),
    restart: () => all((node) => node.restart()),
    pause: () => all((node) => node.pause()),
    resume: () => all((node) => node.resume()),
    log: async () => (await Promise.all(nodes.map(async (node) => `--- ${node.name}\n${await node.log()}`))).join("\n"),
    [Symbol.asyncDispose]: () => cluster.stop(),
  };
  return cluster;
}

/** The configuration file of one server; `routes` empty means no cluster. */
export function natsConfig(options: {
  name: string;
  host: string;
  ports: NatsPorts;
  routes: readonly string[];
  storeFolder: string;
  domain?: string | undefined;
  config: string;
}): string {
  const { name, host, ports, routes, storeFolder, domain, config } = options;
  // Leaves of one cluster name would not see each other through their hub.
  const clusterName = name.replace(/-\d+$/, "");
  const cluster = `cluster { name: ${clusterName}, listen: "${host}:${ports.cluster}", routes: ${JSON.stringify(routes)} }`;
  return `server_name: ${name}
listen: "${host}:${ports.client}"
http: "${host}:${ports.monitor}"
jetstream { store_dir: ${JSON.stringify(storeFolder)}, ${domain === undefined ? "" : `domain: ${domain}, `}max_memory_store: 256MB, max_file_store: 4GB }
${routes.length > 0 ? cluster : ""}
${config}
`;
}

/** Whether the server reports that it serves clients and JetStream. */
export async function isHealthy(monitor: Readonly<{ host: string; port: number }>): Promise<boolean> {
  const response = await fetch(`http://${monitor.host}:${monitor.port}/healthz`, {
    signal: AbortSignal.timeout(2_000),
  });
  await response.body?.cancel();
  return response.ok;
}

/**
 * Whether one of the servers leads JetStream and is connected to all the others. Only then can a stream get three
 * replicas.
 */
export async function isComplete(monitors: readonly Readonly<{ host: string; port: number }>[]): Promise<boolean> {
  for (const { host, port } of monitors) {
    const response = await fetch(`http://${host}:${port}/jsz`, { signal: AbortSignal.timeout(2_000) });
    const { meta_cluster: meta } = (await response.json()) as {
      meta_cluster?: { replicas?: readonly { current?: boolean; offline?: boolean }[] };
    };
    const current = (meta?.replicas ?? []).filter(({ current, offline }) => current === true && offline !== true);
    if (current.length === monitors.length - 1) return true;
  }
  return false;
}
