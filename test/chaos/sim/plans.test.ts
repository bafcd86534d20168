/** The plans of a seed: deterministic, large enough, and without the fault classes that the seed has switched off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { faultsMin, planFaults } from "../../../chaos/sim/fault-plan.ts";
import { type FaultKind, faultClasses, formatOptions, optionsOf } from "../../../chaos/sim/swarm.ts";
import { commandsMin, isCommand, planActions } from "../../../chaos/sim/workload-plan.ts";

const seeds = Array.from({ length: 120 }, (_, index) => index + 1);

test("a seed always gives the same options, faults and actions", () => {
  for (const seed of [1, 77]) {
    assert.deepEqual(optionsOf(seed), optionsOf(seed));
    assert.deepEqual(planFaults(optionsOf(seed)), planFaults(optionsOf(seed)));
    assert.deepEqual(planActions(optionsOf(seed)), planActions(optionsOf(seed)));
  }
  assert.notDeepEqual(planFaults(optionsOf(1)), planFaults(optionsOf(2)));
});

test("every seed has two minutes, five faults, two hundred commands and a long enough quiet end", () => {
  for (const seed of seeds) {
    const options = optionsOf(seed);
    const faults = planFaults(options);
    const actions = planActions(options);
    assert.ok(options.endMs >= 120_000);
    assert.ok(faults.length >= faultsMin);
    assert.ok(actions.filter(({ kind }) => isCommand(kind)).length >= commandsMin);
    assert.ok(options.endMs - options.faultsUntilMs >= 45_000);
    for (const { atMs, forMs } of faults) {
      assert.ok(atMs >= options.faultsFromMs && atMs + forMs <= options.faultsUntilMs + 1);
    }
    assert.deepEqual(
      actions,
      actions.toSorted((a, b) => a.atMs - b.atMs),
    );
  }
});

test("a seed breaks only what its options allow, and all seeds together break everything", () => {
  const seen = new Set<FaultKind>();
  for (const seed of seeds) {
    const options = optionsOf(seed);
    const allowed = new Set<FaultKind>(options.classes.flatMap((name) => faultClasses[name]));
    assert.ok(options.classes.length < Object.keys(faultClasses).length, "some class is always switched off");
    for (const { kind } of planFaults(options)) {
      assert.ok(allowed.has(kind));
      seen.add(kind);
    }
  }
  assert.deepEqual([...seen].toSorted(), Object.values(faultClasses).flat().toSorted());
});

test("the options of a seed are printed in words", () => {
  const text = formatOptions(optionsOf(7));
  assert.match(text, /^seed 7: 1\d\d s, faults from \d+ to \d+ ms/);
  assert.match(text, /breaks: .*leaves alone: /);
});
