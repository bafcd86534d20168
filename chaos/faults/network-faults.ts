/** Network faults: links that carry nothing, one way only, late, a few bytes at a time, or that ends have forgotten. */
import { setTimeout as delay } from "node:timers/promises";
import { linkTags } from "../cluster/cluster-config.ts";
import type { Effect, Rule } from "../cluster/link-rules.ts";
import type { Network } from "../cluster/network.ts";
import { type Aim, type Inject, type Injection, isolatedBy, killed, namesOf, touchedBy } from "./injection.ts";

/** Longer than a request waits for an unknown session. */
const slow: Effect = { type: "slow", ms: 600 };
/** With the delay between regions, a renew still returns before its lease ends. */
const slowRegion: Effect = { type: "slow", ms: 250 };
const cut: Effect = { type: "cut" };
const flapMs = { down: 900, up: 700 };
/** Within a cut of a region, how long a broker stays down. */
const restartMs = 1_000;

function broken({ cluster, id }: Aim, rules: readonly Rule[]): Pick<Injection, "begin" | "heal"> {
  return { begin: () => cluster.network.breakLinks(id, rules), heal: () => cluster.network.heal(id) };
}

const betweenProxyAnd = (proxy: string, servers: readonly string[], effect: Effect): readonly Rule[] =>
  servers.map((server) => ({ a: [proxy], b: [server], effect }));

const all = [linkTags.brokers, linkTags.nats];

function ofProxy(aim: Aim, servers: readonly string[], effect: Effect): Injection {
  const { target, cluster } = aim;
  const region = cluster.proxies.find(({ name }) => name === target)?.region;
  return {
    target,
    regions: region === undefined ? [] : [region],
    isolates: [],
    holds: [target],
    ...broken(aim, betweenProxyAnd(target, servers, effect)),
  };
}

/** Every link between a region and every other one. One way: from the region, or to it. */
export function betweenRegions(
  aim: Pick<Aim, "cluster" | "target">,
  effect: Effect,
  from: "region" | "others" = "region",
): readonly Rule[] {
  const { target } = aim;
  return othersOf(aim).map((name) =>
    from === "region" ? { a: [target], b: [name], effect } : { a: [name], b: [target], effect },
  );
}

function othersOf({ cluster, target }: Pick<Aim, "cluster" | "target">): readonly string[] {
  return cluster.regions.map(({ name }) => name).filter((name) => name !== target);
}

type RegionFault = Readonly<{ rules: readonly Rule[]; isolates: boolean }>;

function ofRegion(aim: Aim, { rules, isolates }: RegionFault): Injection {
  const { cluster, target } = aim;
  const regions = touchedBy(aim, target);
  return {
    target,
    regions,
    isolates: isolates ? isolatedBy(aim, target) : [],
    holds: regions.flatMap((name) => namesOf(cluster.region(name).processes)),
    ...broken(aim, rules),
  };
}

export const networkFaults = {
  "cut-proxy": (aim) => ofProxy(aim, all, cut),
  "cut-proxy-from-brokers": (aim) => ofProxy(aim, [linkTags.brokers], cut),
  "cut-proxy-from-nats": (aim) => ofProxy(aim, [linkTags.nats], cut),
  "deafen-proxy": (aim) => ofProxy(aim, all, { type: "one-way" }),
  "slow-proxy": (aim) => ofProxy(aim, all, slow),
  "trickle-proxy": (aim) => ofProxy(aim, all, { type: "trickle" }),
  "half-open-proxy": (aim) => ofProxy(aim, all, { type: "half-open" }),
  // The next leader knows the proxy's lease only from the table.
  "cut-proxy-and-kill-leader": (aim) => withDeadLeader(aim, ofProxy(aim, all, cut)),
  "cut-leader-from-postgres": (aim) => ({
    target: aim.leader.name,
    regions: [aim.leader.region],
    isolates: [],
    holds: [aim.leader.name],
    ...broken(aim, [{ a: [aim.leader.name], b: [linkTags.postgres], effect: cut }]),
  }),

  "cut-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, cut), isolates: true }),
  // Changes still arrive, and nothing that the region sends does.
  "mute-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, { type: "one-way" }, "others"), isolates: true }),
  "deafen-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, { type: "one-way" }), isolates: true }),
  "slow-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, slowRegion), isolates: false }),
  "trickle-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, { type: "trickle" }), isolates: false }),
  "half-open-region": (aim) => ofRegion(aim, { rules: betweenRegions(aim, { type: "half-open" }), isolates: false }),
  "flap-region": (aim) => flapping(aim),
  "cut-region-from-brokers": (aim) =>
    ofRegion(aim, {
      rules: othersOf(aim).map((other) => ({ a: [aim.target], b: [linkTags.brokers, other], effect: cut })),
      isolates: true,
    }),
  "cut-leaf": (aim) => ({
    ...ofRegion(aim, {
      rules: [{ a: [aim.target], b: [linkTags.nats, aim.home.name], effect: cut }],
      isolates: false,
    }),
    holds: [],
  }),
  "cut-region-standby": (aim) => ({
    ...ofRegion(aim, { rules: [{ a: [aim.target], b: [linkTags.postgres], effect: cut }], isolates: false }),
    holds: [],
  }),
  "cut-region-and-kill-leader": (aim) =>
    withDeadLeader(aim, ofRegion(aim, { rules: betweenRegions(aim, cut), isolates: true })),
  "cut-region-and-restart-broker": (aim) => restartingBroker(aim),
  "cut-home": (aim) => {
    const { cluster, home } = aim;
    const remotes = cluster.regions.filter((region) => region !== home);
    return {
      target: home.name,
      regions: cluster.regions.map(({ name }) => name),
      isolates: remotes.map(({ name }) => name),
      holds: remotes.flatMap(({ processes }) => namesOf(processes)),
      ...broken(aim, betweenRegions({ cluster, target: home.name }, cut)),
    };
  },
} satisfies Readonly<Record<string, Inject>>;

function withDeadLeader({ leader }: Aim, injection: Injection): Injection {
  const dead = killed(leader);
  return {
    ...injection,
    target: `${injection.target} and ${leader.name}`,
    regions: [...new Set([...injection.regions, leader.region])],
    holds: [...injection.holds, leader.name],
    async begin() {
      await injection.begin();
      await dead.begin();
    },
    async heal() {
      await Promise.all([injection.heal(), dead.heal()]);
    },
  };
}

/** A broker that restarts in a cut-off region has no lease, and must grant none. */
function restartingBroker(aim: Aim): Injection {
  const injection = ofRegion(aim, { rules: betweenRegions(aim, cut), isolates: true });
  const [broker] = aim.cluster.region(aim.target).brokers;
  if (broker === undefined) throw new RangeError(`${aim.target} has no broker`);
  return {
    ...injection,
    target: `${aim.target} and ${broker.name}`,
    async begin() {
      await injection.begin();
      await broker.kill();
      await delay(restartMs);
      await broker.start();
    },
    async heal() {
      await injection.heal();
      await broker.start(); // does nothing if it runs
    },
  };
}

/** The region is cut off and healed again and again, faster than a lease ends. */
function flapping(aim: Aim): Injection {
  const rules = betweenRegions(aim, cut);
  const over = new AbortController();
  let ended: Promise<void> = Promise.resolve();
  return {
    ...ofRegion(aim, { rules, isolates: false }),
    async begin() {
      ended = flap(aim.cluster.network, { id: aim.id, rules, over: over.signal });
    },
    async heal() {
      over.abort();
      await ended;
    },
  };
}

async function flap(
  network: Network,
  { id, rules, over }: Readonly<{ id: string; rules: readonly Rule[]; over: AbortSignal }>,
): Promise<void> {
  const pause = (ms: number): Promise<void> => delay(ms, undefined, { signal: over }).catch(() => {});
  while (!over.aborted) {
    await network.breakLinks(id, rules);
    await pause(flapMs.down);
    await network.heal(id);
    await pause(flapMs.up);
  }
}
