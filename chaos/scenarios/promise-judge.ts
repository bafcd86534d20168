/**
 * Promise judge: looks at what a scenario promises until the outcome is certain, and records it, kept or broken.
 *
 * On a busy machine a bound is longer (judge/machine-load.ts).
 */
import { setTimeout as delay } from "node:timers/promises";
import { nsPerMs, type PromiseEntry } from "../judge/history.ts";
import { watchLoad } from "../judge/machine-load.ts";
import type { Stage } from "../run/stage.ts";
import type { Condition, Look } from "./look.ts";
import type { Decide, Outcome } from "./outcome.ts";

/** A promise was broken; it is recorded. */
export class BrokenPromiseError extends Error {
  override readonly name = "BrokenPromiseError";
}

type PromiseResult = Omit<PromiseEntry, "type" | "scenario" | "promise">;
/** `boundMs`: null for a promise without a bound in time. */
export type PromiseTerms = Readonly<{ boundMs: number | null; condition: Condition; decide: Decide }>;

export type PromiseJudge = Readonly<{
  /** @throws BrokenPromiseError */
  judge(promise: string, terms: PromiseTerms): Promise<void>;
  /** Something takes at most so long, by its own measure in ms. @throws BrokenPromiseError */
  judgeMeasured(promise: string, boundMs: number, measure: () => Promise<number>): Promise<void>;
}>;

const lookEveryMs = 150;

export function createPromiseJudge(
  { history, now, say }: Pick<Stage, "history" | "now" | "say">,
  scenario: string,
): PromiseJudge {
  function record(promise: string, result: PromiseResult): void {
    const { boundMs, tookMs, kept, seen } = result;
    history.write({ type: "promise", scenario, promise, ...result });
    const time = tookMs === null ? "" : `: ${tookMs} ms of ${boundMs}`;
    say(kept ? `✔ ${promise}${time}` : `✖ ${promise}: ${seen}`);
    if (!kept) throw new BrokenPromiseError(promise);
  }

  return {
    async judge(promise, { boundMs: usual, condition, decide }) {
      const begin = now();
      const load = watchLoad();
      let last: Look;
      let outcome: Outcome;
      let loadFactor: number;
      do {
        last = await condition();
        loadFactor = load();
        outcome = decide({ holds: last.holds, tookMs: (now() - begin) / nsPerMs, loadFactor });
        if (outcome === "open") await delay(lookEveryMs);
      } while (outcome === "open");
      const end = now();
      const boundMs = usual === null ? null : Math.round(usual * loadFactor);
      const kept = outcome === "kept";
      const tookMs = kept && boundMs !== null ? Math.round((end - begin) / nsPerMs) : null;
      record(promise, { begin, end, boundMs, tookMs, kept, seen: last.seen });
    },
    async judgeMeasured(promise, usual, measure) {
      const begin = now();
      const load = watchLoad();
      const ms = Math.round(await measure());
      const boundMs = Math.round(usual * load());
      const kept = ms <= boundMs;
      record(promise, { begin, end: now(), boundMs, tookMs: kept ? ms : null, kept, seen: `${ms} ms` });
    },
  };
}
