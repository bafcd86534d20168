/**
 * Formatted sink: gives a sink its records in another format than JSON lines of Cardea, off the request path.
 *
 * Each record stays one line. Dead letters hold the records as they were, before they were formatted.
 */
import { setImmediate as otherWork } from "node:timers/promises";
import type { SinkFormat } from "../../config/index.ts";
import { type AuditRecord, parseLine } from "../audit-record.ts";
import type { AuditSink } from "../audit-sink.ts";
import { cloudEventOf } from "../cloud-event.ts";
import { ocsfEventOf } from "../ocsf-event.ts";

/** Converts lines of records to lines of a format. */
export type RecordFormatter = (lines: Buffer) => Promise<Buffer>;

type Format = Readonly<{ format: SinkFormat; cluster: string }>;

/** Bytes that are converted at once: a large batch must not delay requests. */
const sliceBytes = 65_536;

export function withFormat(sink: AuditSink, format: Format): AuditSink {
  if (format.format === "json") return sink;
  const formatRecords = createRecordFormatter(format);
  return {
    name: `${sink.name} as ${format.format}`,
    ...(sink.batching === undefined ? {} : { batching: sink.batching }),
    ...(sink.sync === undefined ? {} : { sync: () => sink.sync?.() ?? Promise.resolve() }),
    write: async (batch) => sink.write({ ...batch, bytes: await formatRecords(batch.bytes) }),
    close: () => sink.close(),
  };
}

export function createRecordFormatter({ format, cluster }: Format): RecordFormatter {
  if (format === "json") return async (lines) => lines;
  const convert = (record: AuditRecord): object =>
    format === "cloudevents" ? cloudEventOf(record, cluster) : ocsfEventOf(record, cluster);
  return async (lines) => {
    const parts: Buffer[] = [];
    for (let from = 0; from < lines.length; ) {
      const end = lines.indexOf(0x0a, Math.min(from + sliceBytes, lines.length) - 1) + 1;
      const to = end === 0 ? lines.length : end;
      if (from > 0) await otherWork();
      parts.push(convertLines(lines.subarray(from, to), convert));
      from = to;
    }
    return Buffer.concat(parts);
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
