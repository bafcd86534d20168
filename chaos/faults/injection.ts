/** Injection: one fault, ready to begin and to heal, and what it affects. */
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";

/** The aim of one fault. */
export type Aim = Readonly<{
  cluster: Cluster;
  /** Unique in a run. */
  id: string;
  /** The name of a process, of a NATS server or of a region (fault-kinds.ts). */
  target: string;
  /** The leading broker, as far as known. */
  leader: ClusterProcess;
  /** A broker beside the leader. */
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

export function processNamed(cluster: Cluster, name: string): ClusterProcess {
  const found = cluster.processes.find((process) => process.name === name);
  if (found === undefined) throw new RangeError(`there is no process ${name}`);
  return found;
}

export const namesOf = (processes: readonly ClusterProcess[]): readonly string[] => processes.map(({ name }) => name);
