/**
 * Downsampling: bounds what a chart draws, whatever the length of the run.
 *
 * - A run is divided into at most `bucketsMax` buckets of whole seconds.
 * - Bad news is never averaged away: a bucket has the worst lag, staleness and latency, and the errors of its worst
 *   second. Only the rate of answered requests is a mean.
 * - A bucket without an observation is a gap, not 0.
 *
 * Pure.
 */
import type { NodeSample, NodeSeries, RunFault, TrafficSecond } from "../run-record.ts";

export const bucketsMax = 240;

export type Buckets = Readonly<{ count: number; lengthMs: number }>;

export function bucketsOf(durationMs: number): Buckets {
  const seconds = Math.max(1, Math.ceil(durationMs / 1_000));
  const lengthMs = Math.ceil(seconds / bucketsMax) * 1_000;
  return { count: Math.ceil((seconds * 1_000) / lengthMs), lengthMs };
}

/** @returns undefined: outside the run */
function bucketAt({ count, lengthMs }: Buckets, atMs: number): number | undefined {
  const index = Math.floor(atMs / lengthMs);
  return index >= 0 && index < count ? index : undefined;
}

export type TrafficBucket = Readonly<{
  /** Means per second. */
  permitted: number;
  refused: number;
  /** Errors of the worst second. */
  errorsMax: number;
}>;

/** @returns one bucket each; null: no request was answered in it */
export function trafficBuckets(all: readonly TrafficSecond[], buckets: Buckets): readonly (TrafficBucket | null)[] {
  type Sum = { permitted: number; refused: number; errorsMax: number; seconds: Map<number, number> };
  const sums: (Sum | null)[] = new Array<null>(buckets.count).fill(null);
  for (const { atMs, permitted, refused, unavailable, failed } of all) {
    const index = bucketAt(buckets, atMs);
    if (index === undefined) continue;
    const sum = sums[index] ?? { permitted: 0, refused: 0, errorsMax: 0, seconds: new Map<number, number>() };
    sum.permitted += permitted;
    sum.refused += refused;
    // Several sources may report the same second.
    const errors = (sum.seconds.get(atMs) ?? 0) + unavailable + failed;
    sum.seconds.set(atMs, errors);
    sum.errorsMax = Math.max(sum.errorsMax, errors);
    sums[index] = sum;
  }
  const seconds = buckets.lengthMs / 1_000;
  return sums.map(
    (sum) =>
      sum && {
        permitted: sum.permitted / seconds,
        refused: sum.refused / seconds,
        errorsMax: sum.errorsMax,
      },
  );
}

/** @returns the worst value of each bucket; null: no sample has a value there */
export function worstBuckets(
  samples: NodeSeries["samples"],
  buckets: Buckets,
  read: (sample: NodeSample) => number | null,
): readonly (number | null)[] {
  const worst: (number | null)[] = new Array<null>(buckets.count).fill(null);
  for (const sample of samples) {
    const index = bucketAt(buckets, sample.atMs);
    const value = read(sample);
    if (index !== undefined && value !== null) worst[index] = Math.max(worst[index] ?? value, value);
  }
  return worst;
}

/** Keeps the worst of each bucket: as many entries as `max` at most, or all if they are fewer. */
export function worstFew<Entry extends Readonly<{ atMs: number }>>(
  all: readonly Entry[],
  { buckets, max, badness }: Readonly<{ buckets: Buckets; max: number; badness: (entry: Entry) => number }>,
): readonly Entry[] {
  if (all.length <= max) return all;
  const perBucket = Math.max(1, Math.floor(max / buckets.count));
  const grouped = Map.groupBy(all, ({ atMs }) => bucketAt(buckets, atMs) ?? -1);
  grouped.delete(-1);
  return [...grouped.values()].flatMap((group) =>
    group.toSorted((a, b) => badness(b) - badness(a)).slice(0, perBucket),
  );
}

/** A stretch of time in which at least one fault was active or not yet over. */
export type Band = Readonly<{ fromMs: number; untilMs: number; faults: readonly RunFault[] }>;

/** So that many charts with many bands stay small: bands that would be closer to each other become one. */
const bandsMax = 120;

/** Overlapping faults make one band. */
export function bandsOf(faults: readonly RunFault[], durationMs: number): readonly Band[] {
  const gapMs = durationMs / bandsMax / 2;
  const bands: { fromMs: number; untilMs: number; faults: RunFault[] }[] = [];
  for (const fault of faults.toSorted((a, b) => a.fromMs - b.fromMs)) {
    if (fault.problem !== null) continue;
    const untilMs = Math.min(durationMs, fault.clearMs ?? Math.max(fault.untilMs, fault.fromMs));
    const last = bands.at(-1);
    if (last !== undefined && fault.fromMs <= last.untilMs + gapMs) {
      last.untilMs = Math.max(last.untilMs, untilMs);
      last.faults.push(fault);
    } else bands.push({ fromMs: fault.fromMs, untilMs, faults: [fault] });
  }
  return bands;
}

export type Percentiles = Readonly<{ count: number; p50: number; p90: number; p99: number; max: number }>;

/** @returns undefined: there is no value */
export function percentilesOf(values: readonly (number | null)[]): Percentiles | undefined {
  const sorted = new Float64Array(values.filter((value) => value !== null)).sort();
  const max = sorted.at(-1);
  if (max === undefined) return undefined;
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? max;
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max };
}
