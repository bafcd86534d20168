/** Checks audit records against the JSON Schema of docs/audit-record.schema.json, and that they have no other field. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { auditSchemaFile, auditSchemaOf } from "../../scripts/generate-audit-schema.ts";

const published = JSON.parse(readFileSync(join(import.meta.dirname, "../..", auditSchemaFile), "utf8")) as object;
const isPublished = new Ajv2020({ allErrors: true }).compile(published);
const isExact = new Ajv2020({ allErrors: true }).compile(auditSchemaOf({ open: false }));

export function assertAuditRecord(value: unknown): void {
  const text = JSON.stringify(value);
  assert.ok(isPublished(value), `${text}: ${JSON.stringify(isPublished.errors)}`);
  assert.ok(isExact(value), `${text}: ${JSON.stringify(isExact.errors)}`);
}

export const isAuditRecord = (value: unknown): boolean => isPublished(value);

/** Checks each line of an audit file. @returns the number of records */
export function assertAuditFile(path: string): number {
  const lines = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "");
  for (const line of lines) assertAuditRecord(JSON.parse(line));
  return lines.length;
}
