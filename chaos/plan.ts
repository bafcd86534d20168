/**
 * Plan: which faults happen when, decided by a seed.
 *
 * Pure. Every kind of fault happens at least once if there is time, then some repeat, often overlapping. A broken part
 * is left alone until it should work again. At most two proxies are down at a time, except in a rolling restart. The
 * first and last seconds are quiet, for comparison.
 */
import { type Random, randomFrom } from "./random.ts";

export const faultKinds = [
  "kill-proxy",
  "pause-proxy",
  "kill-leader",
  "pause-leader",
  "kill-standby",
  "kill-brokers",
  "kill-nats",
  "restart-nats",
  "pause-nats",
  "kill-all-nats",
  "pause-all-nats",
  "pause-postgres",
  "stop-postgres",
  "terminate-backends",
  "empty-synchronous-names",
  "promote-lagging-standby",
  "delete-stream",
  "hostile-nats-client",
  "rolling-restart",
  "cut-proxy",
  "cut-proxy-from-brokers",
  "cut-proxy-from-nats",
  "deafen-proxy",
  "slow-proxy",
  "cut-proxy-and-kill-leader",
  "cut-leader-from-postgres",
] as const;
export type FaultKind = (typeof faultKinds)[number];

export type PlannedFault = Readonly<{
  index: number;
  /** Time since the start of the run. */
  atMs: number;
  kind: FaultKind;
  /** The number of the proxy or NATS server; null: there is only one, or the run decides (the leading broker). */
  target: number | null;
  /** How long it is down, paused or cut off. */
  forMs: number;
}>;

export type Plan = Readonly<{ seed: number; seconds: number; faults: readonly PlannedFault[] }>;

export type PlanOptions = Readonly<{ seed: number; seconds: number; proxies: number; natsServers: number }>;

/** The affected parts, and how long they stay affected after the fault. */
type FaultProfile = Readonly<{
  uses:
    | "proxy"
    | "brokers"
    | "proxy-and-brokers"
    | "nats"
    | "all-nats"
    | "postgres"
    | "postgres-and-brokers"
    | "all-proxies"
    | "nothing";
  forMs: readonly [number, number];
  recoversMs: number;
  /** Its weight once every kind has happened; 0: it happens once. */
  weight: number;
}>;

const quietMs = { first: 6_000, last: 8_000 };
const proxiesOutMax = 2;

const faultProfiles: Readonly<Record<FaultKind, FaultProfile>> = {
  "kill-proxy": { uses: "proxy", forMs: [100, 3_000], recoversMs: 4_000, weight: 3 },
  "pause-proxy": { uses: "proxy", forMs: [400, 8_000], recoversMs: 1_500, weight: 6 },
  "kill-leader": { uses: "brokers", forMs: [100, 3_000], recoversMs: 5_000, weight: 3 },
  "pause-leader": { uses: "brokers", forMs: [1_000, 8_000], recoversMs: 2_000, weight: 4 },
  "kill-standby": { uses: "brokers", forMs: [100, 2_000], recoversMs: 4_000, weight: 1 },
  "kill-brokers": { uses: "brokers", forMs: [100, 4_000], recoversMs: 6_000, weight: 1 },
  "kill-nats": { uses: "nats", forMs: [100, 4_000], recoversMs: 2_500, weight: 2 },
  "restart-nats": { uses: "nats", forMs: [0, 0], recoversMs: 3_500, weight: 1 },
  "pause-nats": { uses: "nats", forMs: [1_000, 8_000], recoversMs: 1_500, weight: 2 },
  "kill-all-nats": { uses: "all-nats", forMs: [500, 5_000], recoversMs: 4_000, weight: 1 },
  "pause-all-nats": { uses: "all-nats", forMs: [1_000, 6_000], recoversMs: 2_000, weight: 2 },
  "pause-postgres": { uses: "postgres", forMs: [1_000, 3_000], recoversMs: 1_500, weight: 2 },
  "stop-postgres": { uses: "postgres", forMs: [200, 2_500], recoversMs: 4_000, weight: 1 },
  "terminate-backends": { uses: "postgres", forMs: [0, 0], recoversMs: 1_000, weight: 2 },
  "empty-synchronous-names": { uses: "postgres", forMs: [1_000, 4_000], recoversMs: 4_000, weight: 2 },
  // The old primary does not return, so a run has one of these.
  "promote-lagging-standby": { uses: "postgres-and-brokers", forMs: [1_000, 3_000], recoversMs: 15_000, weight: 0 },
  "hostile-nats-client": { uses: "nothing", forMs: [2_000, 6_000], recoversMs: 0, weight: 2 },
  "delete-stream": { uses: "nothing", forMs: [0, 0], recoversMs: 0, weight: 1 },
  "cut-proxy": { uses: "proxy", forMs: [1_500, 9_000], recoversMs: 4_000, weight: 5 },
  "cut-proxy-from-brokers": { uses: "proxy", forMs: [1_500, 9_000], recoversMs: 4_000, weight: 2 },
  "cut-proxy-from-nats": { uses: "proxy", forMs: [1_500, 9_000], recoversMs: 3_000, weight: 1 },
  "deafen-proxy": { uses: "proxy", forMs: [1_500, 9_000], recoversMs: 4_000, weight: 2 },
  "slow-proxy": { uses: "proxy", forMs: [2_000, 8_000], recoversMs: 2_000, weight: 2 },
  "cut-proxy-and-kill-leader": { uses: "proxy-and-brokers", forMs: [5_000, 9_000], recoversMs: 5_000, weight: 2 },
  "cut-leader-from-postgres": { uses: "brokers", forMs: [1_000, 8_000], recoversMs: 4_000, weight: 3 },
  "rolling-restart": { uses: "all-proxies", forMs: [0, 0], recoversMs: 12_000, weight: 1 },
};

/** @returns faults in time order; a run of 120 s has at least 20 */
export function planFaults(options: PlanOptions): Plan {
  const random = randomFrom(options.seed);
  const endMs = options.seconds * 1_000 - quietMs.last;
  const count = Math.max(1, Math.round(options.seconds / 3.6));
  const stepMs = (endMs - quietMs.first) / count;
  const busy = new Map<string, number>();
  // Faults that need several parts at once come first, while all parts are free.
  const rank = (kind: FaultKind): number => (faultProfiles[kind].uses.includes("-and-") ? 0 : 1);
  const deck = random.shuffled(faultKinds).sort((a, b) => rank(a) - rank(b));
  const faults: PlannedFault[] = [];
  for (let index = 0; index < count && stepMs > 0; index++) {
    const atMs = Math.round(quietMs.first + (index + random.next()) * stepMs);
    const fault = nextFault({ index, atMs, deck, busy, random, endMs }, options);
    if (fault !== undefined) faults.push(fault);
  }
  return { seed: options.seed, seconds: options.seconds, faults };
}

type Moment = Readonly<{
  index: number;
  atMs: number;
  /** Kinds that have not happened yet. */
  deck: FaultKind[];
  /** Until when each part is affected. */
  busy: Map<string, number>;
  random: Random;
  endMs: number;
}>;

function nextFault(moment: Moment, options: PlanOptions): PlannedFault | undefined {
  const { deck, random } = moment;
  const waiting = deck.findIndex((kind) => targetOptionsFor(kind, moment, options).length > 0);
  const drawn = waiting >= 0 ? deck.splice(waiting, 1)[0] : undefined;
  const kind = drawn ?? weighted(random, (each) => targetOptionsFor(each, moment, options).length > 0);
  const option = kind === undefined ? undefined : random.pick(targetOptionsFor(kind, moment, options));
  if (kind === undefined || option === undefined) return undefined;
  const { forMs: range, recoversMs } = faultProfiles[kind];
  const forMs = random.between(...range);
  for (const part of option.parts) moment.busy.set(part, moment.atMs + forMs + recoversMs);
  return { index: moment.index, atMs: moment.atMs, kind, target: option.target, forMs };
}

function weighted(random: Random, possible: (kind: FaultKind) => boolean): FaultKind | undefined {
  const kinds = faultKinds
    .filter(possible)
    .flatMap((kind) => new Array<FaultKind>(faultProfiles[kind].weight).fill(kind));
  return kinds.length === 0 ? undefined : random.pick(kinds);
}

type TargetOption = Readonly<{ target: number | null; parts: readonly string[] }>;

/** The targets of a fault whose parts are all unaffected now. */
function targetOptionsFor(kind: FaultKind, { atMs, busy, endMs }: Moment, options: PlanOptions): TargetOption[] {
  const { forMs, recoversMs } = faultProfiles[kind];
  if (atMs + forMs[1] + recoversMs > endMs + quietMs.last) return [];
  const isFree = (part: string): boolean => (busy.get(part) ?? 0) <= atMs;
  const named = (name: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${name}:${i}`);
  const proxies = named("proxy", options.proxies);
  const servers = named("nats", options.natsServers);
  const whole = (parts: string[]): TargetOption[] => (parts.every(isFree) ? [{ target: null, parts }] : []);
  const one = (parts: string[]): TargetOption[] =>
    parts.flatMap((part, target) => (isFree(part) ? [{ target, parts: [part] }] : []));
  const proxiesLeft = (): TargetOption[] =>
    proxies.filter((part) => !isFree(part)).length < proxiesOutMax ? one(proxies) : [];
  switch (faultProfiles[kind].uses) {
    case "proxy":
      return proxiesLeft();
    case "proxy-and-brokers":
      return isFree("brokers")
        ? proxiesLeft().map(({ target, parts }) => ({ target, parts: [...parts, "brokers"] }))
        : [];
    case "all-proxies":
      return whole(proxies);
    case "nats":
      return one(servers);
    case "all-nats":
      return whole(servers);
    case "brokers":
      return whole(["brokers"]);
    case "postgres":
      return whole(["postgres"]);
    case "postgres-and-brokers":
      return whole(["postgres", "brokers"]);
    case "nothing":
      return [{ target: null, parts: [] }];
  }
}

/** One readable line: `12.4 s pause-proxy 2 for 3.1 s`. */
export function describeFault({ atMs, kind, target, forMs }: PlannedFault): string {
  const where = target === null ? "" : ` ${target + 1}`;
  return `${(atMs / 1_000).toFixed(1)} s ${kind}${where}${forMs > 0 ? ` for ${(forMs / 1_000).toFixed(1)} s` : ""}`;
}
