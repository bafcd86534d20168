/**
 * OTLP record: an audit record as a log record of OpenTelemetry. Pure.
 *
 * - Attributes have the names of the semantic conventions where there are some, and begin with `cardea.` otherwise.
 * - `log.record.uid` is the id of the record, so a repetition shows.
 * - The body is the whole record as text. In `json` format that is the exact line of the spool.
 */
import type { AuditRecord } from "../audit-record.ts";
import { auditTypeOf } from "../cloud-event.ts";
import { recordIdOf } from "../record-id.ts";

type AttributeValue = string | number | boolean | readonly string[];
export type OtlpAttributes = Readonly<Record<string, AttributeValue>>;

/** The fields that the serializer of OpenTelemetry reads. */
export type OtlpRecord = Readonly<{
  /** Seconds and nanoseconds since 1970. */
  hrTime: readonly [number, number];
  hrTimeObserved: readonly [number, number];
  severityNumber: number;
  severityText: string;
  body: string;
  eventName: string;
  attributes: OtlpAttributes;
  droppedAttributesCount: 0;
  /** A record names a trace, but no span of it. */
  spanContext?: Readonly<{ traceId: string }>;
}>;

/** Of the conventions; any other method is `_OTHER`. */
const httpMethods: ReadonlySet<string> = new Set(
  "CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE QUERY".split(" "),
);
const severities = { INFO: 9, WARN: 13, ERROR: 17 } as const;

/** @param record null: a line that this version cannot read, which stays as it is */
export function otlpRecordOf(record: AuditRecord | null, body: string, observedMs: number): OtlpRecord {
  const severity = record === null ? "INFO" : severityOf(record);
  const { traceId } = record?.kind === "decision" ? record : { traceId: undefined };
  return {
    hrTime: hrTimeOf(record?.at ?? observedMs),
    hrTimeObserved: hrTimeOf(observedMs),
    severityNumber: severities[severity],
    severityText: severity,
    body,
    eventName: `cardea.audit.${record === null ? "unknown" : auditTypeOf(record)}`,
    attributes: record === null ? {} : attributesOf(record),
    droppedAttributesCount: 0,
    ...(traceId === undefined ? {} : { spanContext: { traceId } }),
  };
}

function severityOf(record: AuditRecord): keyof typeof severities {
  switch (record.kind) {
    case "gap":
      return "ERROR";
    case "decision":
      return record.result === "permit" ? "INFO" : "WARN";
    case "operator":
    case "authentication":
      return record.outcome === "done" || record.outcome === "unchanged" ? "INFO" : "WARN";
  }
}

function attributesOf(record: AuditRecord): OtlpAttributes {
  const common = {
    "log.record.uid": recordIdOf(record),
    "cardea.boot": record.boot,
    "cardea.seq": record.seq,
    "cardea.kind": record.kind,
  };
  switch (record.kind) {
    case "decision":
      return { ...common, ...decisionAttributesOf(record) };
    case "gap":
      return { ...common, "cardea.gap.first": record.first, "cardea.gap.last": record.last };
    case "operator":
    case "authentication":
      return {
        ...common,
        "cardea.region": record.region,
        "cardea.command": record.command,
        "cardea.command.id": record.commandId,
        "cardea.command.outcome": record.outcome,
        "cardea.actor": record.actor,
        "cardea.targets": record.targets,
      };
  }
}

function decisionAttributesOf(record: Extract<AuditRecord, { kind: "decision" }>): OtlpAttributes {
  const { method, userId, sessionId, routeId, routeName, query, userAgent, ip, closed } = record;
  return {
    "cardea.region": record.region,
    "cardea.occasion": record.occasion,
    "cardea.result": record.result,
    "cardea.reasons": record.reasons,
    "cardea.request.id": record.requestId,
    "cardea.config.hash": record.configHash,
    ...(httpMethods.has(method)
      ? { "http.request.method": method }
      : { "http.request.method": "_OTHER", "http.request.method_original": method }),
    "http.response.status_code": record.status,
    "server.address": record.host,
    "url.path": record.path,
    ...(query === undefined ? {} : { "url.query": query }),
    ...(ip === "" ? {} : { "client.address": ip }),
    ...(userAgent === undefined ? {} : { "user_agent.original": userAgent }),
    ...(userId === null ? {} : { "user.id": userId }),
    ...(sessionId === null ? {} : { "session.id": sessionId }),
    ...(routeId === null ? {} : { "cardea.route.id": routeId }),
    ...(routeName === undefined ? {} : { "cardea.route.name": routeName }),
    ...(closed === undefined ? {} : { "cardea.closed.cause": closed.cause }),
  };
}

function hrTimeOf(ms: number): readonly [number, number] {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)];
}
