/**
 * Fault plan: the faults of a seed, with their times and durations. Pure data, made before the run.
 *
 * - Removing a fault moves no other fault, so the plan of a failing seed can shrink.
 * - A fault names its target by numbers. `faults.ts` resolves them when the fault happens, because the plan does not
 *   know which broker leads then.
 */
import { streamOf } from "./random.ts";
import { type FaultKind, faultClasses, type SimOptions } from "./swarm.ts";

export type PlannedFault = Readonly<{
  /** Index in the full plan; unchanged when other faults are removed. */
  id: number;
  atMs: number;
  kind: FaultKind;
  forMs: number;
  /** Selects the target, in [0, 1). */
  who: number;
  other: number;
  /** Strength of the fault, in [0, 1). */
  much: number;
}>;

export const faultsMin = 5;
const faultsMax = 40;
const forMsMax = 15_000;
/**
 * A region revokes by itself only once it has found out that the home region is out of reach. What follows takes time,
 * too.
 */
const outOfReachMs = 7_000;
/** Faults that last until the end. */
const lasting: ReadonlySet<FaultKind> = new Set(["leave-node"]);

/** Plans at least `faultsMin` faults, sorted by time. */
export function planFaults(options: SimOptions): readonly PlannedFault[] {
  const random = streamOf(options.seed, "faults");
  const { faultsFromMs, faultsUntilMs, faultEveryMs, faultForMs, classes } = options;
  const length = faultsUntilMs - faultsFromMs;
  const count = Math.min(faultsMax, Math.max(faultsMin, Math.round((length / faultEveryMs) * random.within(0.8, 1.2))));
  const times = Array.from({ length: count }, () => random.within(faultsFromMs, faultsUntilMs)).toSorted(
    (a, b) => a - b,
  );
  return times.map((at, id) => {
    const kind = random.pick(faultClasses[random.pick(classes)]);
    const drawnMs = 100 + random.exponential(faultForMs);
    const [who, other, much] = [random.next(), random.next(), random.next()];
    // After a longer delay no process waits for the answer. After a shorter one it arrives before another broker has
    // taken over.
    const lateMs = options.lease.takeoverMs + 300 + 1_500 * much;
    const needsMs = isOfRevocations(kind) ? outOfReachMs : 0;
    const lastsMs = kind === "late-answers" ? lateMs : drawnMs + needsMs;
    const untilEndMs = faultsUntilMs - at;
    const forMs = Math.round(lasting.has(kind) ? untilEndMs : Math.min(forMsMax, lastsMs, untilEndMs));
    return { id, atMs: Math.round(at), kind, forMs, who, other, much };
  });
}

/** True of the faults that concern what a region revokes by itself. */
export function isOfRevocations(kind: FaultKind): boolean {
  return faultClasses.revocations.some((each) => each === kind);
}

export function formatFault({ id, atMs, kind, forMs }: PlannedFault): string {
  return `fault ${id} at ${(atMs / 1_000).toFixed(3)} s: ${kind}, for ${forMs} ms`;
}
