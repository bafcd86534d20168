/**
 * `npm run simulate` in the time of a test: a few seeds of the real cores, one seed run twice, one failing seed shrunk.
 *
 * CI runs eighty seeds (`.ci/run`); longer runs are started by hand: docs/simulation.md.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { registerHooks } from "node:module";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mutants } from "../../../chaos/sim/mutants.ts";

const root = new URL("../../../", import.meta.url);
const main = join(import.meta.dirname, "../../../chaos/sim/main.ts");

function simulate(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, errors]: [string[], string[]] = [[], []];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => out.push(chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => errors.push(chunk));
  return new Promise<Readonly<{ code: number | null; out: string; errors: string }>>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out: out.join(""), errors: errors.join("") }));
  });
}

describe("npm run simulate", { concurrency: false }, () => {
  test("seeds break no invariant, are as long and as hostile as planned, and repeat exactly", async () => {
    const { code, out } = await simulate(["--seeds", "4", "--twice-every", "4", "--no-stories"]);
    assert.equal(code, 0, out);
    const last = out.trimEnd().split("\n").at(-1) ?? "";
    const seen =
      /^simulate: 4 seeds, ([\d.]+) simulated hours at [\d.]+ h\/s, (\d+) faults, (\d+) commands, \d+ requests \(([\d.]+) % of rightful ones permitted in quiet times\), 0 violations, ran src\/ (\d+) % \(events \d+, [a-z0-9, ]+\)$/.exec(
        last,
      );
    assert.ok(seen, last);
    const [hours = 0, faults = 0, commands = 0, permitted = 0, ran = 0] = seen.slice(1).map(Number);
    assert.ok(hours >= 0.1, "two minutes a seed, and the last digit is rounded");
    assert.ok(faults >= 4 * 5, "five faults a seed");
    assert.ok(commands >= 4 * 200, "two hundred commands a seed");
    assert.ok(permitted >= 50, "a protocol that denies everything is useless");
    assert.ok(ran >= 15, "the cores of brokers and nodes are a fifth of src/");
  });

  test("the trace of a seed is identical byte for byte in another process", async () => {
    const [one, two] = await Promise.all([simulate([], { SEED: "3" }), simulate([], { SEED: "3" })]);
    assert.equal(one.code, 0);
    assert.equal(one.out, two.out);
    assert.match(one.out, /^seed 3: \d+ s, faults from /);
    assert.match(one.out, /fault 0 at [\d.]+ s: /);
    assert.match(one.out, /broker-\d +leads epoch 1\n/);
    assert.match(one.out, /0 violations, hash [0-9a-f]{16}\n$/);
  });

  test("wrong usage is reported", async () => {
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [["--seeds", "many"], /^seeds is a whole number, not many\n$/],
      [["--plans", "no-such-file"], /^no-such-file is not what is left of a seed: ENOENT.*\n$/],
      [["--nonsense"], /^Unknown option '--nonsense'.*\n$/],
    ];
    for (const [args, words] of wrong) {
      const { code, errors } = await simulate(args);
      assert.equal(code, 2, errors);
      assert.match(errors, words);
    }
  });

  test("a failing seed is shrunk to the faults and actions that it needs", async () => {
    const mutant = mutants["token-ignored"];
    assert.ok(mutant);
    registerHooks({
      load(loading, context, next) {
        const loaded = next(loading, context);
        let source = String(loaded.source);
        for (const { file, take, put } of mutant.changes)
          if (loading === new URL(file, root).href) source = source.replace(take, () => put);
        return { ...loaded, source };
      },
    });
    const { buildCluster } = await import("../../../chaos/sim/cluster-setup.ts");
    const { plansOf, runPlans, shrinkSeed } = await import("../../../chaos/sim/failure-report.ts");
    let seed = 1;
    const fails = async (): Promise<boolean> =>
      (await runPlans(plansOf(seed), buildCluster, { stopAtFirst: true })).report.counts.length > 0;
    for (; !(await fails()); seed += 1) assert.ok(seed < mutant.within, "not caught at all");
    const whole = plansOf(seed);
    const story = await shrinkSeed(whole, buildCluster, 40);
    assert.ok(story);
    assert.ok(story.plans.actions.length * 4 < whole.actions.length, `${story.plans.actions.length} actions are left`);
    assert.ok(story.plans.faults.length <= whole.faults.length);
    const shown = story.report.violations[0]?.story ?? "";
    assert.match(shown, /^invariant \S+ \(/);
    assert.ok(story.text.includes(shown));
    assert.ok(story.text.endsWith(`the whole seed again: SEED=${seed} npm run simulate`));
    const again = (await runPlans(story.plans, buildCluster, { stopAtFirst: true })).report;
    assert.deepEqual(again, story.report, "the shrunk plan fails in the same way each time");
  });
});
