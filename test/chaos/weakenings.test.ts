import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { firstRule, weakenings } from "../../chaos/weakenings.ts";

const root = join(import.meta.dirname, "../..");

for (const [rule, { file, take }] of Object.entries(weakenings)) {
  test(`the rule that ${rule} takes away is still kept by one sentence of ${file}`, () => {
    assert.equal(readFileSync(join(root, file), "utf8").split(take).length, 2);
  });
}

test("the rule that is taken away first is known", () => {
  assert.ok(firstRule in weakenings);
});
