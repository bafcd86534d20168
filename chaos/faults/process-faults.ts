/** Process faults: processes that are killed, paused or restarted, alone or a whole region at once. */
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import {
  type Aim,
  type Breakable,
  type Inject,
  type Injection,
  killed,
  namesOf,
  paused,
  processNamed,
  together,
} from "./injection.ts";

const readyWithinMs = 15_000;
const pollEveryMs = 100;

type Acts = Pick<Injection, "begin" | "heal">;

/** A fault of one process, which is not expected to be ready meanwhile. */
function ofProcess(process: ClusterProcess, acts: Acts): Injection {
  return { target: process.name, regions: [process.region], isolates: [], holds: [process.name], ...acts };
}

/** The leader or the broker beside it. Meanwhile no node of another region can be expected to have a lease. */
function ofHomeBroker(aim: Aim, process: ClusterProcess, acts: Acts): Injection {
  return { ...ofProcess(process, acts), regions: [aim.cluster.home.name] };
}

export const processFaults = {
  "kill-proxy": ({ cluster, target }) =>
    ofProcess(processNamed(cluster, target), killed(processNamed(cluster, target))),
  "pause-proxy": ({ cluster, target }) =>
    ofProcess(processNamed(cluster, target), paused(processNamed(cluster, target))),
  "kill-leader": (aim) => ofHomeBroker(aim, aim.leader, killed(aim.leader)),
  "pause-leader": (aim) => ofHomeBroker(aim, aim.leader, paused(aim.leader)),
  "kill-standby": (aim) => ofHomeBroker(aim, aim.follower, killed(aim.follower)),
  "kill-brokers": ({ cluster }) => {
    const { name, brokers } = cluster.home;
    return {
      target: `all brokers of ${name}`,
      regions: [name],
      isolates: [],
      holds: namesOf(cluster.processes),
      ...killed(together(brokers)),
    };
  },
  "rolling-restart": ({ cluster, note }) => ({
    target: "all proxies",
    regions: cluster.regions.map(({ name }) => name),
    isolates: [],
    holds: namesOf(cluster.proxies),
    begin: () => restartOneByOne(cluster.proxies, note),
    heal: async () => {},
  }),
  "kill-regional-broker": ({ cluster, target }) => ofRegionalBroker(processNamed(cluster, target), killed),
  "pause-regional-broker": ({ cluster, target }) => ofRegionalBroker(processNamed(cluster, target), paused),
  "kill-regional-brokers": ({ cluster, target }) => {
    const region = cluster.region(target);
    return {
      target: `all brokers of ${target}`,
      regions: [target],
      isolates: [target],
      holds: namesOf(region.processes),
      ...killed(together(region.brokers)),
    };
  },
  "kill-region": ({ cluster, target }) => {
    const { processes, nats } = cluster.region(target);
    // NATS may wait for the home region before it reports itself healthy, which is not awaited.
    const patient = { kill: () => nats.kill(), start: async () => void nats.start().catch(() => {}) };
    return {
      target: `everything in ${target}`,
      regions: [target],
      isolates: [target],
      holds: namesOf(processes),
      ...killed(together([patient, ...processes])),
    };
  },
  "lose-home": ({ cluster }) => {
    const { name, processes, nats } = cluster.home;
    const servers = cluster.databases.flatMap(({ region }, i) => (region === name ? [serverAt(cluster, i)] : []));
    return {
      target: `everything in ${name}, with its Postgres servers`,
      regions: cluster.regions.map((region) => region.name),
      isolates: [],
      holds: namesOf(cluster.processes),
      ...killed(together([nats, ...servers, ...processes])),
    };
  },
  "pause-region": ({ cluster, target }) => {
    const { processes } = cluster.region(target);
    return {
      target: `every process of ${target}`,
      regions: [target],
      isolates: [target],
      holds: namesOf(processes),
      begin: async () => {
        for (const process of processes) process.pause();
      },
      heal: async () => {
        for (const process of processes) process.resume();
      },
    };
  },
} satisfies Readonly<Record<string, Inject>>;

/** A Postgres server by its number: the first primary, then the standbys. */
function serverAt({ postgres }: Cluster, index: number): Breakable {
  const server = index === 0 ? postgres : postgres.standbys[index - 1];
  if (server === undefined) throw new RangeError(`there is no Postgres server ${index + 1}`);
  return server;
}

/** Its nodes use another broker of the region, if there is one. */
function ofRegionalBroker(process: ClusterProcess, act: (process: ClusterProcess) => Acts): Injection {
  return ofProcess(process, act(process));
}

async function restartOneByOne(proxies: readonly ClusterProcess[], note: Aim["note"]): Promise<void> {
  for (const proxy of proxies) {
    const began = performance.now();
    await proxy.end();
    const ended = performance.now();
    await proxy.start();
    await readyOrGiveUp(proxy);
    const took = [ended - began, performance.now() - ended].map((ms) => ms.toFixed(0));
    note(`${proxy.name} drained in ${took[0]} ms, ready after ${took[1]} ms`);
  }
}

async function readyOrGiveUp(process: ClusterProcess): Promise<void> {
  const giveUpAt = performance.now() + readyWithinMs;
  while (performance.now() < giveUpAt && (await process.whyNotReady()).length > 0) await delay(pollEveryMs);
}
