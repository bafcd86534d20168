/**
 * Outcome: whether a promise is kept or broken, decided look by look.
 *
 * On a busy machine (judge/machine-load.ts) bounds are longer, and what is served may pause: a proxy that did not run
 * for a while permits nothing until it has a new grant. What must be refused has no such pause.
 */
export type Outcome = "kept" | "broken" | "open";
/** `loadFactor`: how much longer bounds are, by the time since the first look. */
export type LookAt = Readonly<{ holds: boolean; tookMs: number; loadFactor: number }>;
/** Decides by each look in turn, until one is not open. */
export type Decide = (look: LookAt) => Outcome;

/** The longest pause of what is served, on a busy machine, before the factor. */
const pauseMsMax = 2_500;

export const comesTrue =
  (boundMs: number): Decide =>
  ({ holds, tookMs, loadFactor }) => {
    const isLate = tookMs > boundMs * loadFactor;
    return isLate ? "broken" : holds ? "kept" : "open";
  };

export const staysTrue =
  (ms: number): Decide =>
  ({ holds, tookMs }) =>
    holds ? (tookMs >= ms ? "kept" : "open") : "broken";

export function staysServed(ms: number): Decide {
  let failedSince: number | null = null;
  return ({ holds, tookMs, loadFactor }) => {
    if (holds) {
      failedSince = null;
      return tookMs >= ms ? "kept" : "open";
    }
    failedSince ??= tookMs;
    const isPause = loadFactor > 1 && tookMs - failedSince <= pauseMsMax * loadFactor;
    return isPause ? "open" : "broken";
  };
}
