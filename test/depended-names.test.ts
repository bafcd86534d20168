/**
 * Names that operators, older builds and stored data depend on stay what they were: each name in
 * recorded/depended-names.json still exists.
 *
 * A new name joins the record with `node test/depended-names.test.ts --record`. A name leaves it only with a line in
 * CHANGELOG.md.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type DependedNames, dependedNames } from "./support/depended-names.ts";

const file = join(import.meta.dirname, "recorded/depended-names.json");
const now = dependedNames();
if (process.argv.includes("--record")) writeFileSync(file, `${JSON.stringify(now, null, 2)}\n`);
const recorded: DependedNames = JSON.parse(readFileSync(file, "utf8"));

test("no name that others depend on is gone", () => {
  const gone = Object.entries(recorded).flatMap(([category, names]) =>
    names.filter((name) => now[category]?.includes(name) !== true).map((name) => `${category}: ${name}`),
  );
  assert.deepEqual(gone, []);
});

test("the record has every name that others may depend on by now", () => {
  const missing = Object.entries(now).flatMap(([category, names]) =>
    names.filter((name) => recorded[category]?.includes(name) !== true).map((name) => `${category}: ${name}`),
  );
  assert.deepEqual(missing, [], "record them: node test/depended-names.test.ts --record");
});
