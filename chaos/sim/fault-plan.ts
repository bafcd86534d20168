/**
 * Fault plan: which faults a seed has, when and for how long.
 *
 * Pure data, made before the run: a fault can be taken out of it without moving any other, which is what makes a story
 * of a failing seed short. Whom it hits is left as numbers that `faults.ts` resolves when it happens: who leads then is
 * not known here.
 */
import { streamOf } from "./random.ts";
import { type FaultKind, faultClasses, type SimOptions } from "./swarm.ts";

export type PlannedFault = Readonly<{
  /** Its place in the whole plan, kept when others are taken out. */
  id: number;
  atMs: number;
  kind: FaultKind;
  forMs: number;
  /** From 0 up to, not including, 1: whom it hits. */
  who: number;
  other: number;
  /** The same for how hard. */
  much: number;
}>;

export const faultsMin = 5;
const faultsMax = 40;
const forMsMax = 15_000;

/** At least `faultsMin`, in order of time. */
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
    // An answer that is late for longer is not waited for, and one that is less late comes before anybody has taken
    // over.
    const lastsMs = kind === "late-answers" ? options.lease.takeoverMs + 300 + 1_500 * much : drawnMs;
    const forMs = Math.round(Math.min(forMsMax, lastsMs, faultsUntilMs - at));
    return { id, atMs: Math.round(at), kind, forMs, who, other, much };
  });
}

export function tellFault({ id, atMs, kind, forMs }: PlannedFault): string {
  return `fault ${id} at ${(atMs / 1_000).toFixed(3)} s: ${kind}, for ${forMs} ms`;
}
