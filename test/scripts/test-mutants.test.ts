/**
 * The mutants of the tests: each quotes existing code. `npm run mutate:tests` checks that their tests fail without the
 * rules.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { mutants } from "../../chaos/sim/mutants.ts";
import { testMutants } from "../../scripts/mutation/test-mutants.ts";
import { policyMutants } from "../../scripts/policy-mutants/mutants.ts";

const root = new URL("../../", import.meta.url);

test("every mutant quotes text that occurs once in its file, and its test exists", () => {
  const wrong = Object.entries(testMutants).flatMap(([name, { changes, test: file }]) => [
    ...(existsSync(new URL(file, root)) ? [] : [`${name}: there is no ${file}`]),
    ...changes
      .filter(
        ({ file, take, put }) => take === put || readFileSync(new URL(file, root), "utf8").split(take).length !== 2,
      )
      .map(({ take }) => `${name}: ${take}`),
  ]);
  assert.deepEqual(wrong, []);
});

test("docs/rule-mutants.md lists each mutant and no other", () => {
  const page = readFileSync(new URL("docs/rule-mutants.md", root), "utf8");
  const [rules = "", section = ""] = page.split("## Mutants that tests catch");
  const lines = [...section.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(lines.toSorted(), Object.keys(testMutants).toSorted());
  const cells = [...rules.matchAll(/^\| \d \| .* \| (.*) \|$/gm)].map(([, cell]) => cell ?? "");
  const wrong = cells.flatMap((cell) =>
    cell.split("; ").flatMap((part) => {
      const known = { S: mutants, T: testMutants, P: policyMutants }[part[0] ?? ""];
      const names = [...part.matchAll(/`([\w-]+)`/g)].map(([, name]) => name ?? "");
      return known === undefined ? [] : names.filter((name) => !(name in known));
    }),
  );
  assert.deepEqual(wrong, []);
  const named = Object.keys(testMutants).filter((name) => !rules.includes(`\`${name}\``));
  assert.deepEqual(named, []);
});
