/**
 * Homes: which region was the home region when, as far as the commands that move it say.
 *
 * Pure. While a command runs, and after one that did not end well, no region is known to be the home region: nothing
 * that depends on it is demanded then.
 */
import type { History, Ns } from "./history.ts";

export type Homes = Readonly<{
  /** The home region during all of a time; null: unknown, or not the same. */
  during(from: Ns, until: Ns): string | null;
  /** The begin of the first move after a moment; Infinity: none follows. */
  nextMove(after: Ns): Ns;
}>;

/** @param first the home region at the start */
export function homesOf({ "home-move": entries }: Pick<History, "home-move">, first: string): Homes {
  const moves = [...entries].sort((a, b) => a.begin - b.begin);
  const spans: { home: string | null; from: Ns; until: Ns }[] = [];
  let open: { home: string | null; from: Ns } = { home: first, from: Number.NEGATIVE_INFINITY };
  for (const { region, begin, end, problem } of moves) {
    spans.push({ ...open, until: begin });
    open = { home: problem === "" ? region : null, from: end };
  }
  spans.push({ ...open, until: Number.POSITIVE_INFINITY });
  return {
    during: (from, until) => spans.find((span) => span.from <= from && until <= span.until)?.home ?? null,
    nextMove: (after) => moves.find(({ begin }) => begin >= after)?.begin ?? Number.POSITIVE_INFINITY,
  };
}
