/**
 * Audit record: a decision, an act of an operator, a sign-in or sign-out, or a gap that states which numbers were lost.
 * Pure. docs/audit-records.md; docs/audit-record.schema.json is its JSON Schema.
 *
 * - Numbers are dense per node and boot. So a missing number is a lost record, and a gap record declares it in the
 *   stream.
 * - Readers meet records of older builds, which lack fields, and of newer ones, which have more.
 */
import type { DecisionRecord } from "../auth/index.ts";
import type { ActRecord } from "./command-record.ts";
import type { GapRecord } from "./spool/index.ts";

export type AuditRecord =
  | (Readonly<{ kind: "decision"; seq: number }> & DecisionRecord)
  | (Readonly<{ kind: "operator" | "authentication"; seq: number }> & ActRecord)
  | GapRecord;

const kinds: ReadonlySet<unknown> = new Set<AuditRecord["kind"]>(["decision", "operator", "authentication", "gap"]);

export function toLine(record: AuditRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Parses one line of an audit file or message; undefined if it is not a record. */
export function parseLine(line: string): AuditRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("seq" in value) || !("kind" in value)) return undefined;
    if (!Number.isSafeInteger(value.seq)) return undefined;
    return kinds.has(value.kind) ? (value as AuditRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** The record in a CloudEvents envelope; any other value as it is. */
export function withoutEnvelope(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("specversion" in value)) return value;
  return "data" in value ? value.data : value;
}
