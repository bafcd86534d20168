/** Process faults: processes that are killed, paused or restarted, alone or a whole region at once. */
import { setTimeout as delay } from "node:timers/promises";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import {
  type Aim,
  type Inject,
  type Injection,
  isolatedBy,
  killed,
  namesOf,
  paused,
  processNamed,
  together,
  touchedBy,
} from "./injection.ts";

const readyWithinMs = 15_000;
/** A move is refused while commits would find no standby afterwards, as with the third region cut off. */
const moveWithinMs = 60_000;
const pollEveryMs = 100;

type Acts = Pick<Injection, "begin" | "heal">;

/** A fault of one process, which is not expected to be ready meanwhile. */
function ofProcess(process: ClusterProcess, acts: Acts): Injection {
  return { target: process.name, regions: [process.region], isolates: [], holds: [process.name], ...acts };
}

export const processFaults = {
  "kill-proxy": ({ cluster, target }) =>
    ofProcess(processNamed(cluster, target), killed(processNamed(cluster, target))),
  "pause-proxy": ({ cluster, target }) =>
    ofProcess(processNamed(cluster, target), paused(processNamed(cluster, target))),
  "kill-leader": ({ leader }) => ofProcess(leader, killed(leader)),
  "pause-leader": ({ leader }) => ofProcess(leader, paused(leader)),
  "kill-standby": ({ follower }) => ofProcess(follower, killed(follower)),
  "kill-brokers": ({ cluster, home }) => {
    const { name, brokers } = home;
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
  "kill-regional-brokers": (aim) => {
    const { target } = aim;
    return {
      ...ofRegion(aim),
      target: `all brokers of ${target}`,
      ...killed(together(aim.cluster.region(target).brokers)),
    };
  },
  "kill-region": (aim) => {
    const { target } = aim;
    const { processes, nats } = aim.cluster.region(target);
    // NATS may wait for the home region before it reports itself healthy, which is not awaited.
    const patient = { kill: () => nats.kill(), start: async () => void nats.start().catch(() => {}) };
    return { ...ofRegion(aim), target: `everything in ${target}`, ...killed(together([patient, ...processes])) };
  },
  "lose-home": ({ cluster, home }) => {
    const { name, processes, nats } = home;
    const own = new Set(cluster.databases.filter(({ region }) => region === name).map((database) => database.name));
    const servers = cluster.postgres.servers.filter((server) => own.has(server.name));
    return {
      target: `everything in ${name}, with its Postgres servers`,
      regions: cluster.regions.map((region) => region.name),
      isolates: [],
      holds: namesOf(cluster.processes),
      ...killed(together([nats, ...servers, ...processes])),
    };
  },
  "move-home": (aim) => movedHome(aim),
  "pause-region": (aim) => {
    const { target } = aim;
    const { processes } = aim.cluster.region(target);
    return {
      ...ofRegion(aim),
      target: `every process of ${target}`,
      begin: async () => {
        for (const process of processes) process.pause();
      },
      heal: async () => {
        for (const process of processes) process.resume();
      },
    };
  },
} satisfies Readonly<Record<string, Inject>>;

/** A region without its processes, or without its brokers. */
function ofRegion(aim: Aim): Omit<Injection, "begin" | "heal"> {
  const { cluster, target } = aim;
  const regions = touchedBy(aim, target);
  return {
    target,
    regions,
    isolates: isolatedBy(aim, target),
    holds: regions.flatMap((name) => namesOf(cluster.region(name).processes)),
  };
}

/**
 * The home region moves to another and back, by the command of the product. Each old primary becomes a standby, so that
 * commits find one beside the third region, which may be broken meanwhile.
 */
function movedHome({ cluster, home, homeMoves, target }: Aim): Injection {
  return {
    target: `to ${target}`,
    regions: cluster.regions.map(({ name }) => name),
    isolates: [],
    holds: namesOf(cluster.processes),
    async begin() {
      await homeMoves.moveWithin(moveWithinMs, target);
      await homeMoves.rejoin();
    },
    async heal() {
      await homeMoves.moveWithin(moveWithinMs, home.name);
      await homeMoves.rejoin();
    },
  };
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
