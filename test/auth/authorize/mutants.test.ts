/**
 * The mutants of the policy evaluator still apply to their source files; `npm run mutate:policy` checks that a test
 * fails on each.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { policyMutants } from "../../../scripts/policy-mutants/mutants.ts";

test("the text that each mutant replaces occurs exactly once in its file, and the mutant changes it", () => {
  const wrong = Object.entries(policyMutants).filter(([, { file, take, put }]) => {
    const source = readFileSync(join(import.meta.dirname, "../../..", file), "utf8");
    return take === put || source.split(take).length !== 2;
  });
  assert.deepEqual(
    wrong.map(([name]) => name),
    [],
  );
});
