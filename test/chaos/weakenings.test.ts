/** The weakenings of the chaos harness: each quotes code that the product still has. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { firstRule, weakenings } from "../../chaos/weakenings.ts";

const root = join(import.meta.dirname, "../..");

for (const [rule, { file, take }] of Object.entries(weakenings)) {
  test(`the code that ${rule} removes occurs once in ${file}`, () => {
    assert.equal(readFileSync(join(root, file), "utf8").split(take).length, 2);
  });
}

test("the rule that is removed by default exists", () => {
  assert.ok(firstRule in weakenings);
});
