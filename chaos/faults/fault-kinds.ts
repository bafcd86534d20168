/** Fault kinds: what can be broken, for how long, and what it affects. Pure: injections.ts does it. */
import {
  brokersOf,
  homeOf,
  proxiesOf,
  type RegionPlan,
  remotesOf,
  type Topology,
  type TopologyName,
} from "../cluster/topology.ts";

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
  "trickle-proxy",
  "half-open-proxy",
  "cut-proxy-and-kill-leader",
  "cut-leader-from-postgres",
  "cut-region",
  "mute-region",
  "deafen-region",
  "slow-region",
  "trickle-region",
  "half-open-region",
  "flap-region",
  "cut-region-from-brokers",
  "cut-leaf",
  "cut-region-standby",
  "cut-region-and-kill-leader",
  "cut-region-and-restart-broker",
  "cut-home",
  "kill-region",
  "pause-region",
  "kill-regional-broker",
  "pause-regional-broker",
  "kill-regional-brokers",
  "delete-mirror",
  "lose-home",
  "move-home",
  "fill-disk",
  "kill-on-full-disk",
  "slow-disk",
  "kill-on-slow-disk",
  "block-audit-file",
] as const;
export type FaultKind = (typeof faultKinds)[number];
export const isFaultKind = (text: string): text is FaultKind => faultKinds.some((kind) => kind === text);

export type FaultProfile = Readonly<{
  /**
   * The kind of target. `home`: the home region as a whole, so there is nothing to choose. `home-proxy`: a proxy of the
   * home region, which has links that can be broken. `region`: a region other than the home region.
   * `disk`: the disk of a proxy's audit spool; nothing else may end that proxy meanwhile. `audit-file`: the file of a
   * proxy's audit records.
   */
  target: "proxy" | "disk" | "audit-file" | "home-proxy" | "nats" | "region" | "regional-broker" | "home";
  /** Further parts that must be unaffected, and are affected until it has recovered. */
  uses: readonly ("brokers" | "postgres" | "every-nats" | "every-proxy" | "every-region")[];
  /** The topologies in which it is drawn. */
  in: readonly TopologyName[];
  forMs: readonly [number, number];
  /** How long its parts stay affected after it. */
  recoversMs: number;
  /** Its weight once every kind has happened; 0: it happens once; null: only scenarios make it. */
  weight: number | null;
  /** Drawn beside the others, at times of its own: such faults leave the cluster serving. */
  beside?: true;
}>;

const anywhere = ["one-region", "three-regions", "movable-home"] as const;
const alone = ["one-region"] as const;
const regional = ["three-regions", "movable-home"] as const;

export const faultProfiles: Readonly<Record<FaultKind, FaultProfile>> = {
  "kill-proxy": { target: "proxy", uses: [], in: anywhere, forMs: [100, 3_000], recoversMs: 4_000, weight: 3 },
  "pause-proxy": { target: "proxy", uses: [], in: anywhere, forMs: [400, 8_000], recoversMs: 1_500, weight: 6 },
  "cut-proxy": { target: "home-proxy", uses: [], in: anywhere, forMs: [1_500, 9_000], recoversMs: 4_000, weight: 5 },
  "cut-proxy-from-brokers": {
    target: "home-proxy",
    uses: [],
    in: anywhere,
    forMs: [1_500, 9_000],
    recoversMs: 4_000,
    weight: 2,
  },
  "cut-proxy-from-nats": {
    target: "home-proxy",
    uses: [],
    in: anywhere,
    forMs: [1_500, 9_000],
    recoversMs: 3_000,
    weight: 1,
  },
  "deafen-proxy": { target: "home-proxy", uses: [], in: anywhere, forMs: [1_500, 9_000], recoversMs: 4_000, weight: 2 },
  "slow-proxy": { target: "home-proxy", uses: [], in: anywhere, forMs: [2_000, 8_000], recoversMs: 2_000, weight: 2 },
  "trickle-proxy": {
    target: "home-proxy",
    uses: [],
    in: anywhere,
    forMs: [2_000, 8_000],
    recoversMs: 5_000,
    weight: 1,
  },
  "half-open-proxy": {
    target: "home-proxy",
    uses: [],
    in: anywhere,
    forMs: [1_000, 4_000],
    recoversMs: 5_000,
    weight: 1,
  },
  "rolling-restart": {
    target: "home",
    uses: ["every-proxy", "every-region"],
    in: anywhere,
    forMs: [0, 0],
    recoversMs: 14_000,
    weight: 1,
  },
  "kill-leader": { target: "home", uses: ["brokers"], in: anywhere, forMs: [100, 3_000], recoversMs: 5_000, weight: 3 },
  "pause-leader": {
    target: "home",
    uses: ["brokers"],
    in: anywhere,
    forMs: [1_000, 8_000],
    recoversMs: 2_000,
    weight: 4,
  },
  "kill-standby": {
    target: "home",
    uses: ["brokers"],
    in: anywhere,
    forMs: [100, 2_000],
    recoversMs: 4_000,
    weight: 1,
  },
  "kill-brokers": {
    target: "home",
    uses: ["brokers"],
    in: anywhere,
    forMs: [100, 4_000],
    recoversMs: 6_000,
    weight: 1,
  },
  "cut-leader-from-postgres": {
    target: "home",
    uses: ["brokers"],
    in: anywhere,
    forMs: [1_000, 8_000],
    recoversMs: 4_000,
    weight: 3,
  },
  "cut-proxy-and-kill-leader": {
    target: "home-proxy",
    uses: ["brokers"],
    in: anywhere,
    forMs: [5_000, 9_000],
    recoversMs: 5_000,
    weight: 2,
  },
  "kill-nats": { target: "nats", uses: [], in: anywhere, forMs: [100, 4_000], recoversMs: 2_500, weight: 2 },
  "restart-nats": { target: "nats", uses: [], in: anywhere, forMs: [0, 0], recoversMs: 3_500, weight: 1 },
  "pause-nats": { target: "nats", uses: [], in: anywhere, forMs: [1_000, 8_000], recoversMs: 1_500, weight: 2 },
  "kill-all-nats": {
    target: "home",
    uses: ["every-nats"],
    in: anywhere,
    forMs: [500, 5_000],
    recoversMs: 4_000,
    weight: 1,
  },
  "pause-all-nats": {
    target: "home",
    uses: ["every-nats"],
    in: anywhere,
    forMs: [1_000, 6_000],
    recoversMs: 2_000,
    weight: 2,
  },
  "delete-stream": { target: "home", uses: [], in: anywhere, forMs: [0, 0], recoversMs: 0, weight: 1 },
  "hostile-nats-client": { target: "home", uses: [], in: anywhere, forMs: [2_000, 6_000], recoversMs: 0, weight: 2 },
  "pause-postgres": {
    target: "home",
    uses: ["postgres"],
    in: anywhere,
    forMs: [1_000, 3_000],
    recoversMs: 1_500,
    weight: 2,
  },
  "stop-postgres": {
    target: "home",
    uses: ["postgres"],
    in: anywhere,
    forMs: [200, 2_500],
    recoversMs: 4_000,
    weight: 1,
  },
  "terminate-backends": {
    target: "home",
    uses: ["postgres"],
    in: anywhere,
    forMs: [0, 0],
    recoversMs: 1_000,
    weight: 2,
  },
  // Its end waits for every standby to stream again.
  "empty-synchronous-names": {
    target: "home",
    uses: ["postgres", "every-region"],
    in: anywhere,
    forMs: [1_000, 4_000],
    recoversMs: 4_000,
    weight: 2,
  },
  // The old primary does not return, so a run has one of these.
  "promote-lagging-standby": {
    target: "home",
    uses: ["postgres", "brokers"],
    in: alone,
    forMs: [1_000, 3_000],
    recoversMs: 15_000,
    weight: 0,
  },
  "cut-region": { target: "region", uses: [], in: regional, forMs: [2_000, 14_000], recoversMs: 6_000, weight: 6 },
  "mute-region": { target: "region", uses: [], in: regional, forMs: [2_000, 12_000], recoversMs: 6_000, weight: 3 },
  "deafen-region": { target: "region", uses: [], in: regional, forMs: [2_000, 12_000], recoversMs: 6_000, weight: 3 },
  "slow-region": { target: "region", uses: [], in: regional, forMs: [3_000, 10_000], recoversMs: 4_000, weight: 3 },
  "trickle-region": { target: "region", uses: [], in: regional, forMs: [2_000, 8_000], recoversMs: 8_000, weight: 2 },
  "half-open-region": { target: "region", uses: [], in: regional, forMs: [1_000, 4_000], recoversMs: 8_000, weight: 2 },
  "flap-region": { target: "region", uses: [], in: regional, forMs: [4_000, 10_000], recoversMs: 6_000, weight: 2 },
  "cut-region-from-brokers": {
    target: "region",
    uses: [],
    in: regional,
    forMs: [2_000, 12_000],
    recoversMs: 6_000,
    weight: 3,
  },
  "cut-leaf": { target: "region", uses: [], in: regional, forMs: [2_000, 12_000], recoversMs: 4_000, weight: 3 },
  "cut-region-standby": {
    target: "region",
    uses: ["postgres"],
    in: regional,
    forMs: [2_000, 8_000],
    recoversMs: 3_000,
    weight: 1,
  },
  "cut-region-and-kill-leader": {
    target: "region",
    uses: ["brokers"],
    in: regional,
    forMs: [4_000, 10_000],
    recoversMs: 8_000,
    weight: 3,
  },
  "cut-region-and-restart-broker": {
    target: "region",
    uses: [],
    in: regional,
    forMs: [4_000, 10_000],
    recoversMs: 8_000,
    weight: 3,
  },
  "cut-home": {
    target: "home",
    uses: ["every-region"],
    in: regional,
    forMs: [2_000, 12_000],
    recoversMs: 8_000,
    weight: 3,
  },
  "kill-region": { target: "region", uses: [], in: regional, forMs: [500, 6_000], recoversMs: 12_000, weight: 2 },
  "pause-region": { target: "region", uses: [], in: regional, forMs: [1_000, 8_000], recoversMs: 6_000, weight: 2 },
  "kill-regional-broker": {
    target: "regional-broker",
    uses: [],
    in: regional,
    forMs: [200, 4_000],
    recoversMs: 6_000,
    weight: 3,
  },
  "pause-regional-broker": {
    target: "regional-broker",
    uses: [],
    in: regional,
    forMs: [1_000, 8_000],
    recoversMs: 5_000,
    weight: 3,
  },
  "kill-regional-brokers": {
    target: "region",
    uses: [],
    in: regional,
    forMs: [500, 5_000],
    recoversMs: 8_000,
    weight: 2,
  },
  // Everything in the home region, its Postgres servers too.
  "lose-home": {
    target: "home",
    uses: ["brokers", "every-region", "every-proxy"],
    in: ["movable-home"],
    forMs: [0, 0],
    recoversMs: 60_000,
    weight: null,
  },
  // There and back again. Other faults of the home region wait for both moves, and for the old primaries.
  "move-home": {
    target: "region",
    uses: ["brokers", "postgres"],
    in: ["movable-home"],
    forMs: [3_000, 12_000],
    recoversMs: 45_000,
    weight: 2,
  },
  // Numbers are reserved on disk for a few seconds ahead, so a disk is full for less than that.
  "fill-disk": {
    target: "disk",
    uses: [],
    in: anywhere,
    forMs: [400, 4_000],
    recoversMs: 3_000,
    weight: 2,
    beside: true,
  },
  "kill-on-full-disk": {
    target: "disk",
    uses: [],
    in: anywhere,
    forMs: [100, 2_000],
    recoversMs: 6_000,
    weight: 3,
    beside: true,
  },
  "slow-disk": {
    target: "disk",
    uses: [],
    in: anywhere,
    forMs: [1_000, 5_000],
    recoversMs: 3_000,
    weight: 2,
    beside: true,
  },
  "kill-on-slow-disk": {
    target: "disk",
    uses: [],
    in: anywhere,
    forMs: [100, 2_000],
    recoversMs: 6_000,
    weight: 3,
    beside: true,
  },
  "block-audit-file": {
    target: "audit-file",
    uses: [],
    in: anywhere,
    forMs: [1_000, 10_000],
    recoversMs: 6_000,
    weight: 3,
    beside: true,
  },
  "delete-mirror": { target: "region", uses: [], in: regional, forMs: [0, 0], recoversMs: 2_000, weight: 1 },
};

/** The parts of a cluster that faults affect. A part is left alone until it should work again. */
export type Part = string;
const partOf = { proxy: (name: string): Part => `proxy ${name}`, nats: (name: string): Part => `nats ${name}` };
const regionPart = (name: string): Part => `region ${name}`;

export type TargetOption = Readonly<{ target: string; parts: readonly Part[] }>;

/** Every target of a fault, with all the parts that it affects. */
export function targetsOf(kind: FaultKind, topology: Topology): readonly TargetOption[] {
  const { target, uses } = faultProfiles[kind];
  // Beside other regions, the home region has one fault of its core at a time, so that the others are served between.
  const isAlone = topology.regions.length === 1;
  const also = uses.flatMap((each): readonly Part[] => {
    if (each === "every-nats") return natsIn(homeOf(topology)).map(partOf.nats);
    if (each === "every-proxy") return topology.regions.flatMap(proxiesOf).map(partOf.proxy);
    if (each === "every-region") return remotesOf(topology).map(({ name }) => regionPart(name));
    return isAlone ? [each] : ["brokers", "postgres"];
  });
  const options = (all: readonly TargetOption[]): readonly TargetOption[] =>
    all.map((option) => ({ target: option.target, parts: [...new Set([...option.parts, ...also])] }));
  switch (target) {
    case "home":
      return options([{ target: homeOf(topology).name, parts: [] }]);
    case "proxy":
    case "home-proxy": {
      const regions = target === "proxy" ? topology.regions : [homeOf(topology)];
      return options(regions.flatMap(proxiesOf).map((name) => ({ target: name, parts: [partOf.proxy(name)] })));
    }
    case "disk":
      return options(
        topology.regions.flatMap((region) =>
          proxiesOf(region).map((name) => ({
            target: name,
            parts: [partOf.proxy(name), ...(region.kind === "home" ? [] : [regionPart(region.name)])],
          })),
        ),
      );
    case "audit-file":
      return options(
        topology.regions.flatMap(proxiesOf).map((name) => ({ target: name, parts: [`audit file of ${name}`] })),
      );
    case "nats":
      return options(topology.regions.flatMap(natsIn).map((name) => ({ target: name, parts: [partOf.nats(name)] })));
    case "region":
      return options(remotesOf(topology).map(({ name }) => ({ target: name, parts: [regionPart(name)] })));
    case "regional-broker":
      return options(
        remotesOf(topology).flatMap((region) =>
          brokersOf(region).map((name) => ({ target: name, parts: [regionPart(region.name)] })),
        ),
      );
  }
}

export function natsIn({ name, natsServers }: RegionPlan): readonly string[] {
  return Array.from({ length: natsServers }, (_, i) => `nats-${name}-${i + 1}`);
}

export const isProxyPart = (part: Part): boolean => part.startsWith("proxy ");
