/** When a promise of a scenario is kept, and when it is broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { comesTrue, type Decide, staysServed, staysTrue } from "../../chaos/scenarios/outcome.ts";

const quiet = 1;
const busy = 2;

/** Looks at these times (ms), until one decides. */
function outcome(decide: Decide, loadFactor: number, looks: readonly (readonly [number, boolean])[]): string {
  for (const [tookMs, holds] of looks) {
    const outcome = decide({ holds, tookMs, loadFactor });
    if (outcome !== "open") return `${outcome} at ${tookMs}`;
  }
  return "open";
}

test("what has to come true is kept within its bound, which is longer on a busy machine", () => {
  const looks = [[900, false] as const, [1_100, true] as const];
  assert.equal(outcome(comesTrue(1_000), quiet, looks), "broken at 1100");
  assert.equal(outcome(comesTrue(1_000), busy, looks), "kept at 1100");
  assert.equal(outcome(comesTrue(1_000), busy, [[2_100, true]]), "broken at 2100");
});

test("what has to stay true is broken by the first look at which it is not, on any machine", () => {
  for (const load of [quiet, busy]) {
    assert.equal(
      outcome(staysTrue(1_000), load, [
        [500, true],
        [600, false],
      ]),
      "broken at 600",
    );
    assert.equal(
      outcome(staysTrue(1_000), load, [
        [500, true],
        [1_000, true],
      ]),
      "kept at 1000",
    );
  }
});

test("what is served may pause on a busy machine alone, and has to come back", () => {
  const pause = [[500, true] as const, [600, false] as const, [1_200, false] as const, [1_400, true] as const];
  assert.equal(outcome(staysServed(1_000), quiet, pause), "broken at 600");
  assert.equal(outcome(staysServed(1_000), busy, pause), "kept at 1400");
  assert.equal(
    outcome(staysServed(1_000), busy, [
      [600, false],
      [5_700, false],
    ]),
    "broken at 5700",
  );
});
