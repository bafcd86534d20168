/**
 * The mutants of the evaluator still change what they say they change; `npm run mutate:policy` sees whether a test
 * notices.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { policyMutants } from "../../../scripts/policy-mutants/mutants.ts";

test("every mutant's sentence stands in its file once, and is another one afterwards", () => {
  const wrong = Object.entries(policyMutants).filter(([, { file, take, put }]) => {
    const source = readFileSync(join(import.meta.dirname, "../../..", file), "utf8");
    return take === put || source.split(take).length !== 2;
  });
  assert.deepEqual(
    wrong.map(([name]) => name),
    [],
  );
});
