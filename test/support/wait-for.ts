/**
 * Wait for: polls a condition until it holds, or fails with an error that names the condition.
 *
 * Tests wait for conditions, never for time. A probe that throws is tried again. Its last error becomes the cause of
 * the failure when the time has expired.
 */
import { setTimeout as delay } from "node:timers/promises";

/**
 * `withinMs`: the longest wait that a quiet machine needs. `everyMs`: the pause between probes; absent: it grows with
 * the time waited, because a probe takes processor time from what it waits for.
 */
export type WaitBounds = Readonly<{ withinMs?: number; everyMs?: number }>;

/** Factor by which a wait may exceed its bound, because a machine may be slow or busy. */
const patience = 3;
/** The first pause, the longest one, and the share of the time waited by which a wait may end late. */
const pauseMs = { first: 20, longest: 250, share: 0.05 };

/**
 * @param what completes "waited 30000 ms for …"
 * @param probe its first answer that is neither `undefined` nor `false` is returned
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { withinMs = 10_000, everyMs }: WaitBounds = {},
): Promise<T> {
  const waitMs = withinMs * patience;
  const beganAt = performance.now();
  const giveUpAt = beganAt + waitMs;
  let lastError: unknown;
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() >= giveUpAt) throw new WaitedInVainError(what, waitMs, { cause: lastError });
    const grown = Math.max(pauseMs.first, (performance.now() - beganAt) * pauseMs.share);
    await delay(everyMs ?? Math.min(grown, pauseMs.longest));
  }
}

export class WaitedInVainError extends Error {
  readonly code = "ERR_TEST_WAITED_IN_VAIN";
  constructor(what: string, withinMs: number, options?: ErrorOptions) {
    super(`waited ${withinMs} ms for ${what}`, options);
    this.name = "WaitedInVainError";
  }
}
