/**
 * Access line: one line of JSON for one request, with the fields that the configuration names
 * (docs/pomerium-behaviour.md §7.2). Pure.
 *
 * - A line never contains credentials, cookies or a session handle, whether in the query or in a header.
 * - Text from a caller is escaped as JSON, so a caller cannot forge a line.
 */
import type { AccessLogField, RouteConfig } from "../../config/index.ts";
import { stripSessionQuery } from "../headers/upstream-headers.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { kindOf } from "../message/exchange-kind.ts";
import { isProbePath } from "../message/reserved-paths.ts";
import { type FailureReason, responseCodeDetails } from "../reply/failures.ts";
import type { TunnelRequest } from "../routing/tunnel-request.ts";
import { createTimestampFormatter, quoteJson, shownHeaders, showsHeader, withoutQuery } from "./log-text.ts";
import type { RequestTrace } from "./traces.ts";

/** The part of a request's context that a line reads. */
export type AccessContext = ForwardedCounts &
  Readonly<{
    downstream: Downstream;
    requestId: string;
    ip: string;
    request: CanonicalRequest | null;
    plan: Readonly<{ route: Pick<RouteConfig, "id" | "name"> }> | null;
    trace: Pick<RequestTrace, "traceId" | "spanId"> | null;
    tunnel: TunnelRequest | null;
    upgraded: boolean;
  }>;

/** Byte counts exclude heads. `answeredAt` 0: no upstream has responded. */
type ForwardedCounts = Readonly<{
  bytes: number;
  bytesReceived: number;
  answeredAt: number;
  failure: FailureReason | null;
}>;

export type AccessLogEntry = Readonly<{
  context: AccessContext;
  status: number;
  durationMs: number;
  upstreamMs: number | null;
  /** Unix time in ms. */
  at: number;
  /** The `X-Forwarded-For` that the upstream gets. */
  forwardedFor: string;
}>;

export type AccessLine = (facts: AccessLogEntry) => string;

/** @returns a function that makes a line without its line end; undefined: the configuration names no field */
export function compileAccessLine(names: readonly AccessLogField[]): AccessLine | undefined {
  if (names.length === 0) return undefined;
  const fields = names.map((name) => ({ key: `,${JSON.stringify(name)}:`, value: fieldOf(name) }));
  const stamp = createTimestampFormatter();
  return (facts) => {
    // `service` has Pomerium's value, so that existing log searches find these lines.
    const level = isProbe(facts.context) ? "debug" : "info";
    let line = `{"level":"${level}","service":"envoy","time":"${stamp(facts.at)}"`;
    for (const { key, value } of fields) {
      const text = value(facts);
      if (text !== undefined) line += key + text;
    }
    return `${line},"message":"http-request"}`;
  };
}

/** Whether the request is a health probe, which load balancers send every few seconds. */
export function isProbe({ request }: Pick<AccessContext, "request">): boolean {
  return request !== null && isProbePath(request.path);
}

/** Returns the field's value as JSON; undefined leaves the field out. */
type Value = (facts: AccessLogEntry) => string | undefined;

const header =
  (name: string): Value =>
  ({ context }) =>
    quoteJson(context.request?.headers[name] ?? "");

function fieldOf(name: AccessLogField): Value {
  switch (name) {
    case "authority":
      return ({ context }) => quoteJson(authorityOf(context));
    case "client-certificate":
      return ({ context }) => quoteJson(context.downstream.certificate?.fingerprint ?? "");
    case "cluster-stat-name":
      return ({ context }) => quoteJson(context.plan?.route.name ?? "");
    case "duration":
      return ({ durationMs }) => String(durationMs);
    case "failure":
      return ({ context }) => (context.failure === null ? undefined : quoteJson(context.failure));
    case "forwarded-for":
      return ({ forwardedFor }) => quoteJson(forwardedFor);
    case "headers":
      return ({ context }) => JSON.stringify(shownHeaders(context.request?.headers ?? {}));
    case "ip":
      return ({ context }) => quoteJson(context.ip);
    case "kind":
      return ({ context }) => quoteJson(kindOf(context.downstream));
    case "method":
      return ({ context }) => quoteJson(context.downstream.head.method);
    case "path":
      return ({ context }) => quoteJson(context.request?.rawPath ?? "");
    case "query":
      return ({ context }) => quoteJson(shownQuery(context));
    case "received":
      return ({ context }) => String(context.bytesReceived);
    case "referer":
      return ({ context }) => quoteJson(withoutQuery(context.request?.headers["referer"] ?? ""));
    case "request-id":
      return ({ context }) => quoteJson(context.requestId);
    case "response-code":
      return ({ status }) => String(status);
    case "response-code-details":
      return ({ context }) =>
        quoteJson(
          responseCodeDetails(context.failure, { answered: context.answeredAt > 0, switched: context.upgraded }),
        );
    case "route-id":
      return ({ context }) => quoteJson(context.plan?.route.id ?? "");
    case "size":
      return ({ context }) => String(context.bytes);
    case "span-id":
      return ({ context }) => (context.trace === null ? undefined : quoteJson(context.trace.spanId));
    case "trace-id":
      return ({ context }) => (context.trace === null ? undefined : quoteJson(context.trace.traceId));
    case "upstream-cluster":
      return ({ context }) => quoteJson(context.plan === null ? "" : `route-${context.plan.route.id}`);
    case "upstream-duration":
      return ({ upstreamMs }) => (upstreamMs === null ? undefined : String(upstreamMs));
    case "user-agent":
      return header("user-agent");
    default: {
      const wanted = name.slice("headers.".length).toLowerCase();
      return showsHeader(wanted) ? header(wanted) : () => undefined;
    }
  }
}

function authorityOf({ request, tunnel }: AccessContext): string {
  if (tunnel !== null) return `${tunnel.at.host}:${tunnel.at.port}`;
  return request?.headers["host"] ?? "";
}

/** The query without secrets. Queries of our own endpoints carry sign-in codes and signed links, so they are hidden. */
function shownQuery({ request, plan }: AccessContext): string {
  return request === null || (plan === null && carriesSignIn.test(request.path))
    ? ""
    : stripSessionQuery(request.search).slice(1);
}
const carriesSignIn = /^\/(?:\.pomerium|\.well-known\/pomerium|oauth2)(?:\/|$)/;
