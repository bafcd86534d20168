/** Record id: `<boot>:<number>` names one decision; a request id may name several. Pure. */
import type { AuditRecord } from "./audit-record.ts";

export type DecisionEntry = Extract<AuditRecord, { kind: "decision" }>;

export function recordIdOf({ boot, seq }: AuditRecord): string {
  return `${boot}:${seq}`;
}

export function hasRecordId(record: AuditRecord, id: string): record is DecisionEntry {
  return record.kind === "decision" && (record.requestId === id || recordIdOf(record) === id);
}
