/**
 * OTLP sink: sends batches of records as logs of OpenTelemetry over HTTP, as protobuf or JSON.
 *
 * - The resource is the node: `service.name` is `cardea`, `service.namespace` the cluster, `service.instance.id` the
 *   node.
 * - A partial success names how many records were not accepted, but not which, and forbids to send them again. So the
 *   dead-letter file gets the batch.
 * - An answer of success that is none of OTLP is no success: something else than a collector may answer there.
 */
import { setImmediate as otherWork } from "node:timers/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { OtlpSinkConfig } from "../../config/index.ts";
import { parseLine } from "../audit-record.ts";
import { AuditPartlyRejectedError, type AuditSink, AuditSinkBusyError } from "../audit-sink.ts";
import type { AuditBatch } from "../spool/index.ts";
import type { RecordFormatter } from "./formatted-sink.ts";
import { type OtlpRecord, otlpRecordOf } from "./otlp-record.ts";
import { createSinkClient } from "./sink-client.ts";

export type OtlpLibrary = Pick<
  typeof import("@opentelemetry/otlp-transformer"),
  "JsonLogsSerializer" | "ProtobufLogsSerializer"
>;

/** Records that are converted at once, about a millisecond: a large batch must not delay requests. */
const sliceLines = 64;
const gzipped = promisify<Uint8Array, Buffer>(gzip);
const contentTypes = { protobuf: "application/x-protobuf", json: "application/json" } as const;

export function createOtlpSink(
  config: OtlpSinkConfig,
  options: Readonly<{
    library: OtlpLibrary;
    node: string;
    cluster: string;
    version: string;
    formatRecords: RecordFormatter;
    authority: string | null;
    nowMs: () => number;
  }>,
): AuditSink {
  const { name, endpoint, encoding, compression } = config;
  const { library, node, cluster, version, authority, nowMs } = options;
  const client = createSinkClient({ name, endpoint, authority });
  const serializer = encoding === "protobuf" ? library.ProtobufLogsSerializer : library.JsonLogsSerializer;
  const instrumentationScope = { name: "cardea.audit", version };
  const resource = {
    attributes: {
      "service.name": "cardea",
      "service.namespace": cluster,
      "service.instance.id": node,
      "service.version": version,
    },
  };

  async function recordsIn({ bytes }: AuditBatch): Promise<readonly OtlpRecord[]> {
    const observedMs = nowMs();
    const lines = linesOf(bytes);
    const bodies = linesOf(await options.formatRecords(bytes));
    const records: OtlpRecord[] = [];
    for (const [i, line] of lines.entries()) {
      if (i > 0 && i % sliceLines === 0) await otherWork();
      records.push(otlpRecordOf(parseLine(line) ?? null, bodies[i] ?? line, observedMs));
    }
    return records;
  }

  return {
    name,
    batching: config.batch,
    async write(batch) {
      const records = await recordsIn(batch);
      const request = records.map((record) => ({ ...record, resource, instrumentationScope }));
      const content = serializer.serializeRequest(request as never); // it reads no other fields
      if (content === undefined) throw new TypeError("the records cannot be serialized");
      const answer = await client.post(compression === "gzip" ? await gzipped(content) : content, {
        "content-type": contentTypes[encoding],
        ...(compression === "gzip" ? { "content-encoding": "gzip" } : {}),
      });
      const rejected = answer === null ? null : rejectedIn(answer);
      if (rejected === null)
        throw new AuditSinkBusyError(name, {
          why: "the answer of its receiver was cut, or is not of OTLP; check its address in audit.sinks",
          retryAfterMs: 0,
        });
      if (rejected > 0)
        throw new AuditPartlyRejectedError(name, {
          rejected: Math.min(rejected, records.length),
          why: "its receiver answers with a partial success",
        });
    },
    close: () => client.close(),
  };

  /** @returns null if it is not an answer of OTLP */
  function rejectedIn(answer: Buffer): number | null {
    try {
      // The serializer for JSON accepts any text.
      const parsed: unknown =
        encoding === "json" && answer.length > 0
          ? JSON.parse(answer.toString("utf8"))
          : serializer.deserializeResponse(answer);
      return rejectedOf(parsed);
    } catch {
      return null;
    }
  }
}

/** A 64-bit number is text in JSON. */
function rejectedOf(answer: unknown): number | null {
  if (typeof answer !== "object" || answer === null || Array.isArray(answer)) return null;
  if (!("partialSuccess" in answer)) return 0;
  const { partialSuccess } = answer;
  if (typeof partialSuccess !== "object" || partialSuccess === null) return 0;
  const { rejectedLogRecords = 0 } = partialSuccess as Readonly<{ rejectedLogRecords?: unknown }>;
  const rejected = Number(rejectedLogRecords);
  return Number.isSafeInteger(rejected) && rejected >= 0 ? rejected : null;
}

function linesOf(bytes: Buffer): string[] {
  const lines = bytes.toString("utf8").split("\n");
  lines.pop(); // after the last line end
  return lines;
}
