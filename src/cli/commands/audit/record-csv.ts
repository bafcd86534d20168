/** Record CSV: audit records as rows of RFC 4180. Pure. */
import { type AuditRecord, formatCsvCell, gapSizes, recordIdOf } from "../../../audit/index.ts";

type Cell = string | number | null | undefined;

/** The columns, in order, and what each shows of a record. */
const columns: Readonly<Record<string, (record: AuditRecord, names: ReadonlyMap<string, string>) => Cell>> = {
  id: recordIdOf,
  at: ({ at }) => timeText(at),
  kind: ({ kind }) => kind,
  node: ({ node }) => node,
  boot: ({ boot }) => boot,
  seq: ({ seq }) => seq,
  region: (record) => (record.kind === "gap" ? null : record.region),
  occasion: decision((one) => one.occasion),
  result: decision((one) => one.result),
  status: decision((one) => one.status),
  reasons: decision((one) => one.reasons.join(" ")),
  rule: decision((one) => one.rule),
  user_id: decision((one) => one.userId),
  user_name: (record, names) => (record.kind === "decision" ? names.get(record.userId ?? "") : null),
  session_id: decision((one) => one.sessionId),
  route_id: decision((one) => one.routeId),
  route_name: decision((one) => one.routeName),
  request_id: decision((one) => one.requestId),
  trace_id: decision((one) => one.traceId),
  method: decision((one) => one.method),
  host: decision((one) => one.host),
  path: decision((one) => one.path),
  query: decision((one) => one.query),
  ip: decision((one) => one.ip),
  user_agent: decision((one) => one.userAgent),
  latency_ms: (record) => (record.kind === "gap" ? null : record.latencyMs),
  closed_cause: decision((one) => one.closed?.cause),
  closed_ms: decision((one) => one.closed?.durationMs),
  bytes_sent: decision((one) => one.closed?.bytes),
  bytes_received: decision((one) => one.closed?.bytesReceived),
  actor: act((one) => one.actor),
  command: act((one) => one.command),
  targets: act((one) => `${one.targets.join(" ")}${one.targetsMore > 0 ? ` and ${one.targetsMore} more` : ""}`),
  outcome: act((one) => one.outcome),
  code: act((one) => one.code),
  act_reason: act((one) => one.reason),
  gap_first: gap((one) => one.first),
  gap_last: gap((one) => one.last),
  gap_from: gap((one) => (one.fromMs === undefined ? null : timeText(one.fromMs))),
  missing_least: gap((one) => gapSizes(one).least),
  missing_most: gap((one) => gapSizes(one).most),
  gap_reason: gap((one) => one.reason ?? one.why),
};

export const csvHead = `${Object.keys(columns).join(",")}\r\n`;

export function formatCsvRow(record: AuditRecord, names: ReadonlyMap<string, string>): string {
  return `${Object.values(columns)
    .map((column) => formatCsvCell(column(record, names)))
    .join(",")}\r\n`;
}

type Kind<Name extends AuditRecord["kind"]> = Extract<AuditRecord, { kind: Name }>;

function decision(cell: (record: Kind<"decision">) => Cell): (record: AuditRecord) => Cell {
  return (record) => (record.kind === "decision" ? cell(record) : null);
}

function act(cell: (record: Kind<"operator" | "authentication">) => Cell): (record: AuditRecord) => Cell {
  return (record) => (record.kind === "operator" || record.kind === "authentication" ? cell(record) : null);
}

function gap(cell: (record: Kind<"gap">) => Cell): (record: AuditRecord) => Cell {
  return (record) => (record.kind === "gap" ? cell(record) : null);
}

function timeText(at: number): string | number {
  return Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : at;
}
