/**
 * Cloud event: an audit record in a CloudEvents 1.0 envelope, in the structured JSON mode. Pure.
 *
 * - `source` and `id` name the record wherever it goes, so a repetition shows.
 * - Context attributes are for routing and hold no personal data: `subject` is an opaque id.
 */
import type { AuditRecord } from "./audit-record.ts";
import { recordIdOf } from "./record-id.ts";

export type CloudEventRecord = Readonly<{
  specversion: "1.0";
  id: string;
  source: string;
  type: string;
  time: string;
  subject?: string;
  datacontenttype: "application/json";
  dataschema: string;
  traceid?: string;
  data: AuditRecord;
}>;

/** Names the version of the JSON Schema in docs/audit-record.schema.json. */
export const recordSchemaId = "urn:cardea:schema:audit-record:1";

export function cloudEventOf(record: AuditRecord, cluster: string): CloudEventRecord {
  const subject = subjectOf(record);
  const { traceId } = record.kind === "decision" ? record : { traceId: undefined };
  return {
    specversion: "1.0",
    id: recordIdOf(record),
    source: `urn:cardea:${encodeURIComponent(cluster)}:${encodeURIComponent(record.node)}`,
    type: `io.cardea.audit.${auditTypeOf(record)}`,
    time: new Date(record.at).toISOString(),
    ...(subject === null ? {} : { subject }),
    datacontenttype: "application/json",
    dataschema: recordSchemaId,
    ...(traceId === undefined ? {} : { traceid: traceId }),
    data: record,
  };
}

/** Kind and occasion of a record, as names of events have them. */
export function auditTypeOf(record: AuditRecord): string {
  if (record.kind !== "decision") return record.kind;
  return record.occasion === "closed" ? "stream.closed" : `decision.${record.occasion}`;
}

function subjectOf(record: AuditRecord): string | null {
  switch (record.kind) {
    case "decision":
      return record.userId === null ? null : `user:${record.userId}`;
    case "operator":
    case "authentication":
      return record.targets[0] ?? null;
    case "gap":
      return null;
  }
}
