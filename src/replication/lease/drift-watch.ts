/**
 * Drift watch: does a node's monotonic clock run at our rate?
 *
 * The lease rests on one assumption about clocks, that their rates differ by at most ρ. Each renew says what the node's
 * clock showed when it was sent. A message can only be late, never early, so the smallest offset of several renews is
 * the one to compare: a pause or a slow network on one of them looks like nothing.
 *
 * A machine that slept with its clock, the node's or the leader's, has made one step and runs as it should before and
 * behind it. The node notices that by itself and is worth nothing until it has asked anew (lease-holder.ts); here the
 * comparison begins anew behind the step, or one sleep would cost a node its leases for minutes, and one sleep of the
 * leader those of all nodes. A clock that goes on stepping in one direction is one that runs at another rate.
 *
 * The least of what the offsets can mean counts: a renew that comes by another way from now on, by the broker of
 * another region, is later by as much each time, and says nothing of a clock.
 *
 * A node also compares its own two clocks: one of them that runs at another rate is a machine whose time cannot be
 * relied upon. A wall clock that is set is not drift: a step is left out of the comparison, and told to nobody here.
 * Pure.
 */
import type { MonotonicMs, UnixMs } from "../../events/index.ts";

/** One moment by both clocks of a process. */
export type Moment = Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>;

type Sample = Readonly<{ at: number; offsetMs: number }>;
type Step = Readonly<{ at: number; ms: number }>;

/** Oldest first: the samples since the last step, and the steps. */
export type DriftWatch = Readonly<{ samples: readonly Sample[]; steps: readonly Step[] }>;

/** Half of the ρ of 1 % that leases are computed with. */
export const driftMax = 0.005;
const driftSpanMs = 30_000;
/**
 * The newest offset is the smallest of at least three renews within the last ten seconds; the oldest, of the first that
 * were so close.
 */
const recentMs = 10_000;
const recentMin = 3;
const windowMs = 120_000;
const samplesMax = 256;
/**
 * More than this, and than a clock may gain on another at a rate that is plainly wrong, is a step. What comes too soon
 * cannot be the network's doing, so less of it is enough: that is the leader's own sleep, which every node would have
 * to pay for.
 */
const stepMs = { later: 300, sooner: 100 };
const stepRate = 0.03;
/** So many more steps in one direction than in the other are a rate. */
const stepsMax = 3;
/**
 * What waited for a leader who slept comes all at once, each renew less late than the one before, and the next of them
 * later still: one step in pieces. Four steps of a clock that runs fast take much longer.
 */
const oneStepMs = 5_000;
/**
 * So much later or sooner may come what takes another way: more than there and back between regions that are 80 ms
 * apart.
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

/** By how much the offset has jumped from these to those; null: it has not. */
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
 * How far the node's rate is off ours at least, as a fraction; positive when its clock is slow.
 * @returns undefined while there is too little to tell
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
 * The first stretch in which there are enough of them, as in the newest; a single one before a gap would hide the step
 * of a machine that slept through it. A short stretch, for over a long one the drift itself would hide in the minimum;
 * and the whole of it, for the first renews that a new leader hears of may have waited for a leader.
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
  /** Where the comparison begins, with the steps since then taken out of its wall time. */
  since: Moment;
  last: Moment;
  /** Of the newest stretch that was long enough, as a fraction; positive when the wall clock is fast. */
  drift: number;
}>;

/** Between two looks, more than this is a clock that was set, or a machine that slept with one of them. */
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
