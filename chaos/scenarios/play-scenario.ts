/**
 * Play scenario: one scenario on a running cluster.
 *
 * Every promise that it checks is recorded, kept or broken, with its bound. A broken one ends the scenario.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Stage } from "../run/stage.ts";
import { createOperators } from "./operators.ts";
import { comesTrue, staysServed, staysTrue } from "./outcome.ts";
import { BrokenPromiseError, createPromiseJudge } from "./promise-judge.ts";
import type { Game, Scenario } from "./scenario.ts";
import { createVisitors } from "./visitors.ts";

/**
 * How a scenario ended. `boundChecked`: some promise was checked against the scenario's own bound. `serves`: every
 * route of every region is served afterwards.
 */
export type Played = Readonly<{ broken: boolean; boundChecked: boolean; serves: boolean }>;

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

  const { judge, judgeMeasured } = createPromiseJudge(stage, scenario.name);
  const game: Game = {
    cluster,
    fault: (kind, target = cluster.home.name) => faults.begin({ kind, target, scenario: scenario.name }),
    within(promise, condition, seconds) {
      if (seconds === undefined) boundChecked = true;
      const boundMs = (seconds ?? scenario.boundS) * 1_000;
      return judge(promise, { boundMs, condition, decide: comesTrue(boundMs) });
    },
    serves: (promise, seconds, condition) =>
      judge(promise, { boundMs: null, condition, decide: staysServed(seconds * 1_000) }),
    throughout: (promise, seconds, condition) =>
      judge(promise, { boundMs: null, condition, decide: staysTrue(seconds * 1_000) }),
    holds: (promise, condition) => judge(promise, { boundMs: null, condition, decide: staysTrue(0) }),
    measured: (promise, seconds, measure) => judgeMeasured(promise, seconds * 1_000, measure),
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
    broken = true;
    if (!(error instanceof BrokenPromiseError)) {
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
