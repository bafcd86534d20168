/** WorkTurns: long work in pieces, between which other work has its turn. */
import type { UnixMs } from "../../../events/index.ts";

export type WorkTurns = Readonly<{
  /** Waits if this piece has taken long enough. @returns whether it waited */
  step(): Promise<boolean>;
}>;

/** Milliseconds of one piece; a check may come a millisecond late. */
const pieceMs = 3;

export function startTurns({
  now,
  sleep,
}: Readonly<{ now: () => UnixMs; sleep: (ms: number, signal: AbortSignal) => Promise<void> }>): WorkTurns {
  let began = now();
  return {
    async step() {
      if (now() - began < pieceMs) return false;
      await sleep(0, new AbortController().signal);
      began = now();
      return true;
    },
  };
}
