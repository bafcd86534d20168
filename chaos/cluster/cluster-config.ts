/** Cluster config: the processes of a cluster, the links between them, and their configuration files. Pure. */
import { emailOf, lease, cluster as name, routes } from "../world.ts";
import type { Link } from "./link-rules.ts";
import { authenticateOf, brokersOf, homeOf, proxiesOf, type RegionPlan, type Topology } from "./topology.ts";

export type ProcessPorts = Readonly<{ address: number; metrics: number; broker: number }>;
export type ServerAddress = Readonly<{ name: string; region: string; port: number }>;

export type ClusterAddresses = Readonly<{
  sharedSecret: string;
  cookieSecret: string;
  idpSecret: string;
  /** A connection string that names every Postgres server, in the order of `databases`. */
  postgres: string;
  databases: readonly ServerAddress[];
  /** The client ports of all NATS servers. */
  nats: readonly ServerAddress[];
  upstreamPort: number;
  idpPort: number;
  /** By the name of the process. */
  processes: ReadonlyMap<string, ProcessPorts>;
}>;

const longest = `${lease.leaseMs + Math.max(...routes.map(({ graceMs }) => graceMs ?? 0))}ms`;

export type ProcessSpec = Readonly<{
  name: string;
  service: "databroker" | "authenticate" | "proxy";
  region: RegionPlan;
  ports: ProcessPorts;
}>;

/** In the order in which they start: home brokers first. */
export function specsOf(topology: Topology, portsOf: (process: string) => ProcessPorts): readonly ProcessSpec[] {
  const spec = (process: string, service: ProcessSpec["service"], region: RegionPlan): ProcessSpec => {
    return { name: process, service, region, ports: portsOf(process) };
  };
  const regions = [homeOf(topology), ...topology.regions.filter(({ kind }) => kind !== "home")];
  return [
    ...regions.flatMap((region) => brokersOf(region).map((process) => spec(process, "databroker", region))),
    ...regions.map((region) => spec(authenticateOf(region), "authenticate", region)),
    ...regions.flatMap((region) => proxiesOf(region).map((process) => spec(process, "proxy", region))),
  ];
}

/** The tags of link ends (link-rules.ts): a name, a kind of server, a region. */
export const linkTags = { brokers: "brokers", nats: "NATS", postgres: "Postgres" } as const;

/** The addresses by which a process reaches the others: links that can be broken, or their own ports. */
export type Reach = Readonly<{
  brokers: readonly number[];
  homeBrokers: readonly number[];
  nats: readonly number[];
  postgres: string;
  /** The regions that may hold the leader; empty: that is fixed. */
  homes: readonly Readonly<{ region: string; brokers: readonly number[]; databases: readonly number[] }>[];
}>;

/** Every process that records has this file and JetStream. */
export const auditFileIn = (dataDir: string): string => `${dataDir}/audit/decisions.jsonl`;

export type Wiring = Readonly<{ topology: Topology; addresses: ClusterAddresses; nextPort: () => number }>;

/**
 * Links of a proxy of the home region to its brokers and NATS, of a broker that may lead to Postgres, and of a broker
 * to those of other regions that may lead. All other connections within a region are direct: the processes of a region
 * other than the home region have to name the same addresses of its brokers.
 */
export function linksOf(spec: ProcessSpec, wiring: Wiring): Readonly<{ reach: Reach; links: readonly Link[] }> {
  const { topology, addresses } = wiring;
  const { region, service } = spec;
  const links: Link[] = [];
  const lay = (to: ServerAddress, kind: string): number => {
    const link = newLink({ from: [spec.name], region: region.name, to, kind }, wiring);
    links.push(link);
    return link.port;
  };
  const brokersIn = (of: RegionPlan): readonly ServerAddress[] =>
    brokersOf(of).map((broker) => {
      return { name: broker, region: of.name, port: addresses.processes.get(broker)?.broker ?? 0 };
    });
  const own = brokersIn(region);
  const nats = addresses.nats.filter((each) => each.region === region.name);
  const isProxy = service === "proxy" && region.kind === "home";
  const isMovable = service === "databroker" && topology.homes === "movable";
  const writes = service === "databroker" && (region.kind === "home" || isMovable);
  const callsHome = service === "databroker" && region.kind === "remote" && !isMovable;
  const databases = writes ? addresses.databases.map((each) => ({ ...each, port: lay(each, linkTags.postgres) })) : [];
  const homes = (): Reach["homes"] =>
    topology.regions.map((each) => ({
      region: each.name,
      brokers: brokersIn(each).map((broker) => (each === region ? broker.port : lay(broker, linkTags.brokers))),
      databases: databases.filter((database) => database.region === each.name).map(({ port }) => port),
    }));
  const reach: Reach = {
    brokers: own.map((each) => (isProxy ? lay(each, linkTags.brokers) : each.port)),
    homeBrokers: callsHome ? brokersIn(homeOf(topology)).map((each) => lay(each, linkTags.brokers)) : [],
    nats: nats.map((each) => (isProxy ? lay(each, linkTags.nats) : each.port)),
    postgres: writes
      ? throughPorts(
          addresses.postgres,
          databases.map(({ port }) => port),
        )
      : addresses.postgres,
    homes: isMovable ? homes() : [],
  };
  return { reach, links };
}

export type LinkEnds = Readonly<{ from: readonly string[]; region: string; to: ServerAddress; kind: string }>;

export function newLink(
  { from, region, to, kind }: LinkEnds,
  { topology, nextPort }: Pick<Wiring, "topology" | "nextPort">,
): Link {
  return {
    port: nextPort(),
    to: to.port,
    near: [...from, region],
    far: [to.name, kind, to.region],
    delayMs: to.region === region ? 0 : topology.delayMs,
  };
}

/** A connection string that names several hosts: the same hosts, at other ports. */
export function throughPorts(url: string, ports: readonly number[]): string {
  return url.replace(/@[^/]+\//, `@${ports.map((port) => `127.0.0.1:${port}`).join(",")}/`);
}

export const issuerOf = (addresses: Pick<ClusterAddresses, "idpPort">): string =>
  `http://idp.localhost:${addresses.idpPort}`;

/** All regions share one address, as with a name that leads to the nearest region. */
export const authenticateHost = "authenticate.localhost";
export function authenticateUrlOf({ processes }: Pick<ClusterAddresses, "processes">, topology: Topology): string {
  return `http://${authenticateHost}:${processes.get(authenticateOf(homeOf(topology)))?.address}`;
}

export function configOf(
  { name: process, service, region, ports }: ProcessSpec,
  wired: Readonly<{
    topology: Topology;
    addresses: ClusterAddresses;
    reach: Reach;
    dataDir: string;
    /** Null: in its data folder. */
    spoolDir: string | null;
  }>,
): object {
  const { topology, addresses, reach, dataDir, spoolDir } = wired;
  const isBroker = service === "databroker";
  const isMovable = reach.homes.length > 0;
  const isRegional = isBroker && region.kind === "remote" && !isMovable;
  const urlsAt = (all: readonly number[]): readonly string[] => all.map((port) => `http://127.0.0.1:${port}`);
  return {
    services: [service],
    address: `127.0.0.1:${ports.address}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${ports.metrics}`,
    region: region.name,
    node_name: process,
    data_dir: dataDir,
    drain_timeout: "2s",
    log_level: service === "proxy" ? "warn" : "info", // a line per request has no use here
    shared_secret: addresses.sharedSecret,
    cookie_secret: addresses.cookieSecret,
    authenticate_service_url: authenticateUrlOf(addresses, topology),
    idp_provider: "oidc",
    idp_provider_url: issuerOf(addresses),
    idp_client_id: "chaos",
    idp_client_secret: addresses.idpSecret,
    groups_from_claim: "groups",
    administrators: [`email:${emailOf("alice")}`],
    max_sessions_per_user: 10_000,
    databroker_storage_type: "postgres",
    ...(isBroker && !isRegional && { databroker_storage_connection_string: reach.postgres }),
    nats: {
      servers: reach.nats.map((port) => `nats://127.0.0.1:${port}`),
      ...(isRegional && { home_domain: homeOf(topology).name }),
    },
    broker: {
      cluster_name: name,
      urls: urlsAt(reach.brokers),
      ...(isBroker && {
        listen: `127.0.0.1:${ports.broker}`,
        advertised_url: `http://127.0.0.1:${ports.broker}`,
      }),
      ...(isRegional && { home_urls: urlsAt(reach.homeBrokers) }),
      ...(isMovable && {
        homes: reach.homes.map((home) => ({
          region: home.region,
          urls: urlsAt(home.brokers),
          postgres: home.databases.map((port) => `127.0.0.1:${port}`),
          nats_domain: home.region,
        })),
      }),
      lease: `${lease.leaseMs}ms`,
      renew: `${lease.renewMs}ms`,
      beat: `${lease.beatMs}ms`,
      clock_drift: lease.drift,
      takeover: `${lease.takeoverMs}ms`,
      // After a failover that may have lost beats, a receipt waits for the longest granted window.
      max_window: { proxy: longest, authorize: longest, broker: longest },
    },
    audit: {
      query: ["r"], // the client's own id of a request
      seal_interval: "5s", // several in each run
      // A file of this size is rotated every minute or so.
      sinks: [{ file: auditFileIn(dataDir), rotate: { max_bytes: 1_048_576, keep_files: 10_000 } }, { nats: true }],
      stream_max_bytes: 1_073_741_824, // several streams fit into the servers of a run
      ...(spoolDir !== null && { spool_dir: spoolDir }),
    },
    routes: routes.map((route) => ({
      id: route.name,
      audit: route.audit,
      name: route.name,
      from: `http://${route.host}`,
      to: `http://127.0.0.1:${addresses.upstreamPort}`,
      ...(route.group === null
        ? { allow_any_authenticated_user: true }
        : { policy: { allow: { and: [{ groups: { has: route.group } }] } } }),
      allow_websockets: true,
      pass_identity_headers: true,
      ...(route.graceMs === null ? { on_stale: "deny" } : { on_stale: "serve", stale_grace: `${route.graceMs}ms` }),
    })),
  };
}
