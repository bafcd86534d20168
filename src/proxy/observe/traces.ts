/**
 * Traces: what the data path needs of whoever records them (opentelemetry-client.ts). W3C's trace context is read
 * strictly.
 *
 * Pure. A `traceparent` that is not one is as good as none; its `tracestate` goes with it (W3C Trace Context §4.3).
 */
import { type TraceText, traceInTarget, traceText } from "../../auth/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import type { FailureReason } from "../reply/failures.ts";

export type TraceContext = Readonly<{ traceId: string; spanId: string; sampled: boolean; state: string | null }>;

export type TraceHead = Readonly<{
  method: string;
  /** Of the caller, if it has one. */
  parent: TraceContext | null;
  host: string;
  path: string;
  protocolVersion: string;
  ip: string;
  userAgent: string;
  requestId: string;
}>;

/** The span of one request; its call to an upstream is one within. */
export type RequestTrace = Readonly<{
  traceId: string;
  spanId: string;
  routed(routeId: string, routeName: string, scheme: "http" | "https"): void;
  decided(result: string, reasons: readonly string[]): void;
  /** Its own place in the trace, for what follows from it elsewhere. */
  text(): TraceText;
  /** Begins the call to an upstream. @returns names and values in turn, for its head */
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

/** What a caller says; of a browser that is led through a sign-in, what the addresses on its way say. */
function parentOf(request: CanonicalRequest): TraceContext | null {
  const { headers } = request;
  if (headers["traceparent"] !== undefined) return readTraceContext(headers["traceparent"], headers["tracestate"]);
  const led = signInTraceOf(request);
  return led === null ? null : readTraceContext(led.parent, led.state === "" ? undefined : led.state);
}

function signInTraceOf({ path, search }: CanonicalRequest): TraceText | null {
  return path.startsWith("/.pomerium/") || path === "/oauth2/callback" ? traceInTarget(path, search) : null;
}

/** The trace that a request belongs to, whether it is recorded here or not; for redirects that lead on. */
export function traceTextOf(trace: RequestTrace | null, request: CanonicalRequest): TraceText | null {
  if (trace !== null) return trace.text();
  return traceText(request.headers["traceparent"], request.headers["tracestate"]) ?? signInTraceOf(request);
}

/** The head of a call with its own place in the trace instead of the caller's. */
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
