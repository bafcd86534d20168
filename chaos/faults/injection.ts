/** Injection: one fault, ready to begin and to heal, and what it affects. */
import type { Cluster, ClusterRegion } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import type { HomeMoves } from "../run/home-moves.ts";

/** The aim of one fault. */
export type Aim = Readonly<{
  cluster: Cluster;
  homeMoves: HomeMoves;
  /** The home region now. */
  home: ClusterRegion;
  /** Unique in a run. */
  id: string;
  /** The name of a process, of a NATS server or of a region (fault-kinds.ts). */
  target: string;
  /** The leading broker, as far as known. */
  leader: ClusterProcess;
  /** A broker beside the leader, if there is one. */
  follower: ClusterProcess;
  note: (text: string) => void;
}>;

export type Injection = Readonly<{
  /** What is broken, for people. */
  target: string;
  /** The regions that it touches. */
  regions: readonly string[];
  /** The regions whose nodes get no lease from the leader while it is in force. */
  isolates: readonly string[];
  /** The processes that are not expected to be ready meanwhile. */
  holds: readonly string[];
  begin: () => Promise<void>;
  /** Undoes it, as far as it began. */
  heal: () => Promise<void>;
}>;
export type Inject = (aim: Aim) => Injection;

export type Breakable = Readonly<{ kill(): Promise<void>; start(): Promise<void> }>;
export type Pausable = Readonly<{ pause(): void | Promise<void>; resume(): void | Promise<void> }>;

export function together(all: readonly Breakable[]): Breakable {
  const each = async (act: (one: Breakable) => Promise<void>): Promise<void> => void (await Promise.all(all.map(act)));
  return { kill: () => each((one) => one.kill()), start: () => each((one) => one.start()) };
}

export const killed = (what: Breakable) => ({ begin: () => what.kill(), heal: () => what.start() });
export const paused = (what: Pausable) => ({
  begin: async () => void (await what.pause()),
  heal: async () => void (await what.resume()),
});

type Named = Readonly<{ name: string }>;
type Homed = Readonly<{ cluster: Readonly<{ regions: readonly Named[] }>; home: Named }>;

/** The regions without a lease of the leader while this one is cut off from all others, or has no processes. */
export function isolatedBy({ cluster, home }: Homed, region: string): readonly string[] {
  const others = cluster.regions.map(({ name }) => name).filter((name) => name !== region);
  return region === home.name ? others : [region];
}

/** The regions that notice such a fault. */
export const touchedBy = (homed: Homed, region: string): readonly string[] => [
  ...new Set([region, ...isolatedBy(homed, region)]),
];

export function processNamed(cluster: Cluster, name: string): ClusterProcess {
  const found = cluster.processes.find((process) => process.name === name);
  if (found === undefined) throw new RangeError(`there is no process ${name}`);
  return found;
}

export const namesOf = (processes: readonly ClusterProcess[]): readonly string[] => processes.map(({ name }) => name);
