/** Seen numbers: against a plain set, and within their bound. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NumberRanges } from "../../../src/audit/sources/number-ranges.ts";
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

test("many separate numbers are as many ranges, in whatever order, and become one when the others come", () => {
  const random = new SeededRandom(11);
  const numbers = Array.from({ length: 20_000 }, (_, n) => 2 * n);
  const orders = [numbers, numbers.toReversed(), numbers.toSorted(() => random.int(3) - 1)];
  for (const order of orders) {
    const ranges = new NumberRanges();
    for (const number of order) assert.equal(ranges.add(number), true);
    assert.equal(ranges.count, numbers.length);
    for (const number of order) assert.equal(ranges.add(number), false);
    for (const number of order.toReversed()) assert.equal(ranges.add(number + 1), true);
    assert.equal(ranges.count, 1);
    assert.equal(ranges.add(0) || ranges.add(39_999), false);
  }
});

test("a forged file with a hole behind each number, from the end to the beginning, costs no more than one in order", () => {
  const seen = new SeenNumbers();
  const began = process.cpuUsage();
  for (let number = 400_000; number > 0; number -= 2) seen.add("a", number);
  const { user } = process.cpuUsage(began);
  assert.ok(user < 5_000_000, `${user} µs`);
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
