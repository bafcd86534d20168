/**
 * Random streams of a simulation: one generator per authority (net, pg, nats, clock, process, workload, faults, ids).
 *
 * - An extra draw from one stream does not change the draws from the others.
 * - Pure: the same seed and name give the same numbers on every machine.
 */
import type { Random } from "../random.ts";

export type Stream = Random &
  Readonly<{
    /** True with probability `p`. */
    chance(p: number): boolean;
    /** A number from `low` (inclusive) to `high` (exclusive). */
    within(low: number, high: number): number;
    /** An exponentially distributed waiting time with mean `mean`, at most ten times `mean`. */
    exponential(mean: number): number;
    /** A 32-bit integer. */
    bits(): number;
    bytes(count: number): Uint8Array;
    uuid(): string;
  }>;

/** @param name the name of the authority; any text */
export function streamOf(seed: number | string, name: string): Stream {
  const bits = sfc32(...fourSeeds(`${seed}/${name}`));
  const next = (): number => bits() / 2 ** 32;
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  const bytes = (count: number): Uint8Array => {
    const made = new Uint8Array(count);
    for (let i = 0; i < count; i += 4) {
      const word = bits();
      for (let b = 0; b < 4 && i + b < count; b += 1) made[i + b] = word >>> (8 * b);
    }
    return made;
  };
  return {
    next,
    bits,
    between,
    bytes,
    within: (low, high) => low + next() * (high - low),
    chance: (p) => next() < p,
    exponential: (mean) => Math.min(10, -Math.log(1 - next())) * mean,
    pick(from) {
      const picked = from[between(0, from.length - 1)];
      if (picked === undefined) throw new RangeError("nothing to pick from");
      return picked;
    },
    shuffled(list) {
      const rest = [...list];
      for (let i = rest.length - 1; i > 0; i -= 1) {
        const j = between(0, i);
        [rest[i], rest[j]] = [rest[j] as (typeof rest)[number], rest[i] as (typeof rest)[number]];
      }
      return rest;
    },
    uuid() {
      const made = bytes(16);
      made[6] = ((made[6] ?? 0) & 0x0f) | 0x40;
      made[8] = ((made[8] ?? 0) & 0x3f) | 0x80;
      const hex = Buffer.from(made.buffer).toString("hex");
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
    },
  };
}

/** SFC32 from Chris Doty-Humphrey's PractRand: small, fast, and it passes the PractRand tests. */
function sfc32(first: number, second: number, third: number, fourth: number): () => number {
  let a = first | 0;
  let b = second | 0;
  let c = third | 0;
  let counter = fourth | 0;
  const bits = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 12; i += 1) bits();
  return bits;
}

function fourSeeds(text: string): [number, number, number, number] {
  return [mixed(text, 0x9e3779b9), mixed(text, 0x85ebca6b), mixed(text, 0xc2b2ae35), mixed(text, 0x27d4eb2f)];
}

/** Hashes a text to 32 bits (FNV-1a, then the finalizer of MurmurHash3). */
export function mixed(text: string, start = 0x811c9dc5): number {
  let h = start | 0;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
