/**
 * Play scenario: one scenario on a running cluster.
 *
 * Every promise that it checks is recorded, kept or broken, with its bound. A broken one ends the scenario.
 */
import { setTimeout as delay } from "node:timers/promises";
import { nsPerMs } from "../judge/history.ts";
import { watchLoad } from "../judge/machine-load.ts";
import type { Stage } from "../run/stage.ts";
import type { Condition, Look } from "./look.ts";
import { createOperators } from "./operators.ts";
import { comesTrue, type Decide, type Outcome, staysServed, staysTrue } from "./outcome.ts";
import type { Game, Scenario } from "./scenario.ts";
import { createVisitors } from "./visitors.ts";

/** A promise was broken; it is recorded. */
export class BrokenPromiseError extends Error {
  override readonly name = "BrokenPromiseError";
}

/**
 * How a scenario ended. `boundChecked`: some promise was checked against the scenario's own bound. `serves`: every
 * route of every region is served afterwards.
 */
export type Played = Readonly<{ broken: boolean; boundChecked: boolean; serves: boolean }>;

const lookEveryMs = 150;
const wholeWithinS = 30;

/** Plays one scenario on a cluster, heals what it broke, and waits until everything works again. */
export async function playScenario(scenario: Scenario, stage: Stage): Promise<Played> {
  const { faults, history, now, say, cluster } = stage;
  let broken = false;
  let boundChecked = false;
  say(`--- ${scenario.name}: ${scenario.fault}`);
  history.write({ type: "note", at: now(), text: `scenario ${scenario.name}` });
  await using visitors = await createVisitors(stage, scenario.name);
  await using operators = await createOperators(stage, scenario.name);

  /**
   * Looks until the outcome is certain, and records it. On a busy machine a bound is longer (judge/machine-load.ts).
   * @throws BrokenPromiseError
   */
  async function judged(
    promise: string,
    { bound, condition, decide }: Readonly<{ bound: number | null; condition: Condition; decide: Decide }>,
  ): Promise<void> {
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
    const boundMs = bound === null ? null : Math.round(bound * loadFactor);
    const end = now();
    const kept = outcome === "kept";
    const tookMs = kept && boundMs !== null ? Math.round((end - begin) / nsPerMs) : null;
    const { seen } = last;
    history.write({ type: "promise", scenario: scenario.name, promise, begin, end, boundMs, tookMs, kept, seen });
    say(
      `${kept ? "✔" : "✖"} ${promise}${tookMs === null ? "" : `: ${tookMs} ms of ${boundMs}`}${kept ? "" : `: ${seen}`}`,
    );
    if (kept) return;
    broken = true;
    throw new BrokenPromiseError(promise);
  }

  const game: Game = {
    cluster,
    fault: (kind, target = cluster.home.name) => faults.begin({ kind, target, scenario: scenario.name }),
    within(promise, condition, seconds) {
      if (seconds === undefined) boundChecked = true;
      const bound = (seconds ?? scenario.boundS) * 1_000;
      return judged(promise, { bound, condition, decide: comesTrue(bound) });
    },
    serves: (promise, seconds, condition) =>
      judged(promise, { bound: null, condition, decide: staysServed(seconds * 1_000) }),
    throughout: (promise, seconds, condition) =>
      judged(promise, { bound: null, condition, decide: staysTrue(seconds * 1_000) }),
    holds: (promise, condition) => judged(promise, { bound: null, condition, decide: staysTrue(0) }),
    pause: (seconds) => delay(seconds * 1_000),
    visitors,
    operators,
  };
  const whole = (): Promise<void> =>
    game.within("everything serves before the fault", visitors.permittedEverywhere(), wholeWithinS);
  try {
    await whole();
    await scenario.play(game);
  } catch (error) {
    if (!(error instanceof BrokenPromiseError)) {
      broken = true;
      const [at, promise] = [now(), "the scenario can be played"];
      const result = { boundMs: null, tookMs: null, kept: false, seen: String(error) };
      history.write({ type: "promise", scenario: scenario.name, promise, begin: at, end: at, ...result });
      say(`✖ ${scenario.name}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
  await faults.healAll();
  const after = "everything serves again afterwards";
  const serves = await game.within(after, visitors.permittedEverywhere(), wholeWithinS).then(
    () => true,
    (error: unknown) => {
      if (!(error instanceof BrokenPromiseError)) throw error;
      return false;
    },
  );
  return { broken, boundChecked, serves };
}
