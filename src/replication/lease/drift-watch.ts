/**
 * Drift watch: compares the rate of a node's monotonic clock with the leader's.
 *
 * The lease assumes one thing about clocks: their rates differ by at most ρ. Each renew carries the reading of the
 * node's clock when it was sent. A message can only be late, never early, so the watch compares the smallest offset of
 * several renews. A pause or a slow network on one of them has no effect.
 *
 * A clock that stopped while its machine slept, the node's or the leader's, makes one step. It runs at its normal rate
 * before and after it. The node detects its own step and permits nothing until a new grant (lease-holder.ts). Here the
 * comparison restarts after the step. Otherwise one sleep would cost a node its leases for minutes, and one sleep of
 * the leader would cost all nodes theirs. A clock that keeps stepping in one direction runs at another rate.
 *
 * The smallest drift that explains the offsets counts. A renew that takes another path from now on, through the broker
 * of another region, is later by the same amount each time and proves nothing about a clock.
 *
 * A node also compares its own two clocks: if their rates differ, the machine's time is unreliable. A wall clock that
 * is set is not drift: the comparison leaves out a step and does not report it. Pure.
 */
import type { MonotonicMs, UnixMs } from "../../events/index.ts";

/** One moment by both clocks of a process. */
export type Moment = Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>;

type Sample = Readonly<{ at: number; offsetMs: number }>;
type Step = Readonly<{ at: number; ms: number }>;

/** Oldest first: the samples since the last step, and the steps. */
export type DriftWatch = Readonly<{ samples: readonly Sample[]; steps: readonly Step[] }>;

/** Half of the least ρ that leases are computed with (`broker.clock_drift`, 1 %). */
export const driftMax = 0.005;
const driftSpanMs = 30_000;
/**
 * The newest offset is the smallest of at least three renews within the last ten seconds. The oldest offset is the
 * smallest of the first renews that were as close together.
 */
const recentMs = 10_000;
const recentMin = 3;
const windowMs = 120_000;
const samplesMax = 256;
/**
 * An offset change above this, and above the gain of a clock at a plainly wrong rate (`stepRate`), is a step. The
 * network cannot make a renew early, so a smaller change suffices for `sooner`: the leader itself slept, which would
 * affect every node.
 */
const stepMs = { later: 300, sooner: 100 };
const stepRate = 0.03;
/** This many more steps in one direction than in the other count as a rate. */
const stepsMax = 3;
/**
 * Steps within this time count as one. Renews that waited for a sleeping leader arrive all at once, each less late than
 * the one before: one step in pieces. Four steps of a clock that runs fast take much longer.
 */
const oneStepMs = 5_000;
/**
 * A change of path may shift a renew by this much: more than a round trip between regions that are 80 ms apart.
 */
const pathChangeMs = 100;

export const newDriftWatch: DriftWatch = { samples: [], steps: [] };

export function observeClock(watch: DriftWatch, sample: Readonly<{ ours: MonotonicMs; theirs: number }>): DriftWatch {
  const next: Sample = { at: sample.ours, offsetMs: sample.ours - sample.theirs };
  const isKept = (each: Readonly<{ at: number }>): boolean => each.at >= sample.ours - windowMs;
  const samples = [...watch.samples.filter(isKept), next].slice(-samplesMax);
  const steps = watch.steps.filter(isKept);
  const newest = samples.slice(-recentMin);
  const step = stepBetween(samples.slice(0, -recentMin), newest);
  return step === null ? { samples, steps } : { samples: newest, steps: withStep(steps, { at: next.at, ms: step }) };
}

function withStep(steps: readonly Step[], { at, ms }: Step): readonly Step[] {
  const last = steps.at(-1);
  const isPiece = last !== undefined && last.ms < 0 && ms < 0 && at < last.at + oneStepMs;
  return isPiece ? [...steps.slice(0, -1), { at: last.at, ms: last.ms + ms }] : [...steps, { at, ms }];
}

/** By how much (ms) the offset jumped between the two sets of samples; null: no step. */
function stepBetween(all: readonly Sample[], after: readonly Sample[]): number | null {
  const from = (all.at(-1)?.at ?? 0) - recentMs;
  const before = all.filter(({ at }) => at > from);
  if (before.length < recentMin) return null;
  const [then, now] = [smallest(before), smallest(after)];
  const ms = now.offsetMs - then.offsetMs;
  const isStep =
    ms > 0
      ? ms > stepMs.later + stepRate * (now.at - then.at)
      : -ms > stepMs.sooner + stepRate * (now.at - (before.at(-1)?.at ?? then.at));
  return isStep ? ms : null;
}

/**
 * The least difference between the node's rate and ours, as a fraction; positive when its clock is slow.
 * @returns undefined while there are too few samples
 */
export function driftOf(watch: DriftWatch): number | undefined {
  const last = watch.samples.at(-1);
  if (last === undefined) return undefined;
  const [firstStep] = watch.steps;
  const oneWay = watch.steps.reduce((sum, { ms }) => sum + Math.sign(ms), 0);
  if (firstStep !== undefined && Math.abs(oneWay) > stepsMax)
    return watch.steps.reduce((sum, { ms }) => sum + ms, 0) / (last.at - firstStep.at + recentMs);
  const recent = watch.samples.filter((each) => each.at > last.at - recentMs);
  if (recent.length < recentMin) return undefined;
  const early = oldest(watch.samples);
  if (early.length < recentMin) return undefined;
  const [now, then] = [smallest(recent), smallest(early)];
  if (now.at - then.at < driftSpanMs) return undefined;
  const ms = now.offsetMs - then.offsetMs;
  return (Math.sign(ms) * Math.max(0, Math.abs(ms) - pathChangeMs)) / (now.at - then.at);
}

/**
 * The first stretch with enough samples, as for the newest offset.
 * - A single sample before a gap would hide the step of a machine that slept through the gap.
 * - The stretch is short: over a long one the minimum would hide the drift itself.
 * - It is used whole: the first renews that a new leader receives may have waited for a leader.
 */
function oldest(samples: readonly Sample[]): readonly Sample[] {
  const isDense = ({ at }: Sample, index: number): boolean =>
    (samples[index + recentMin - 1]?.at ?? at + recentMs) < at + recentMs;
  const from = samples.find(isDense)?.at ?? 0;
  return samples.filter(({ at }) => at >= from && at < from + recentMs);
}

function smallest(samples: readonly Sample[]): Sample {
  return samples.reduce((least, each) => (each.offsetMs < least.offsetMs ? each : least));
}

/** The wall clock of a process against its own monotonic one. */
export type OwnClocks = Readonly<{
  /** The start of the comparison; later steps are subtracted from its wall time. */
  since: Moment;
  last: Moment;
  /** Over the newest stretch that was long enough, as a fraction; positive when the wall clock is fast. */
  drift: number;
}>;

/** Between two observations, more than this means that a clock was set or stopped while the machine slept. */
export const ownStepMs = 20;

export function newOwnClocks(at: Moment): OwnClocks {
  return { since: at, last: at, drift: 0 };
}

export function observeOwnClocks({ since, last, drift }: OwnClocks, at: Moment): OwnClocks {
  const gained = at.wall - last.wall - (at.monotonic - last.monotonic);
  const step = Math.abs(gained) > ownStepMs ? gained : 0;
  const from: Moment = step === 0 ? since : { monotonic: since.monotonic, wall: (since.wall + step) as UnixMs };
  const elapsed = at.monotonic - from.monotonic;
  if (elapsed < driftSpanMs) return { since: from, last: at, drift };
  return { since: at, last: at, drift: (at.wall - from.wall - elapsed) / elapsed };
}
