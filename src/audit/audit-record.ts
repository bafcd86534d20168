/**
 * Audit record: a decision record with its sequence number, or a gap record that states which numbers were lost. Pure.
 *
 * Numbers are dense per node and boot. So a missing number is a lost record, and a gap record declares it in the
 * stream.
 */
import type { DecisionRecord } from "../auth/index.ts";
import type { GapRecord } from "./spool/index.ts";

export type AuditRecord = (Readonly<{ kind: "decision"; seq: number }> & DecisionRecord) | GapRecord;

export function toLine(record: AuditRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Parses one line of an audit file or message; undefined if it is not a record. */
export function parseLine(line: string): AuditRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("seq" in value) || !("kind" in value)) return undefined;
    if (!Number.isSafeInteger(value.seq)) return undefined;
    return value.kind === "decision" || value.kind === "gap" ? (value as AuditRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** The record in a CloudEvents envelope; any other value as it is. */
export function withoutEnvelope(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("specversion" in value)) return value;
  return "data" in value ? value.data : value;
}
