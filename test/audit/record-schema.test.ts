/** The JSON Schema of audit records: it is up to date, and every kind of record matches it, also old ones. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { auditSchemaFile, auditSchemaText } from "../../scripts/generate-audit-schema.ts";
import { parseLine, toLine } from "../../src/audit/index.ts";
import { assertAuditRecord, isAuditRecord } from "../support/audit-schema.ts";
import { oldRecords, samples } from "./samples.ts";

test("the published schema is up to date (npm run docs:audit-record)", () => {
  const published = readFileSync(join(import.meta.dirname, "../..", auditSchemaFile), "utf8");
  assert.equal(published, auditSchemaText());
});

for (const [name, record] of Object.entries(samples))
  test(`a record matches the schema and is read back: ${name}`, () => {
    assertAuditRecord(JSON.parse(toLine(record)));
    assert.deepEqual(parseLine(toLine(record)), JSON.parse(toLine(record)));
  });

test("records of older builds match, and are read", () => {
  for (const record of oldRecords) {
    assertAuditRecord(record);
    assert.notEqual(parseLine(JSON.stringify(record)), undefined);
  }
});

test("a record of a newer build matches, and one without its id or with a wrong value does not", () => {
  const { decision } = samples;
  assert.ok(isAuditRecord({ ...decision, later: 1 }));
  assert.ok(!isAuditRecord({ ...decision, seq: undefined }));
  assert.ok(!isAuditRecord({ ...decision, result: "maybe" }));
  assert.ok(!isAuditRecord({ ...decision, kind: "other" }));
});

test("each kind has an example in the documentation, which matches", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/audit-records.md"), "utf8");
  const examples = [...page.matchAll(/```json\n(.*?)\n```/gs)].map(
    ([, text = ""]) => JSON.parse(text) as { kind?: string },
  );
  const records = examples.filter(({ kind }) => kind !== undefined);
  for (const record of records) assertAuditRecord(record);
  assert.deepEqual([...new Set(records.map(({ kind }) => kind))].sort(), [
    "authentication",
    "decision",
    "gap",
    "operator",
  ]);
});
