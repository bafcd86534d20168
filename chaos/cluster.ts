/**
 * Cluster: a real cluster as separate processes on loopback.
 *
 * Postgres with two standbys, three NATS servers, two brokers, authenticate, three proxies in two regions, the demo
 * identity provider and the upstream. Ports and data survive a kill. Everything ends with `stop` or with this process.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "../test/support/free-port.ts";
import { startNats } from "../test/support/nats.ts";
import { type PostgresGroup, startPostgresGroup } from "../test/support/postgres-group.ts";
import type { NatsCluster } from "../test/support/service.ts";
import {
  authenticateUrlOf,
  type ClusterAddresses,
  configOf,
  issuerOf,
  linksOf,
  type ProcessPorts,
  type ProcessSpec,
  type Reach,
  specsOf,
} from "./cluster-config.ts";
import { ClusterProcess, whenReady } from "./cluster-process.ts";
import { type Helper, startHelper } from "./helper-process.ts";
import type { LinksOptions } from "./links.ts";
import type { ProviderOptions } from "./provider.ts";
import type { UpstreamOptions } from "./upstream.ts";

export type Cluster = Readonly<{
  /** A primary and two standbys. Every commit waits for one standby. */
  postgres: PostgresGroup;
  nats: NatsCluster;
  brokers: readonly ClusterProcess[];
  authenticate: ClusterProcess;
  proxies: readonly ClusterProcess[];
  processes: readonly ClusterProcess[];
  upstream: Helper;
  /** The network between the processes: links by name, each with a state. */
  network: Helper;
  addresses: ClusterAddresses;
  issuer: string;
  stop(): Promise<void>;
}>;

export type ClusterOptions = Readonly<{
  folder: string;
  upstream: Omit<UpstreamOptions, "history">;
  /** The rule that is removed, and the processes that run without it. */
  weakened: Readonly<{ rule: string; processes: readonly string[] }> | null;
  say: (text: string) => void;
}>;

/** All ports at once, so that they differ: three per process, one for the provider, and one per link. */
const portsMax = 60;
/** The delay of a slow link in each direction, longer than a request waits for an unknown session. */
const slowMs = 600;
const startAttempts = 3;
const readyWithinMs = 60_000;
/** Servers advertise no other servers, so clients cannot bypass the links. */
const hiddenNats = 'client_advertise: "127.0.0.1:9"';
const rootFolder = join(import.meta.dirname, "..");

/** Free ports are not reserved: if another process takes one, everything restarts with other ports. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options);
    } catch (error) {
      if (attempt === startAttempts) throw error;
      options.say(`the cluster did not start (${error instanceof Error ? error.message : error}); once more`);
    }
  }
}

async function startOnce(options: ClusterOptions): Promise<Cluster> {
  const { folder, say } = options;
  const stops: (() => Promise<unknown>)[] = [];
  const stop = async (): Promise<void> => {
    for (const one of stops.splice(0).reverse()) await one().catch((error: unknown) => say(`while stopping: ${error}`));
  };
  try {
    say("starting three Postgres servers and three NATS servers");
    const [postgres, nats] = await Promise.all([
      startPostgresGroup({ synchrony: "quorum" }),
      startNats({ size: 3, config: hiddenNats }),
    ]);
    stops.push(
      () => postgres.stop(),
      () => nats.stop(),
    );
    const upstream = startHelper({
      ...{ name: "upstream", script: "upstream.ts", logFile: join(folder, "upstream.log") },
      options: { ...options.upstream, history: join(folder, "upstream.jsonl") },
    });
    stops.push(() => upstream.stop(5_000));
    const ports = await freePorts(portsMax);
    const nextPort = (): number => ports.pop() ?? 0;
    const addresses = await chooseAddresses({ postgres, nats, upstreamPort: await upstream.ready, nextPort });
    const provider = startProvider(addresses, folder);
    stops.push(() => provider.stop(2_000));
    await provider.ready;

    say("starting brokers, authenticate and proxies");
    const plans = specsOf(addresses).map((spec) => ({ spec, ...linksOf(spec, addresses, nextPort) }));
    const links: LinksOptions = { links: plans.flatMap((each) => each.links), slowMs };
    const network = startHelper({
      name: "network",
      script: "links.ts",
      options: links,
      logFile: join(folder, "links.log"),
    });
    stops.push(() => network.stop(2_000));
    await network.ready;
    const processes = plans.map(({ spec, reach }) => newProcess(spec, { addresses, reach }, options));
    for (const each of processes) stops.push(() => each.kill());
    const cluster: Cluster = {
      ...{ postgres, nats, processes, upstream, network, addresses, stop },
      brokers: processes.filter(({ name }) => name.startsWith("broker-")),
      authenticate: one(processes, "authenticate"),
      proxies: processes.filter(({ name }) => name.startsWith("proxy-")),
      issuer: issuerOf(addresses),
    };
    await startInOrder(cluster);
    return cluster;
  } catch (error) {
    await stop();
    throw error;
  }
}

function one(processes: readonly ClusterProcess[], name: string): ClusterProcess {
  const found = processes.find((each) => each.name === name);
  if (found === undefined) throw new RangeError(`there is no process ${name}`);
  return found;
}

async function chooseAddresses(from: {
  postgres: PostgresGroup;
  nats: NatsCluster;
  upstreamPort: number;
  nextPort: () => number;
}): Promise<ClusterAddresses> {
  const { nextPort } = from;
  const take = (): ProcessPorts => ({ address: nextPort(), metrics: nextPort(), broker: nextPort() });
  const secret = (): string => randomBytes(32).toString("base64");
  return {
    ...{ sharedSecret: secret(), cookieSecret: secret(), idpSecret: randomBytes(16).toString("hex") },
    postgres: await from.postgres.newDatabase(),
    nats: from.nats.urls,
    upstreamPort: from.upstreamPort,
    idpPort: nextPort(),
    authenticate: take(),
    brokers: [take(), take()],
    proxies: [take(), take(), take()],
  };
}

function startProvider(addresses: ClusterAddresses, folder: string): Helper {
  const options: ProviderOptions = {
    port: addresses.idpPort,
    issuer: issuerOf(addresses),
    clientId: "chaos",
    clientSecret: addresses.idpSecret,
    redirectUri: `${authenticateUrlOf(addresses)}/oauth2/callback`,
    signedOutUri: `${authenticateUrlOf(addresses)}/.pomerium/signed_out`,
  };
  return startHelper({ name: "idp", script: "provider.ts", options, logFile: join(folder, "idp.log") });
}

function newProcess(
  spec: ProcessSpec,
  at: Readonly<{ addresses: ClusterAddresses; reach: Reach }>,
  { folder, weakened }: ClusterOptions,
): ClusterProcess {
  const dataDir = join(folder, "data", spec.name);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const isWeak = weakened?.processes.includes(spec.name) === true;
  return new ClusterProcess(spec, {
    folder,
    config: configOf(spec, { ...at, dataDir }),
    entry: join(rootFolder, isWeak ? "chaos/weakened-main.ts" : "src/main.ts"),
    env: {
      NODE_COMPILE_CACHE: join(folder, "compile-cache"), // makes a restart take about a second
      ...(isWeak && { CARDEA_CHAOS_WEAKEN: weakened.rule }),
    },
  });
}

async function startInOrder({ brokers, authenticate, proxies }: Cluster): Promise<void> {
  for (const broker of brokers) {
    await broker.start();
    await whenReady([broker], readyWithinMs);
  }
  for (const each of [authenticate, ...proxies]) await each.start();
  await whenReady([authenticate, ...proxies], readyWithinMs);
}
