/** Seen numbers: against a plain set, and within their bound. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SeenNumbers } from "../../../src/audit/sources/seen-numbers.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

test("a number is new once per boot, in whatever order numbers come", () => {
  const random = new SeededRandom(7);
  for (let round = 0; round < 200; round++) {
    const seen = new SeenNumbers();
    const known = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const [boot, number] = [`boot-${random.int(2)}`, random.int(60)];
      assert.equal(seen.add(boot, number), !known.has(`${boot} ${number}`));
      known.add(`${boot} ${number}`);
    }
  }
});

test("a million numbers in order take one range, and the boot read longest ago is forgotten at the bound", () => {
  const seen = new SeenNumbers({ rangesMax: 3 });
  for (let number = 1; number <= 1_000_000; number++) assert.equal(seen.add("a", number), true);
  assert.equal(seen.add("a", 500_000), false);
  for (const number of [1, 3]) seen.add("b", number);
  assert.equal(seen.add("a", 7), false);
  seen.add("c", 1);
  assert.equal(seen.add("b", 1), true, "b was forgotten");
});
