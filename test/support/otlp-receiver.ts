/**
 * OTLP receiver: accepts traces as a collector does (OTLP/HTTP with the JSON encoding, POST /v1/traces), and keeps the
 * spans.
 *
 * It is strict about the protocol: method, path, content type, ids in hexadecimal, times as text, no unknown fields at
 * the top level. Any other request gets a 400 and is recorded as a complaint.
 */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";

export type ReceivedSpan = Readonly<{
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string;
  /** server: 2, client: 3 */
  kind: number;
  traceState: string;
  attributes: Readonly<Record<string, unknown>>;
  events: readonly Readonly<{ name: string; attributes: Readonly<Record<string, unknown>> }>[];
  /** 0: unset, 1: ok, 2: error */
  statusCode: number;
  durationMs: number;
  resource: Readonly<Record<string, unknown>>;
}>;

export type OtlpReceiver = Readonly<{
  url: string;
  spans: readonly ReceivedSpan[];
  /** The headers of each request that carried spans. */
  headers: readonly IncomingHttpHeaders[];
  complaints: readonly string[];
  [Symbol.asyncDispose](): Promise<void>;
}>;

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const complaints: string[] = [];
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      try {
        if (req.method !== "POST" || req.url !== "/v1/traces") throw new Error(`${req.method} ${req.url}`);
        if (req.headers["content-type"] !== "application/json") throw new Error(`${req.headers["content-type"]}`);
        const body = Buffer.concat(chunks);
        const text = (req.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body).toString("utf8");
        spans.push(...readRequest(JSON.parse(text)));
        headers.push(req.headers);
        res.writeHead(200, { "content-type": "application/json" }).end('{"partialSuccess":{}}');
      } catch (error) {
        complaints.push(String(error));
        res.writeHead(400, { "content-type": "application/json" }).end("{}");
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    headers,
    complaints,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Json = Readonly<Record<string, unknown>>;

/** `ExportTraceServiceRequest` of opentelemetry-proto, in proto3's JSON with OTLP's hexadecimal ids. */
function readRequest(request: Json): ReceivedSpan[] {
  if (Object.keys(request).join() !== "resourceSpans") throw new Error(`keys ${Object.keys(request).join()}`);
  return list(request["resourceSpans"]).flatMap((ofResource) => {
    const resource = attributesOf((ofResource["resource"] as Json)["attributes"]);
    return list(ofResource["scopeSpans"]).flatMap((ofScope) =>
      list(ofScope["spans"]).map((span) => readSpan(span, resource)),
    );
  });
}

function readSpan(span: Json, resource: Json): ReceivedSpan {
  const [start, end] = [nanoseconds(span["startTimeUnixNano"]), nanoseconds(span["endTimeUnixNano"])];
  if (end < start) throw new Error("ends before it begins");
  const status = span["status"] as Json | undefined;
  return {
    name: String(span["name"]),
    traceId: hex(span["traceId"], 32),
    spanId: hex(span["spanId"], 16),
    parentSpanId:
      span["parentSpanId"] === undefined || span["parentSpanId"] === "" ? "" : hex(span["parentSpanId"], 16),
    kind: Number(span["kind"]),
    traceState: String(span["traceState"] ?? ""),
    attributes: attributesOf(span["attributes"]),
    events: list(span["events"] ?? []).map((event) => ({
      name: String(event["name"]),
      attributes: attributesOf(event["attributes"]),
    })),
    statusCode: Number(status?.["code"] ?? 0),
    durationMs: Number(end - start) / 1e6,
    resource,
  };
}

function list(value: unknown): readonly Json[] {
  if (!Array.isArray(value)) throw new Error("no list where one belongs");
  return value;
}

function hex(value: unknown, length: number): string {
  if (typeof value !== "string" || !new RegExp(`^[0-9a-f]{${length}}$`).test(value)) throw new Error(`id ${value}`);
  return value;
}

function nanoseconds(value: unknown): bigint {
  if (typeof value !== "string" && typeof value !== "number") throw new Error(`time ${String(value)}`);
  return BigInt(value);
}

function attributesOf(value: unknown): Record<string, unknown> {
  return Object.fromEntries(list(value ?? []).map((pair) => [String(pair["key"]), anyValue(pair["value"] as Json)]));
}

function anyValue(value: Json): unknown {
  const [kind = ""] = Object.keys(value);
  if (kind === "stringValue" || kind === "boolValue" || kind === "doubleValue") return value[kind];
  if (kind === "intValue") return Number(value[kind]);
  if (kind === "arrayValue") return list((value[kind] as Json)["values"] ?? []).map(anyValue);
  throw new Error(`a value of kind ${kind}`);
}
