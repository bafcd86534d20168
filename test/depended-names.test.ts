/**
 * Compatibility of names: operators, older builds and stored data depend on the names in recorded/depended-names.json.
 *
 * Each recorded name must still exist. A new name joins the record with `node test/depended-names.test.ts --record`. A
 * name leaves it only with a line in CHANGELOG.md.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type DependedNames, dependedNames } from "./support/depended-names.ts";

const file = join(import.meta.dirname, "recorded/depended-names.json");
const current = dependedNames();
if (process.argv.includes("--record")) writeFileSync(file, `${JSON.stringify(current, null, 2)}\n`);
const recorded: DependedNames = JSON.parse(readFileSync(file, "utf8"));

test("every recorded name still exists", () => {
  const gone = Object.entries(recorded).flatMap(([category, names]) =>
    names.filter((name) => current[category]?.includes(name) !== true).map((name) => `${category}: ${name}`),
  );
  assert.deepEqual(gone, []);
});

test("every name that others may depend on is recorded", () => {
  const missing = Object.entries(current).flatMap(([category, names]) =>
    names.filter((name) => recorded[category]?.includes(name) !== true).map((name) => `${category}: ${name}`),
  );
  assert.deepEqual(missing, [], "record them: node test/depended-names.test.ts --record");
});
