/** Record id: `<boot>:<number>` names one record; a request id may name several, not the end of a stream. Pure. */
import type { AuditRecord } from "./audit-record.ts";

export type DecisionEntry = Extract<AuditRecord, { kind: "decision" }>;

export function recordIdOf({ boot, seq }: AuditRecord): string {
  return `${boot}:${seq}`;
}

export function hasRecordId(record: AuditRecord, id: string): record is DecisionEntry {
  if (record.kind !== "decision") return false;
  return recordIdOf(record) === id || (record.requestId === id && record.occasion !== "closed");
}

/** @returns undefined if it is no record id */
export function parseRecordId(id: string): Readonly<{ boot: string; seq: number }> | undefined {
  const at = id.lastIndexOf(":");
  const seq = Number(id.slice(at + 1));
  if (at < 1 || !/^\d{1,15}$/.test(id.slice(at + 1)) || !Number.isSafeInteger(seq)) return undefined;
  return { boot: id.slice(0, at), seq };
}
