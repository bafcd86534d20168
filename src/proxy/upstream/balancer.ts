/**
 * Balancer: which upstream of a route takes the next request.
 *
 * - Pure; the random source is an argument. Members are numbers, 0 to n - 1. Members that are not eligible are
 *   skipped.
 * - With the hashing policies a key then goes to the next point of the ring or table, and returns when its own
 *   upstream does. All other keys stay where they are.
 * - Hashes are SHA-256, so every node sends a key to the same upstream.
 */
import { hash } from "node:crypto";
import type { BalancingConfig } from "../../config/index.ts";

export type BalancedMember = Readonly<{
  /** Its key for hashing. */
  name: string;
  weight: number;
  /** Requests in progress. */
  busy: () => number;
}>;

/** @param key 48 bits; only hashing policies use it. @returns undefined: no member is eligible */
export type PickMember = (eligible: readonly boolean[], key: number) => number | undefined;

export function compileBalancer(
  config: BalancingConfig,
  members: readonly BalancedMember[],
  random: () => number,
): PickMember {
  switch (config.policy) {
    case "least_request":
      return leastRequest(config, members, random);
    case "random":
      return weightedRandom(members, random);
    case "ring_hash":
      return ringHash(config, members);
    case "maglev":
      return maglev(config.tableSize, members);
    default:
      return weightedRoundRobin(members, ({ weight }) => weight);
  }
}

/** 48 bits of SHA-256; a number holds them exactly. */
export function balancingKeyOf(text: string): number {
  return Number.parseInt(hash("sha256", text, "hex").slice(0, 12), 16);
}

/** What Pomerium calls `x-pomerium-routing-key`. */
export function routingKeyOf(sessionId: string): string {
  return hash("sha256", sessionId, "hex");
}

/**
 * Smooth weighted round robin: every member gains its weight; the one with most credit is picked and pays the sum of
 * all.
 */
function weightedRoundRobin(members: readonly BalancedMember[], weigh: (member: BalancedMember) => number): PickMember {
  const credits = members.map(() => 0);
  return (eligible) => {
    let richest: number | undefined;
    let total = 0;
    members.forEach((member, i) => {
      if (eligible[i] !== true) return;
      const weight = weigh(member);
      total += weight;
      credits[i] = (credits[i] ?? 0) + weight;
      if (richest === undefined || (credits[i] ?? 0) > (credits[richest] ?? 0)) richest = i;
    });
    if (richest !== undefined) credits[richest] = (credits[richest] ?? 0) - total;
    return richest;
  };
}

/**
 * As Envoy: the least busy of a few random members, or round robin by weights that shrink with requests in progress.
 */
function leastRequest(config: BalancingConfig, members: readonly BalancedMember[], random: () => number): PickMember {
  const { choiceCount, activeRequestBias } = config;
  const [first] = members;
  if (members.some(({ weight }) => weight !== first?.weight))
    return weightedRoundRobin(members, ({ weight, busy }) => weight / (busy() + 1) ** activeRequestBias);
  return (eligible) => {
    const candidates = members.flatMap((member, i) => (eligible[i] === true ? [{ i, member }] : []));
    let best: Readonly<{ i: number; busy: number }> | undefined;
    for (let choice = 0; choice < choiceCount; choice++) {
      const drawn = candidates[Math.floor(random() * candidates.length)];
      if (drawn === undefined) return undefined;
      const busy = drawn.member.busy();
      if (best === undefined || busy < best.busy) best = { i: drawn.i, busy };
    }
    return best?.i;
  };
}

function weightedRandom(members: readonly BalancedMember[], random: () => number): PickMember {
  return (eligible) => {
    const total = members.reduce((sum, { weight }, i) => sum + (eligible[i] === true ? weight : 0), 0);
    let left = random() * total;
    let last: number | undefined;
    for (const [i, { weight }] of members.entries()) {
      if (eligible[i] !== true) continue;
      last = i;
      left -= weight;
      if (left < 0) return i;
    }
    return last;
  };
}

/** The first eligible owner from a position of a table on. */
function firstEligible(table: Uint16Array, from: number, eligible: readonly boolean[]): number | undefined {
  for (let step = 0; step < table.length; step++) {
    const owner = table[(from + step) % table.length];
    if (owner !== undefined && eligible[owner] === true) return owner;
  }
  return undefined;
}

/** Points of all members on a ring, by weight; a key belongs to the next point. */
function ringHash({ ringSizeMin, ringSizeMax }: BalancingConfig, members: readonly BalancedMember[]): PickMember {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const least = Math.min(...members.map(({ weight }) => weight)) / total;
  const size = Math.min(Math.ceil(least * ringSizeMin) / least, ringSizeMax);
  const points = members.flatMap(({ name, weight }, owner) => {
    const count = Math.max(1, Math.round((size * weight) / total));
    return pointsOf(name, count).map((at) => ({ at, owner }));
  });
  points.sort((a, b) => a.at - b.at || a.owner - b.owner);
  const places = Float64Array.from(points, ({ at }) => at);
  const owners = Uint16Array.from(points, ({ owner }) => owner);
  return (eligible, key) => {
    let [low, high] = [0, places.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((places[middle] ?? 0) < key) low = middle + 1;
      else high = middle;
    }
    return firstEligible(owners, low, eligible);
  };
}

/** Five points of 48 bits from each digest. */
function pointsOf(name: string, count: number): readonly number[] {
  const points: number[] = [];
  for (let block = 0; points.length < count; block++) {
    const digest = hash("sha256", `${name}_${block}`, "buffer");
    for (let at = 0; at < 30 && points.length < count; at += 6) points.push(digest.readUIntBE(at, 6));
  }
  return points;
}

/**
 * Maglev's table: members take turns, by weight, to claim the next free slot in their own permutation of it.
 * @see Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", §3.4
 */
function maglev(size: number, members: readonly BalancedMember[]): PickMember {
  const table = new Uint16Array(size);
  const taken = new Uint8Array(size);
  const heaviest = Math.max(...members.map(({ weight }) => weight));
  const lines = members.map(({ name, weight }) => {
    const digest = hash("sha256", name, "buffer");
    const skip = size > 2 ? (digest.readUIntBE(6, 6) % (size - 1)) + 1 : 1;
    return { place: digest.readUIntBE(0, 6) % size, skip, share: weight / heaviest, due: 0 };
  });
  for (let filled = 0; filled < size; ) {
    for (const [owner, line] of lines.entries()) {
      line.due += line.share;
      if (line.due < 1 || filled === size) continue;
      line.due -= 1;
      while (taken[line.place] === 1) line.place = (line.place + line.skip) % size;
      taken[line.place] = 1;
      table[line.place] = owner;
      filled++;
    }
  }
  return (eligible, key) => firstEligible(table, key % size, eligible);
}
