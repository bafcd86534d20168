/** Topology: which regions a cluster has, and what runs in each. Pure. */

export type TopologyName = "one-region" | "three-regions" | "movable-home";

export type RegionPlan = Readonly<{
  name: string;
  /** `home`: its brokers lead at first and write to Postgres. `remote`: its brokers are regional brokers. */
  kind: "home" | "remote";
  brokers: number;
  proxies: number;
  natsServers: 1 | 3;
  /** Postgres servers: in the home region a primary and standbys, elsewhere standbys. */
  databases: number;
}>;

export type Topology = Readonly<{
  name: TopologyName;
  regions: readonly RegionPlan[];
  /** `movable`: every region's brokers may lead (`broker.homes`). */
  homes: "fixed" | "movable";
  /** Delay (ms) of every byte between two regions, in each direction. */
  delayMs: number;
  /** What the clients do: requests each second in all, and connections to each proxy. */
  load: Readonly<{
    perSecond: number;
    plainPerNode: number;
    downloadsPerNode: number;
    socketsPerNode: number;
    slowReadersPerNode: number;
  }>;
  sessions: number;
  /** A run with fewer answers each second is inconclusive. */
  answersPerSecondMin: number;
}>;

/** Small: all three regions share one machine. */
const threeRegions: Omit<Topology, "name" | "homes"> = {
  regions: [
    { name: "eu", kind: "home", brokers: 2, proxies: 1, natsServers: 1, databases: 2 },
    { name: "us", kind: "remote", brokers: 2, proxies: 1, natsServers: 1, databases: 1 },
    { name: "ap", kind: "remote", brokers: 1, proxies: 1, natsServers: 1, databases: 1 },
  ],
  delayMs: 40,
  load: { perSecond: 180, plainPerNode: 16, downloadsPerNode: 3, socketsPerNode: 10, slowReadersPerNode: 4 },
  sessions: 120,
  answersPerSecondMin: 60,
};

export const topologies: Readonly<Record<TopologyName, Topology>> = {
  "one-region": {
    name: "one-region",
    regions: [{ name: "eu", kind: "home", brokers: 2, proxies: 3, natsServers: 3, databases: 3 }],
    homes: "fixed",
    delayMs: 0,
    load: { perSecond: 900, plainPerNode: 40, downloadsPerNode: 5, socketsPerNode: 25, slowReadersPerNode: 8 },
    sessions: 300,
    answersPerSecondMin: 50_000 / 120,
  },
  "three-regions": { name: "three-regions", homes: "fixed", ...threeRegions },
  // A Postgres server in each region: after any one is lost, a commit still finds a standby.
  "movable-home": {
    name: "movable-home",
    homes: "movable",
    ...threeRegions,
    regions: threeRegions.regions.map((region) => ({ ...region, databases: 1 })),
  },
};

export const isTopologyName = (text: string): text is TopologyName => Object.hasOwn(topologies, text);

export const brokersOf = ({ name, brokers }: RegionPlan): readonly string[] => numbered(`broker-${name}`, brokers);
export const proxiesOf = ({ name, proxies }: RegionPlan): readonly string[] => numbered(`proxy-${name}`, proxies);
export const authenticateOf = ({ name }: Pick<RegionPlan, "name">): string => `authenticate-${name}`;

function numbered(name: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `${name}-${i + 1}`);
}

export function homeOf({ regions }: Topology): RegionPlan {
  const home = regions.find(({ kind }) => kind === "home");
  if (home === undefined) throw new RangeError("a topology has a home region");
  return home;
}

export function remotesOf({ regions }: Topology): readonly RegionPlan[] {
  return regions.filter(({ kind }) => kind === "remote");
}

/** The region of a process, by its name; null: it belongs to none. */
export function regionOf(topology: Topology, process: string): string | null {
  return topology.regions.find(({ name }) => process.split("-")[1] === name)?.name ?? null;
}
