/**
 * Cluster: a real cluster as separate processes on loopback, in one region or in three.
 *
 * - The home region has Postgres with a standby or two, NATS, brokers, authenticate and proxies.
 * - Each other region has regional brokers, a NATS server that is a leaf of the home region's, a Postgres standby,
 *   authenticate and a proxy.
 * - Everything that crosses between regions passes over links that are late and can be broken.
 * - The demo identity provider and the upstream are reachable from everywhere.
 *
 * Ports and data survive a kill. Everything ends with `stop` or with this process.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "../../test/support/free-port.ts";
import { startNats } from "../../test/support/nats.ts";
import { type PostgresGroup, startPostgresGroup } from "../../test/support/postgres-group.ts";
import type { NatsCluster } from "../../test/support/service.ts";
import type { ProviderOptions } from "../clients/provider.ts";
import type { UpstreamOptions } from "../clients/upstream.ts";
import { compileCache, programFile } from "../program.ts";
import { type AuditStreams, createAuditStreams } from "./audit-streams.ts";
import {
  authenticateUrlOf,
  type ClusterAddresses,
  configOf,
  issuerOf,
  linksOf,
  linkTags,
  newLink,
  type ProcessPorts,
  type ProcessSpec,
  type Reach,
  type ServerAddress,
  specsOf,
} from "./cluster-config.ts";
import { ClusterProcess, type EndOfProcess, whenReady } from "./cluster-process.ts";
import { type Helper, startHelper } from "./helper-process.ts";
import type { Link } from "./link-rules.ts";
import type { LinksOptions } from "./links.ts";
import { type Network, startNetwork } from "./network.ts";
import { type SmallDisks, startSmallDisks } from "./small-disks.ts";
import { homeOf, type RegionPlan, type Topology } from "./topology.ts";

export type ClusterRegion = Readonly<{
  name: string;
  kind: RegionPlan["kind"];
  nats: NatsCluster;
  brokers: readonly ClusterProcess[];
  authenticate: ClusterProcess;
  proxies: readonly ClusterProcess[];
  /** All of the above, in the order in which they start. */
  processes: readonly ClusterProcess[];
}>;

export type Cluster = Readonly<{
  topology: Topology;
  regions: readonly ClusterRegion[];
  /** The region that the cluster started with as its home. */
  home: ClusterRegion;
  /** @throws RangeError when there is no such region */
  region(name: string): ClusterRegion;
  /** A primary and its standbys, `pg_1` first. Every commit waits for standbys. */
  postgres: PostgresGroup;
  /** The region of each Postgres server. */
  databases: readonly ServerAddress[];
  processes: readonly ClusterProcess[];
  proxies: readonly ClusterProcess[];
  upstream: Helper;
  network: Network;
  disks: SmallDisks;
  auditStreams: AuditStreams;
  addresses: ClusterAddresses;
  issuer: string;
  stop(): Promise<void>;
}>;

export type ClusterOptions = Readonly<{
  topology: Topology;
  folder: string;
  upstream: Omit<UpstreamOptions, "history">;
  /** The rule that is removed, and the processes that run without it. */
  weakened: Readonly<{ rule: string; processes: readonly string[] }> | null;
  say: (text: string) => void;
  /** Whether the audit spools of proxies are on small disks, which faults can fill (small-disks.ts). */
  smallDisks: boolean;
  onProcessEnd: (process: string, how: EndOfProcess) => void;
}>;

/** All ports at once, so that they differ: three for each process, one for the provider, one for each link. */
const portsMax = { base: 70, forEachRemoteRegion: 50 };
const startAttempts = 3;
/** Far above need: on a busy machine a process needs half a minute to start. */
const readyWithinMs = 300_000;
/** Servers advertise no other servers, so clients cannot bypass the links. */
const hiddenNats = 'client_advertise: "127.0.0.1:9"';
const rootFolder = join(import.meta.dirname, "../..");

/** Free ports are not reserved: if another process takes one, everything restarts with other ports. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  for (let attempt = 1; ; attempt++) {
    const stops: Stops = [];
    try {
      return await startOnce(options, stops);
    } catch (error) {
      await stopAll(stops, options.say);
      if (attempt === startAttempts) throw error;
      options.say(`the cluster did not start (${error instanceof Error ? error.message : error}); once more`);
    }
  }
}

type Stops = (() => Promise<unknown>)[];

async function stopAll(stops: Stops, say: (text: string) => void): Promise<void> {
  for (const one of stops.splice(0).reverse()) await one().catch((error: unknown) => say(`while stopping: ${error}`));
}

async function startOnce(options: ClusterOptions, stops: Stops): Promise<Cluster> {
  const { topology, folder, say } = options;
  const remotes = topology.regions.length - 1;
  const ports = await freePorts(portsMax.base + portsMax.forEachRemoteRegion * remotes);
  const nextPort = (): number => {
    const port = ports.pop();
    if (port === undefined) throw new RangeError("the cluster needs more ports than it reserved");
    return port;
  };
  const stores = await startStores(options, { stops, nextPort });
  const upstream = startHelper({
    name: "upstream",
    script: "clients/upstream.ts",
    logFile: join(folder, "upstream.log"),
    options: { ...options.upstream, history: join(folder, "upstream.jsonl") },
  });
  stops.push(() => upstream.stop(5_000));
  const addresses = await chooseAddresses({ topology, stores, upstreamPort: await upstream.ready, nextPort });
  const provider = startProvider(addresses, topology, folder);
  stops.push(() => provider.stop(2_000));

  say(`starting the processes of ${topology.regions.map(({ name }) => name).join(", ")}`);
  const wiring = { topology, addresses, nextPort };
  const specs = specsOf(topology, (name) => portsIn(addresses, name));
  const plans = specs.map((spec) => ({ spec, ...linksOf(spec, wiring) }));
  const standbyLinks = linksOfStandbys(stores.databases, wiring);
  const links: LinksOptions = {
    links: [...plans.flatMap((each) => each.links), ...stores.leafLinks, ...standbyLinks],
  };
  const network = startNetwork(links, folder);
  stops.push(() => network.stop());
  await Promise.all([network.ready, provider.ready]);
  const named = new Map(standbyLinks.map(({ near, far, port }) => [`${near[0]} ${far[0]}`, port]));
  if (remotes > 0) await stores.postgres.reachThrough((standby, primary) => named.get(`${standby} ${primary}`) ?? 0);

  const proxyNames = specs.filter(({ service }) => service === "proxy").map(({ name }) => name);
  const disks = await startSmallDisks(options.smallDisks ? proxyNames : [], folder);
  stops.push(() => disks.stop());
  const processes = plans.map(({ spec, reach }) => newProcess(spec, { topology, addresses, reach, disks }, options));
  for (const each of processes) stops.push(() => each.kill());
  const regions = topology.regions.map((plan) => regionWith(plan, { processes, nats: stores.nats }));
  const region = (name: string): ClusterRegion => one(regions, name);
  const cluster: Cluster = {
    topology,
    regions,
    region,
    home: region(homeOf(topology).name),
    postgres: stores.postgres,
    databases: stores.databases,
    processes,
    proxies: regions.flatMap((each) => each.proxies),
    upstream,
    network,
    disks,
    auditStreams: createAuditStreams(),
    addresses,
    issuer: issuerOf(addresses),
    stop: () => stopAll(stops, say),
  };
  await startInOrder(cluster);
  return cluster;
}

type Stores = Readonly<{
  postgres: PostgresGroup;
  databases: readonly ServerAddress[];
  nats: ReadonlyMap<string, NatsCluster>;
  leafLinks: readonly Link[];
}>;

/** Postgres and NATS of all regions. The leaves connect once the network runs. */
async function startStores(
  { topology, say }: ClusterOptions,
  { stops, nextPort }: Readonly<{ stops: Stops; nextPort: () => number }>,
): Promise<Stores> {
  const home = homeOf(topology);
  const databases = topology.regions.reduce((sum, region) => sum + region.databases, 0);
  say(`starting ${databases} Postgres servers, and NATS in ${topology.regions.map(({ name }) => name).join(", ")}`);
  const leafPorts = topology.regions.map(({ name }): ServerAddress => {
    return { name: `nats-${name}`, region: name, port: nextPort() };
  });
  const leafLinks: Link[] = [];
  const natsOf = async (region: RegionPlan): Promise<readonly [string, NatsCluster]> => {
    const isAlone = topology.regions.length === 1;
    const links = hubsOf(region, { topology, leafPorts }).map((to) =>
      newLink({ from: [`nats-${region.name}`], region: region.name, to, kind: linkTags.nats }, { topology, nextPort }),
    );
    leafLinks.push(...links);
    const listen = leafPorts.find((each) => each.region === region.name)?.port ?? 0;
    const nats = await startNats({
      size: region.natsServers,
      name: `nats-${region.name}`,
      config: isAlone ? hiddenNats : `${hiddenNats}\n${leafConfig(listen, links)}\nping_interval: "1s"`,
      ...(!isAlone && { domain: region.name }),
    });
    stops.push(() => nats.stop());
    return [region.name, nats];
  };
  const postgresOf = async (): Promise<PostgresGroup> => {
    const group = await startPostgresGroup({ synchrony: "quorum", standbys: databases - 1 });
    stops.push(() => group.stop());
    return group;
  };
  const [postgres, ...nats] = await Promise.all([postgresOf(), ...topology.regions.map(natsOf)]);
  const places = [home, ...topology.regions.filter((region) => region !== home)].flatMap((region) =>
    Array.from({ length: region.databases }, () => region.name),
  );
  return {
    postgres,
    databases: postgres.servers.map(({ name, port }, i) => ({ name, port, region: places[i] ?? home.name })),
    nats: new Map(nats),
    leafLinks,
  };
}

/** The regions of whose NATS a region's NATS is a leaf: the home region, or every region before it in the list. */
function hubsOf(
  region: RegionPlan,
  { topology, leafPorts }: Readonly<{ topology: Topology; leafPorts: readonly ServerAddress[] }>,
): readonly ServerAddress[] {
  const before = leafPorts.slice(0, topology.regions.indexOf(region));
  return topology.homes === "movable" ? before : before.filter((each) => each.region === homeOf(topology).name);
}

function leafConfig(listenPort: number, remotes: readonly Link[]): string {
  const urls = remotes.map(({ port }) => `"nats-leaf://127.0.0.1:${port}"`).join(", ");
  const remote = remotes.length === 0 ? "" : `, reconnect: 1, remotes: [{ urls: [${urls}], no_randomize: true }]`;
  // A leaf learns the advertised address of its server, and would connect to it around a cut. Nothing listens on this
  // one.
  return `leafnodes { listen: "127.0.0.1:${listenPort}", advertise: "127.0.0.1:1"${remote} }`;
}

/** Each standby reaches each other server over a link of its own, whichever is the primary. */
function linksOfStandbys(
  databases: readonly ServerAddress[],
  wiring: Readonly<{ topology: Topology; nextPort: () => number }>,
): readonly Link[] {
  if (wiring.topology.regions.length === 1) return [];
  return databases.flatMap(({ name, region }) =>
    databases
      .filter((to) => to.name !== name)
      .map((to) => newLink({ from: [name], region, to, kind: linkTags.postgres }, wiring)),
  );
}

async function chooseAddresses({
  topology,
  stores,
  upstreamPort,
  nextPort,
}: {
  topology: Topology;
  stores: Stores;
  upstreamPort: number;
  nextPort: () => number;
}): Promise<ClusterAddresses> {
  const take = (): ProcessPorts => ({ address: nextPort(), metrics: nextPort(), broker: nextPort() });
  const secret = (): string => randomBytes(32).toString("base64");
  const processes = new Map<string, ProcessPorts>();
  specsOf(topology, (name) => {
    const ports = take();
    processes.set(name, ports);
    return ports;
  });
  return {
    sharedSecret: secret(),
    cookieSecret: secret(),
    idpSecret: randomBytes(16).toString("hex"),
    postgres: await stores.postgres.newDatabase(),
    databases: stores.databases,
    nats: [...stores.nats].flatMap(([region, { nodes }]) => nodes.map(({ name, port }) => ({ name, region, port }))),
    upstreamPort,
    idpPort: nextPort(),
    processes,
  };
}

function portsIn(addresses: ClusterAddresses, process: string): ProcessPorts {
  const ports = addresses.processes.get(process);
  if (ports === undefined) throw new RangeError(`there is no process ${process}`);
  return ports;
}

function startProvider(addresses: ClusterAddresses, topology: Topology, folder: string): Helper {
  const url = authenticateUrlOf(addresses, topology);
  const options: ProviderOptions = {
    port: addresses.idpPort,
    issuer: issuerOf(addresses),
    clientId: "chaos",
    clientSecret: addresses.idpSecret,
    redirectUri: `${url}/oauth2/callback`,
    signedOutUri: `${url}/.pomerium/signed_out`,
  };
  return startHelper({ name: "idp", script: "clients/provider.ts", options, logFile: join(folder, "idp.log") });
}

function newProcess(
  spec: ProcessSpec,
  { disks, ...wired }: Readonly<{ topology: Topology; addresses: ClusterAddresses; reach: Reach; disks: SmallDisks }>,
  { folder, weakened, onProcessEnd }: ClusterOptions,
): ClusterProcess {
  const dataDir = join(folder, "data", spec.name);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const isWeak = weakened?.processes.includes(spec.name) === true;
  const isProxy = spec.service === "proxy";
  return new ClusterProcess(spec, {
    folder,
    config: configOf(spec, { ...wired, dataDir, spoolDir: isProxy ? disks.folder(spec.name) : null }),
    enter: isProxy ? disks.enter : [],
    onEnd: (how) => onProcessEnd(spec.name, how),
    entry: isWeak ? join(rootFolder, "chaos/weakened-main.ts") : programFile(),
    env: {
      NODE_COMPILE_CACHE: compileCache, // makes a restart take about half a second
      ...(isWeak && { CARDEA_CHAOS_WEAKEN: weakened.rule }),
    },
  });
}

function regionWith(
  plan: RegionPlan,
  { processes, nats }: Readonly<{ processes: readonly ClusterProcess[]; nats: ReadonlyMap<string, NatsCluster> }>,
): ClusterRegion {
  const own = processes.filter(({ region }) => region === plan.name);
  const serving = (service: ProcessSpec["service"]): readonly ClusterProcess[] =>
    own.filter((each) => each.service === service);
  const [authenticate] = serving("authenticate");
  const servers = nats.get(plan.name);
  if (authenticate === undefined || servers === undefined) throw new RangeError(`${plan.name} is incomplete`);
  return {
    name: plan.name,
    kind: plan.kind,
    nats: servers,
    brokers: serving("databroker"),
    authenticate,
    proxies: serving("proxy"),
    processes: own,
  };
}

function one<T extends Readonly<{ name: string }>>(all: readonly T[], name: string): T {
  const found = all.find((each) => each.name === name);
  if (found === undefined) throw new RangeError(`there is no ${name}: ${all.map((each) => each.name).join(", ")}`);
  return found;
}

/** One home broker first, because it creates the tables; the others need a leader. */
async function startInOrder({ home, processes }: Cluster): Promise<void> {
  const [first] = home.brokers;
  if (first === undefined) throw new RangeError("the home region has no broker");
  await first.start();
  await whenReady([first], readyWithinMs);
  const brokers = processes.filter((each) => each.service === "databroker" && each !== first);
  for (const each of brokers) await each.start();
  await whenReady(brokers, readyWithinMs);
  const rest = processes.filter((each) => each.service !== "databroker");
  for (const each of rest) await each.start();
  await whenReady(rest, readyWithinMs);
}
