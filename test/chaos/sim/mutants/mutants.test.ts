/** Every mutant takes away a sentence that the sources still have, once. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { cheapest, mutants } from "../../../../chaos/sim/mutants.ts";

const root = new URL("../../../../", import.meta.url);

for (const [name, { changes, beside = [], within }] of Object.entries(mutants)) {
  test(`${name}: the sentences it takes away are in the sources, once each`, () => {
    for (const { file, take, put } of [...changes, ...beside]) {
      const source = readFileSync(new URL(file, root), "utf8");
      assert.equal(source.split(take).length - 1, 1, `${file}: ${take}`);
      assert.notEqual(take, put);
    }
    assert.ok(within > 0);
  });
}

test("thirty-five rules and more are taken away, one by one", () => {
  assert.ok(Object.keys(mutants).length >= 35);
});

test("docs/simulation.md has a line for each, with the number of seeds that it is allowed", () => {
  const section = readFileSync(new URL("docs/simulation.md", root), "utf8").split("## Mutation gate")[1] ?? "";
  const lines = [...section.matchAll(/^\| `([\w-]+)` \|.*\| \d+ of (\d+)(?: with (\w+))? \|/gm)];
  const told = Object.fromEntries(lines.map(([, name, within, where]) => [name, [Number(within), where]]));
  const stated = Object.entries(mutants).map(([name, { within, where }]) => [name, [within, where]]);
  assert.deepEqual(told, Object.fromEntries(stated));
});

test("the cheapest are mutants", () => {
  for (const name of cheapest) assert.ok(name in mutants, name);
});
