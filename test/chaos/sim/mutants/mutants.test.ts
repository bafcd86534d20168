/** The mutants of the simulator: each quotes code that the sources still have, exactly once. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { cheapest, mutants } from "../../../../chaos/sim/mutants.ts";

const root = new URL("../../../../", import.meta.url);

for (const [name, { changes, beside = [], within }] of Object.entries(mutants)) {
  test(`${name}: each quoted text occurs once in the sources`, () => {
    for (const { file, take, put } of [...changes, ...beside]) {
      const source = readFileSync(new URL(file, root), "utf8");
      assert.equal(source.split(take).length - 1, 1, `${file}: ${take}`);
      assert.notEqual(take, put);
    }
    assert.ok(within > 0);
  });
}

test("there are at least 35 mutants", () => {
  assert.ok(Object.keys(mutants).length >= 35);
});

test("docs/simulation.md lists each mutant with its number of seeds", () => {
  const section = readFileSync(new URL("docs/simulation.md", root), "utf8").split("## Mutation gate")[1] ?? "";
  const lines = [...section.matchAll(/^\| `([\w-]+)` \|.*\| \d+ of (\d+)(?: with (\w+))? \|/gm)];
  const documented = Object.fromEntries(lines.map(([, name, within, where]) => [name, [Number(within), where]]));
  const stated = Object.entries(mutants).map(([name, { within, where }]) => [name, [within, where]]);
  assert.deepEqual(documented, Object.fromEntries(stated));
});

test("the cheapest mutants exist", () => {
  for (const name of cheapest) assert.ok(name in mutants, name);
});
