/**
 * Swarm: the options of a seed's world, for swarm testing. A seed disables whole classes of faults and draws
 * intensities and settings.
 *
 * Pure. A world with constant faults never reaches situations that need an hour of peace before one accident. So each
 * seed omits some faults and prints the rest.
 */
import type { MassChangeLimits } from "../../src/broker/commands/performed.ts";
import { plainRoute, type RoutePolicy } from "./facts.ts";
import { type Stream, streamOf } from "./random.ts";

/** Fault classes. A seed enables or disables a class as a whole; the plan draws from its kinds. */
export const faultClasses = {
  cuts: ["cut-pair", "cut-one-way", "isolate", "part-regions"],
  links: ["slow-link", "lossy-link", "reset-connections"],
  nodes: ["kill-node", "restart-node", "stop-node"],
  disks: ["old-disk", "lost-disk"],
  pauses: ["pause-node", "pause-broker", "pause-leader"],
  sleeps: ["suspend-node", "suspend-broker"],
  brokers: ["kill-broker", "kill-leader", "kill-brokers"],
  clocks: ["clock-rate", "clock-step"],
  standbys: ["kill-standby", "pause-standby", "cut-standby", "kill-standbys"],
  commits: ["cancel-wait", "lose-answer", "lose-statement", "late-answers", "slow-disk", "lock-row"],
  primary: ["crash-primary", "pause-primary", "hang-and-crash"],
  failover: ["failover", "failover-zombie", "failover-cut-node"],
  unproven: ["failover-unsafe", "asynchronous", "restore-backup", "empty-names"],
  regions: ["cut-region", "slow-region", "cut-and-kill-region", "kill-region", "stop-region", "pause-region"],
  regionDisks: ["suspend-region", "full-region-disk", "lost-region-disk", "region-power"],
  nats: ["kill-nats", "pause-nats", "kill-all-nats", "nats-suffix", "nats-stream"],
  operators: ["upgrade", "truncate", "snapshot", "configure"],
  regionLinks: ["cut-home", "cut-region-one-way", "cut-leaf", "cut-remote-regions", "heal-in-pieces"],
  regionBrokers: ["cut-regional-broker", "cut-regional-brokers", "kill-regional-brokers", "lose-regional-disks"],
  revocations: ["crash-while-revoking", "node-lacks-revocations"],
  absences: ["leave-node"],
} as const;

export type FaultClass = keyof typeof faultClasses;
export type FaultKind = (typeof faultClasses)[FaultClass][number];

export type RemoteRegion = Readonly<{ region: "west" | "south"; brokers: 1 | 2 }>;

export type SimOptions = Readonly<{
  seed: number;
  /** A new cluster: every process has the new build, and its first leader raises the log to that build's level. */
  startsNew: boolean;
  /** Enabled classes, in the order of the table. */
  classes: readonly FaultClass[];
  /** Mean time (ms) between two faults. */
  faultEveryMs: number;
  /** Mean duration (ms) of a fault. */
  faultForMs: number;
  /** Earliest and latest start of a fault, and the end of the run (ms since the start). */
  faultsFromMs: number;
  faultsUntilMs: number;
  endMs: number;
  lease: Readonly<{ deltaMs: number; drift: number; beatMs: number; takeoverMs: number; windowMaxMs: number }>;
  routes: readonly RoutePolicy[];
  /** Number of standbys that a commit waits for. */
  synchronous: 1 | 2;
  network: Readonly<{ loss: number; slowMs: number }>;
  /** Maximum error of a clock's rate, within ±ρ. */
  rateError: number;
  wallSkewMs: number;
  nats: Readonly<{
    drop: number;
    repeat: number;
    overtake: number;
    lateMsMax: number;
    kernelMessages: number;
    pendingMessagesMax: number;
    writeDeadlineMs: number;
  }>;
  load: Readonly<{
    users: number;
    /** Number of sessions that exist before the first fault. */
    sessions: number;
    commandEveryMs: number;
    requestEveryMs: number;
    streamEveryMs: number;
    /** Share of commands sent again despite an answer, and share of commands sent twice at once. */
    repeat: number;
    twice: number;
    sessionMsMin: number;
    sessionMsMax: number;
    /** Mean time (ms) between messages forged without a key. Null: none. */
    forgeEveryMs: number | null;
    /** Mean time (ms) between two reloads of a node's configuration, as routine work, not as a fault. Null: none. */
    reloadEveryMs: number | null;
  }>;
  /** Per node, the names of the event types unknown to its old build. */
  unknown: readonly (readonly string[])[];
  /** Regions whose nodes use only regional brokers. `south` exists only if this list contains it. */
  remotes: readonly RemoteRegion[];
  /**
   * A region with one node that also calls home brokers, before or after those of its region, against the rule for
   * regions that revoke by themselves. Null: none.
   */
  pastRegion: Readonly<{ region: RemoteRegion["region"]; homeFirst: boolean }> | null;
  /**
   * Number of recent events that brokers keep in memory for readers. Readers further behind get theirs from the log.
   */
  recentEventsMax: number;
  snapshots: Readonly<{ everyEvents: number }>;
  /** The news that arrives from outside. Only clusters that begin at the newest level get any. */
  outside: OutsideNews;
}>;

export type OutsideNews = Readonly<{
  /** Identity providers end sessions of their own, before, while and after people sign in with them. */
  logouts: boolean;
  /** A SCIM client provisions people and groups, through two authenticate nodes. */
  provisioning: boolean;
  /** The leader reads a directory. */
  directory: boolean;
  /** Shared Signals: the leader polls a transmitter, and pushes what the cluster revokes to a receiver. */
  signals: boolean;
  /** Low limits of mass changes, and operators who exceed, release and drop them. Null: the defaults, never reached. */
  massChanges: MassChangeLimits | null;
  /** People request access, and operators decide. */
  accessRequests: boolean;
}>;

/** Fault classes without effect if every node uses the home region. */
const ofRegions: readonly FaultClass[] = ["regions", "regionDisks", "regionLinks", "regionBrokers", "revocations"];
/** Fault classes drawn from a stream of their own, so that they move no other draw. */
const drawnApart: readonly FaultClass[] = ["regionLinks", "regionBrokers", "revocations", "absences"];

const chanceOf: Readonly<Record<FaultClass, number>> = {
  ...{ cuts: 0.65, links: 0.4, nodes: 0.5, disks: 0.35, pauses: 0.6, sleeps: 0.3, brokers: 0.55, clocks: 0.4 },
  ...{
    standbys: 0.5,
    commits: 0.5,
    primary: 0.45,
    failover: 0.5,
    unproven: 0.35,
    regions: 0.7,
    regionDisks: 0.4,
    nats: 0.5,
    operators: 0.5,
    regionLinks: 0.6,
    regionBrokers: 0.5,
    revocations: 0.6,
    absences: 0.2,
  },
};

/** Draws all options of a seed's world. Faults and actions are planned separately. */
export function optionsOf(seed: number): SimOptions {
  const random = streamOf(seed, "swarm");
  const names = Object.keys(faultClasses) as FaultClass[];
  const regions = streamOf(seed, "regions");
  const remotes = remotesOf(random, regions);
  const drawn = names.filter((name) => {
    const stream = drawnApart.includes(name) ? regions : random;
    return stream.chance(chanceOf[name]) && (remotes.length > 0 || !ofRegions.includes(name));
  });
  const classes = drawn.length > 1 ? drawn : (["cuts", "pauses", "failover"] as const);
  const one = <T>(list: readonly T[]): T => random.pick(list);
  const faultsFromMs = random.between(6_000, 12_000);
  const faultsUntilMs = faultsFromMs + random.between(48_000, 66_000);
  const deltaMs = one([2_000, 3_000, 5_000, 5_000]);
  const grace = one([0, 2_000, 5_000, 10_000]);
  const tricky = random.chance(0.5);
  const small = random.chance(0.4);
  const lossy = random.chance(0.3);
  const reloads = streamOf(seed, "reloads");
  return {
    seed,
    startsNew: startsNew(seed),
    classes,
    faultEveryMs: one([2_500, 4_000, 4_000, 6_000]),
    faultForMs: one([1_500, 3_000, 6_000]),
    ...{ faultsFromMs, faultsUntilMs, endMs: Math.max(121_000, faultsUntilMs + random.between(46_000, 50_000)) },
    lease: {
      ...{ deltaMs, drift: 0.01, beatMs: one([100, 200, 200]), takeoverMs: one([2_000, 3_000]) },
      windowMaxMs: deltaMs + grace,
    },
    routes: routesOf(grace, faultsFromMs + random.between(5_000, 60_000)),
    synchronous: random.chance(0.8) ? 1 : 2,
    network: { loss: lossy ? random.within(0, 0.03) : 0, slowMs: random.chance(0.3) ? random.within(1, 30) : 0 },
    // The errors of two clocks add up to less than the 0.5 % that a leader tolerates: more is a fault.
    rateError: random.chance(0.5) ? random.within(0, 0.002) : 0,
    wallSkewMs: one([20, 100, 500]),
    nats: {
      drop: tricky ? random.within(0, 0.3) : 0,
      repeat: tricky ? random.within(0, 0.2) : 0,
      overtake: tricky ? random.within(0, 0.2) : 0,
      lateMsMax: tricky ? random.within(50, 3_000) : 0,
      ...(small
        ? { kernelMessages: 4, pendingMessagesMax: 8, writeDeadlineMs: 2_000 }
        : { kernelMessages: 64, pendingMessagesMax: 256, writeDeadlineMs: 10_000 }),
    },
    load: {
      users: random.between(4, 12),
      sessions: random.between(12, 30),
      commandEveryMs: random.between(280, 420),
      requestEveryMs: random.between(60, 120),
      streamEveryMs: random.between(500, 1_500),
      repeat: one([0, 0.1, 0.3]),
      twice: one([0, 0.1, 0.2]),
      sessionMsMin: one([20_000, 60_000]),
      sessionMsMax: one([120_000, 600_000]),
      forgeEveryMs: random.chance(0.4) ? random.between(400, 1_500) : null,
      reloadEveryMs: reloads.chance(0.5) ? reloads.between(8_000, 30_000) : null,
    },
    unknown: unknownOf(random),
    remotes,
    pastRegion: pastRegionOf(seed, remotes),
    recentEventsMax: one([16, 4_096, 4_096]),
    snapshots: { everyEvents: one([30, 60, 120]) },
    outside: outsideOf(seed),
  };
}

const startsNew = (seed: number): boolean => seed % 5 === 2 || seed % 5 === 4;

function outsideOf(seed: number): OutsideNews {
  const random = streamOf(seed, "outside");
  const isOn = (): boolean => random.chance(0.5) && startsNew(seed);
  const [logouts, provisioning, isGuarded] = [isOn(), isOn(), isOn()];
  const limits = { peopleMax: 2, shareMax: 1, peopleMin: 2, windowMs: 8_000, heldMs: random.between(8_000, 60_000) };
  const directory = isOn();
  const signals = isOn();
  const accessRequests = isOn();
  return { logouts, provisioning, directory, signals, massChanges: isGuarded ? limits : null, accessRequests };
}

/** One route for each kind of fact: session and person, an allowed group, a barred group (both ways), a claim, time. */
function routesOf(grace: number, closesAtMs: number): readonly RoutePolicy[] {
  const serving = grace > 0 ? ({ onStale: "serve", staleGraceMs: grace } as const) : {};
  return [
    { ...plainRoute, ...serving, route: "wiki" },
    { ...plainRoute, route: "vault" },
    { ...plainRoute, ...serving, route: "board", group: "board" },
    { ...plainRoute, route: "payroll", group: "payroll" },
    { ...plainRoute, ...serving, route: "cellar", excludedGroup: "banned" },
    { ...plainRoute, route: "ledger", group: "payroll", excludedGroup: "banned" },
    { ...plainRoute, ...serving, route: "lab", roundsBelow: 4 },
    { ...plainRoute, ...serving, route: "shift", closesAtMs },
  ];
}

function remotesOf(random: Stream, regions: Stream): SimOptions["remotes"] {
  const brokers = (): 1 | 2 => (regions.chance(0.5) ? 2 : 1);
  const west = { region: "west", brokers: brokers() } as const;
  const south = { region: "south", brokers: brokers() } as const;
  if (!random.chance(0.4)) return [];
  return random.chance(0.5) ? [west, south] : [west];
}

function pastRegionOf(seed: number, remotes: SimOptions["remotes"]): SimOptions["pastRegion"] {
  const random = streamOf(seed, "past region");
  if (remotes.length === 0 || !random.chance(0.25)) return null;
  return { region: random.pick(remotes).region, homeFirst: random.chance(0.5) };
}

/**
 * In some seeds one node's old build does not know some event type: a final event, which it obeys, or one that ends its
 * freshness.
 */
function unknownOf(random: Stream): readonly (readonly string[])[] {
  const strange: readonly string[] = random.chance(0.3)
    ? [random.pick(["UserSuspended", "UserSessionsRevoked", "SessionRevoked", "GroupRemoved", "UserRestored"])]
    : [];
  const which = random.between(1, 4);
  return [1, 2, 3, 4].map((number) => (number === which ? strange : []));
}

/** The options of the seed as a few readable lines. */
export function formatOptions(options: SimOptions): string {
  const { classes, routes, lease, nats, load, network } = options;
  const off = (Object.keys(faultClasses) as FaultClass[]).filter((name) => !classes.includes(name));
  const flat = (value: object): string =>
    Object.entries(value)
      .map(([key, each]) => `${key} ${typeof each === "number" ? Number(each.toFixed(4)) : each}`)
      .join(", ");
  return [
    `seed ${options.seed}: ${(options.endMs / 1_000).toFixed(0)} s, faults from ${options.faultsFromMs} to ${options.faultsUntilMs} ms,`,
    `  one in ${options.faultEveryMs} ms, for ${options.faultForMs} ms or so`,
    `  breaks: ${classes.join(", ")}; leaves alone: ${off.join(", ") || "nothing"}`,
    `  leases: ${flat(lease)}; commits wait for ${options.synchronous}; clocks off by ${options.rateError.toFixed(4)}, ${options.wallSkewMs} ms`,
    `  routes: ${routes.map(formatRoute).join("; ")}`,
    `  network: ${flat(network)}; NATS: ${flat(nats)}`,
    `  load: ${flat(load)}; brokers keep ${options.recentEventsMax} events for readers, and take a snapshot after ${options.snapshots.everyEvents}`,
    `  remote regions: ${options.remotes.map(({ region, brokers }) => `${region} (${brokers})`).join(", ") || "none"}${formatPastRegion(options)}`,
    `  from outside: ${formatOutside(options.outside)}`,
    ...options.unknown.flatMap((types, index) =>
      types.length === 0 ? [] : [`  node-${index + 1} does not know ${types.join(", ")} before it is upgraded`],
    ),
  ].join("\n");
}

function formatOutside(outside: OutsideNews): string {
  const names = Object.entries(outside).flatMap(([name, is]) => (is === false || is === null ? [] : [name]));
  return names.join(", ") || "nothing";
}

function formatPastRegion({ pastRegion }: SimOptions): string {
  if (pastRegion === null) return "";
  const { region, homeFirst } = pastRegion;
  return `; a node of ${region} also calls home brokers, ${homeFirst ? "first" : "last"}`;
}

function formatRoute({
  route,
  onStale,
  staleGraceMs,
  group,
  excludedGroup,
  roundsBelow,
  closesAtMs,
}: RoutePolicy): string {
  const rules = [
    group ?? "everybody",
    ...(excludedGroup === null ? [] : [`but ${excludedGroup}`]),
    ...(roundsBelow === null ? [] : [`with a round below ${roundsBelow}`]),
    ...(closesAtMs === null ? [] : [`until ${closesAtMs} ms`]),
  ];
  return `${route} (${onStale} ${staleGraceMs}, ${rules.join(" ")})`;
}
