/**
 * Plan: which faults happen when, decided by a seed.
 *
 * Pure. Every kind of fault happens at least once if there is time, then some repeat, often overlapping. A broken part
 * is left alone until it should work again. At most two proxies are down at a time, except in a rolling restart. The
 * first and last seconds are quiet, for comparison. A plan can be saved and run again.
 */

import { isTopologyName, type Topology, type TopologyName, topologies } from "../cluster/topology.ts";
import { type Random, randomFrom } from "../random.ts";
import {
  type FaultKind,
  faultKinds,
  faultProfiles,
  isFaultKind,
  isProxyPart,
  type Part,
  targetsOf,
} from "./fault-kinds.ts";

export type PlannedFault = Readonly<{
  index: number;
  /** Time since the start of the run. */
  atMs: number;
  kind: FaultKind;
  /** The name of a process, of a NATS server or of a region. */
  target: string;
  /** How long it is down, paused or cut off. */
  forMs: number;
}>;

export type Plan = Readonly<{
  seed: number;
  seconds: number;
  topology: TopologyName;
  faults: readonly PlannedFault[];
}>;

export type PlanOptions = Readonly<{
  seed: number;
  seconds: number;
  topology: TopologyName;
  /** Only these kinds; absent: all of the topology. */
  only?: readonly FaultKind[] | undefined;
}>;

const quietMs = { first: 6_000, last: 8_000 };
const proxiesOutMax = 2;
/** With several regions, few parts stand in for each other, so faults begin less often. */
const msPerFault: Readonly<Record<Topology["name"], number>> = {
  "one-region": 3_600,
  "three-regions": 6_000,
  "movable-home": 6_000,
};

/** Faults beside the others: how often they begin, how often one is tried, and what their seed adds. */
const besideEveryMs = { usual: 20_000, alone: 9_000 };
const besideAttempts = 12;
const besideSeed = 1_000_003;

/** @returns faults in time order; 120 s have about 33 in one region and 20 in three */
export function planFaults({ seed, seconds, topology, only }: PlanOptions): Plan {
  const random = randomFrom(seed);
  const endMs = seconds * 1_000 - quietMs.last;
  const count = Math.max(1, Math.round((seconds * 1_000) / msPerFault[topology]));
  const stepMs = (endMs - quietMs.first) / count;
  const busy = new Map<Part, number>();
  const isWanted = (kind: FaultKind): boolean => isDrawn(kind, topology) && only?.includes(kind) !== false;
  const kinds = faultKinds.filter((kind) => isWanted(kind) && faultProfiles[kind].beside !== true);
  // Faults that need several parts at once come first, while all parts are free.
  const rank = (kind: FaultKind): number => -faultProfiles[kind].uses.length;
  const deck = random.shuffled(kinds).sort((a, b) => rank(a) - rank(b));
  const faults: PlannedFault[] = [];
  for (let index = 0; index < count && stepMs > 0; index++) {
    const atMs = Math.round(quietMs.first + (index + random.next()) * stepMs);
    const fault = nextFault({ index, atMs, deck, busy, random, endMs, kinds, topology: topologies[topology] });
    if (fault !== undefined) faults.push(fault);
  }
  const beside = faultKinds.filter((kind) => isWanted(kind) && faultProfiles[kind].beside === true);
  const everyMs = kinds.length === 0 ? besideEveryMs.alone : besideEveryMs.usual;
  const all = [...faults, ...drawBeside(beside, faults, { seed, endMs, everyMs, topology: topologies[topology] })];
  const inOrder = all.sort((a, b) => a.atMs - b.atMs).map((fault, index) => ({ ...fault, index }));
  return { seed, seconds, topology, faults: inOrder };
}

/** Such faults have times of their own, so the others are those that the seed always gave. */
function drawBeside(
  kinds: readonly FaultKind[],
  others: readonly PlannedFault[],
  { seed, endMs, everyMs, topology }: Readonly<{ seed: number; endMs: number; everyMs: number; topology: Topology }>,
): readonly PlannedFault[] {
  const random = randomFrom(seed + besideSeed);
  const drawn: PlannedFault[] = [];
  const deck = random.shuffled(kinds);
  const count = kinds.length === 0 ? 0 : Math.floor((endMs - quietMs.first) / everyMs);
  for (let slot = 0; slot < count; slot++) {
    for (let attempt = 0; attempt < besideAttempts; attempt++) {
      const atMs = Math.round(quietMs.first + (slot + random.next()) * everyMs);
      const kind = deck[attempt % Math.max(1, deck.length)] ?? random.pick(kinds);
      const { forMs: range, recoversMs } = faultProfiles[kind];
      const forMs = random.between(...range);
      const span = { from: atMs, until: atMs + forMs + recoversMs };
      const free = targetsOf(kind, topology).filter(({ parts }) =>
        isFree(parts, span, [...others, ...drawn], topology),
      );
      if (free.length === 0 || span.until > endMs + quietMs.last) continue;
      drawn.push({ index: 0, atMs, kind, target: random.pick(free).target, forMs });
      if (deck.includes(kind)) deck.splice(deck.indexOf(kind), 1);
      break;
    }
  }
  return drawn;
}

function isFree(
  parts: readonly Part[],
  span: Readonly<{ from: number; until: number }>,
  faults: readonly PlannedFault[],
  topology: Topology,
): boolean {
  return faults.every(({ kind, target, atMs, forMs }) => {
    if (atMs >= span.until || atMs + forMs + faultProfiles[kind].recoversMs <= span.from) return true;
    const option = targetsOf(kind, topology).find((each) => each.target === target);
    return option?.parts.every((part) => !parts.includes(part)) !== false;
  });
}

export function isDrawn(kind: FaultKind, topology: TopologyName): boolean {
  return faultProfiles[kind].in.includes(topology) && faultProfiles[kind].weight !== null;
}

type Moment = Readonly<{
  index: number;
  atMs: number;
  /** Kinds that have not happened yet. */
  deck: FaultKind[];
  kinds: readonly FaultKind[];
  /** Until when each part is affected. */
  busy: Map<Part, number>;
  random: Random;
  endMs: number;
  topology: Topology;
}>;

function nextFault(moment: Moment): PlannedFault | undefined {
  const { deck, random } = moment;
  const waiting = deck.findIndex((kind) => freeTargets(kind, moment).length > 0);
  const drawn = waiting >= 0 ? deck.splice(waiting, 1)[0] : undefined;
  const kind = drawn ?? weighted(moment);
  const option = kind === undefined ? undefined : random.pick(freeTargets(kind, moment));
  if (kind === undefined || option === undefined) return undefined;
  const { forMs: range, recoversMs } = faultProfiles[kind];
  const forMs = random.between(...range);
  for (const part of option.parts) moment.busy.set(part, moment.atMs + forMs + recoversMs);
  return { index: moment.index, atMs: moment.atMs, kind, target: option.target, forMs };
}

function weighted(moment: Moment): FaultKind | undefined {
  const kinds = moment.kinds
    .filter((kind) => freeTargets(kind, moment).length > 0)
    .flatMap((kind) => new Array<FaultKind>(faultProfiles[kind].weight ?? 0).fill(kind));
  return kinds.length === 0 ? undefined : moment.random.pick(kinds);
}

/** The targets of a fault whose parts are all unaffected now. */
function freeTargets(kind: FaultKind, { atMs, busy, endMs, topology }: Moment) {
  const { forMs, recoversMs, uses } = faultProfiles[kind];
  if (atMs + forMs[1] + recoversMs > endMs + quietMs.last) return [];
  const isBusy = (part: Part): boolean => (busy.get(part) ?? 0) > atMs;
  const proxiesOut = [...busy.keys()].filter((part) => isProxyPart(part) && isBusy(part)).length;
  return targetsOf(kind, topology).filter(({ parts }) => {
    const takesOneProxy = parts.some(isProxyPart) && !uses.includes("every-proxy");
    return !parts.some(isBusy) && !(takesOneProxy && proxiesOut >= proxiesOutMax);
  });
}

/** One readable line: `12.4 s pause-proxy proxy-eu-2 for 3.1 s`. */
export function describeFault({ atMs, kind, target, forMs }: Omit<PlannedFault, "index">): string {
  const duration = forMs > 0 ? ` for ${(forMs / 1_000).toFixed(1)} s` : "";
  return `${(atMs / 1_000).toFixed(1)} s ${kind} ${target}${duration}`;
}

/** Reads a saved plan. @throws SyntaxError naming the part that is wrong */
export function parsePlan(text: string): Plan {
  const plan: unknown = JSON.parse(text);
  if (!isRecord(plan)) throw new SyntaxError("a plan is an object");
  const { seed, seconds, topology, faults } = plan;
  if (typeof topology !== "string" || !isTopologyName(topology))
    throw new SyntaxError(`topology: ${Object.keys(topologies).join(", ")}`);
  if (!Array.isArray(faults)) throw new SyntaxError("faults: a list");
  return {
    seed: wholeNumber(seed, "seed"),
    seconds: wholeNumber(seconds, "seconds"),
    topology,
    faults: faults.map((fault: unknown, index) => parseFault(fault, { index, topology: topologies[topology] })),
  };
}

function parseFault(
  fault: unknown,
  { index, topology }: Readonly<{ index: number; topology: Topology }>,
): PlannedFault {
  if (!isRecord(fault)) throw new SyntaxError(`faults[${index}]: an object`);
  const { atMs, kind, target, forMs } = fault;
  if (typeof kind !== "string" || !isFaultKind(kind))
    throw new SyntaxError(`faults[${index}].kind: ${faultKinds.join(", ")}`);
  const targets = targetsOf(kind, topology).map((option) => option.target);
  if (typeof target !== "string" || !targets.includes(target))
    throw new SyntaxError(
      `faults[${index}].target: ${targets.length === 0 ? `${kind} has none here` : targets.join(", ")}`,
    );
  return {
    index,
    atMs: wholeNumber(atMs, `faults[${index}].atMs`),
    kind,
    target,
    forMs: wholeNumber(forMs, `faults[${index}].forMs`),
  };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wholeNumber(value: unknown, name: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw new SyntaxError(`${name}: a whole number`);
  return value;
}
