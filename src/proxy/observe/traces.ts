/**
 * Traces: the interface by which the data path records spans (implemented by opentelemetry-client.ts), and a strict
 * parser of W3C trace context. Pure.
 *
 * An invalid `traceparent` is ignored, and its `tracestate` with it (W3C Trace Context §4.3).
 */
import { isProviderCallback, type TraceText, traceInTarget, traceText } from "../../auth/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import type { FailureReason } from "../reply/failures.ts";

export type TraceContext = Readonly<{ traceId: string; spanId: string; sampled: boolean; state: string | null }>;

export type TraceHead = Readonly<{
  method: string;
  /** The caller's trace context; null: it sent none. */
  parent: TraceContext | null;
  host: string;
  path: string;
  protocolVersion: string;
  ip: string;
  userAgent: string;
  requestId: string;
}>;

/** The span of one request; its call to an upstream is a child span. */
export type RequestTrace = Readonly<{
  traceId: string;
  spanId: string;
  routed(routeId: string, routeName: string, scheme: "http" | "https"): void;
  decided(result: string, reasons: readonly string[]): void;
  /** The trace context of this span, for later requests of the same trace. */
  text(): TraceText;
  /** Starts the span of a call to an upstream. @returns trace headers for the call; names and values alternate */
  upstreamBegins(host: string): readonly string[];
  upstreamEnds(status: number | null): void;
  ends(of: Readonly<{ status: number; failure: FailureReason | null; bytes: number; bytesReceived: number }>): void;
}>;

export type Tracing = Readonly<{ begin(head: TraceHead): RequestTrace }>;

export function beginTrace(
  context: Readonly<{ downstream: Downstream; ip: string; requestId: string }>,
  request: CanonicalRequest,
  tracing: Tracing,
): RequestTrace {
  const { headers, hostname: host, rawPath: path } = request;
  return tracing.begin({
    method: request.method,
    parent: parentOf(request),
    host,
    path,
    protocolVersion: context.downstream.head.httpVersion,
    ip: context.ip,
    userAgent: headers["user-agent"] ?? "",
    requestId: context.requestId,
  });
}

/** The caller's trace context: from its headers, or during a browser's sign-in from the URL. */
function parentOf(request: CanonicalRequest): TraceContext | null {
  const { headers } = request;
  if (headers["traceparent"] !== undefined) return readTraceContext(headers["traceparent"], headers["tracestate"]);
  const led = signInTraceOf(request);
  return led === null ? null : readTraceContext(led.parent, led.state === "" ? undefined : led.state);
}

function signInTraceOf({ path, search }: CanonicalRequest): TraceText | null {
  return path.startsWith("/.pomerium/") || isProviderCallback(path) ? traceInTarget(path, search) : null;
}

/** The trace context to add to a redirect, whether this node records the trace or not. */
export function traceTextOf(trace: RequestTrace | null, request: CanonicalRequest): TraceText | null {
  if (trace !== null) return trace.text();
  return traceText(request.headers["traceparent"], request.headers["tracestate"]) ?? signInTraceOf(request);
}

/** Replaces the caller's trace headers with those of the call's own span. */
export function withTraceContext(lines: readonly string[], place: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i] ?? "";
    const lower = name.length === 11 || name.length === 10 ? name.toLowerCase() : name;
    if (lower !== "traceparent" && lower !== "tracestate") kept.push(name, lines[i + 1] ?? "");
  }
  return kept.concat(place);
}

const traceparentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const stateLengthMax = 512;

export function readTraceContext(traceparent: string | undefined, tracestate: string | undefined): TraceContext | null {
  const [, version, traceId = "", spanId = "", flags = "", rest] =
    traceparentPattern.exec(traceparent?.trim() ?? "") ?? [];
  if (version === undefined || version === "ff" || (version === "00" && rest !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  const state = tracestate === undefined || tracestate.length > stateLengthMax ? null : tracestate;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1, state };
}
