/**
 * Formatted sink: gives a sink its records in another format than JSON lines of Cardea, off the request path. Pure.
 *
 * Each record stays one line. Dead letters hold the records as they were, before they were formatted.
 */
import type { SinkFormat } from "../../config/index.ts";
import { type AuditRecord, parseLine } from "../audit-record.ts";
import type { AuditSink } from "../audit-sink.ts";
import { cloudEventOf } from "../cloud-event.ts";
import { ocsfEventOf } from "../ocsf-event.ts";

export function withFormat(sink: AuditSink, options: Readonly<{ format: SinkFormat; cluster: string }>): AuditSink {
  const { format, cluster } = options;
  if (format === "json") return sink;
  const convert = (record: AuditRecord): object =>
    format === "cloudevents" ? cloudEventOf(record, cluster) : ocsfEventOf(record, cluster);
  return {
    name: `${sink.name} as ${format}`,
    ...(sink.batching === undefined ? {} : { batching: sink.batching }),
    write: (batch) => sink.write({ ...batch, bytes: convertLines(batch.bytes, convert) }),
    close: () => sink.close(),
  };
}

function convertLines(bytes: Buffer, convert: (record: AuditRecord) => object): Buffer {
  const lines: string[] = [];
  for (const line of bytes.toString("utf8").split("\n")) {
    if (line === "") continue;
    const record = parseLine(line);
    // The spool holds only what this program wrote, of whatever version: a line that it cannot read stays as it is.
    lines.push(record === undefined ? line : JSON.stringify(convert(record)), "\n");
  }
  return Buffer.from(lines.join(""));
}
