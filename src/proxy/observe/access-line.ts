/**
 * Access line: one line of JSON for one request, with the fields that the configuration names
 * (docs/pomerium-behaviour.md §7.2).
 *
 * Pure. Never in a line: a session handle, whether in the query or in a header; cookies; credentials of any kind. Texts of a
 * caller are escaped as JSON, so that nobody writes a line of their own.
 */
import type { AccessLogField } from "../../config/index.ts";
import { stripSessionQuery } from "../headers/upstream-headers.ts";
import { kindOf } from "../message/exchange-kind.ts";
import { responseCodeDetails } from "../reply/failures.ts";
import type { Visit } from "../request/request-context.ts";
import { quote, shownHeaders, showsHeader, stamps, withoutQuery } from "./log-text.ts";

export type AccessFacts = Readonly<{
  visit: Visit;
  status: number;
  durationMs: number;
  upstreamMs: number | null;
  /** Milliseconds since 1970. */
  at: number;
  /** As the upstream is told. */
  forwardedFor: string;
}>;

export type AccessLine = (facts: AccessFacts) => string;

/** @returns makes a line without its end; undefined: no line is wanted */
export function compileAccessLine(names: readonly AccessLogField[]): AccessLine | undefined {
  if (names.length === 0) return undefined;
  const fields = names.map((name) => ({ key: `,${JSON.stringify(name)}:`, value: fieldOf(name) }));
  const stamp = stamps();
  return (facts) => {
    // `service` is Pomerium's, so that what searches its log finds these lines.
    const level = isProbe(facts.visit) ? "debug" : "info";
    let line = `{"level":"${level}","service":"envoy","time":"${stamp(facts.at)}"`;
    for (const { key, value } of fields) {
      const text = value(facts);
      if (text !== undefined) line += key + text;
    }
    return `${line},"message":"http-request"}`;
  };
}

/** Asked every few seconds by whatever watches over this node. */
export function isProbe({ request }: Pick<Visit, "request">): boolean {
  return request !== null && (request.path === "/ping" || request.path === "/healthz");
}

/** Text of JSON; undefined leaves the field out. */
type Value = (facts: AccessFacts) => string | undefined;

const header =
  (name: string): Value =>
  ({ visit }) =>
    quote(visit.request?.headers[name] ?? "");

function fieldOf(name: AccessLogField): Value {
  switch (name) {
    case "authority":
      return ({ visit }) => quote(authorityOf(visit));
    case "client-certificate":
      return ({ visit }) => quote(visit.downstream.certificate?.fingerprint ?? "");
    case "cluster-stat-name":
      return ({ visit }) => quote(visit.plan?.route.name ?? "");
    case "duration":
      return ({ durationMs }) => String(durationMs);
    case "failure":
      return ({ visit }) => (visit.failure === null ? undefined : quote(visit.failure));
    case "forwarded-for":
      return ({ forwardedFor }) => quote(forwardedFor);
    case "headers":
      return ({ visit }) => JSON.stringify(shownHeaders(visit.request?.headers ?? {}));
    case "ip":
      return ({ visit }) => quote(visit.ip);
    case "kind":
      return ({ visit }) => quote(kindOf(visit.downstream));
    case "method":
      return ({ visit }) => quote(visit.downstream.head.method);
    case "path":
      return ({ visit }) => quote(visit.request?.rawPath ?? "");
    case "query":
      return ({ visit }) => quote(shownQuery(visit));
    case "received":
      return ({ visit }) => String(visit.bytesReceived);
    case "referer":
      return ({ visit }) => quote(withoutQuery(visit.request?.headers["referer"] ?? ""));
    case "request-id":
      return ({ visit }) => quote(visit.requestId);
    case "response-code":
      return ({ status }) => String(status);
    case "response-code-details":
      return ({ visit }) =>
        quote(responseCodeDetails(visit.failure, { answered: visit.answeredAt > 0, switched: visit.switched }));
    case "route-id":
      return ({ visit }) => quote(visit.plan?.route.id ?? "");
    case "size":
      return ({ visit }) => String(visit.bytes);
    case "span-id":
      return ({ visit }) => (visit.trace === null ? undefined : quote(visit.trace.spanId));
    case "trace-id":
      return ({ visit }) => (visit.trace === null ? undefined : quote(visit.trace.traceId));
    case "upstream-cluster":
      return ({ visit }) => quote(visit.plan === null ? "" : `route-${visit.plan.route.id}`);
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

function authorityOf({ request, tunnel }: Visit): string {
  if (tunnel !== null) return `${tunnel.at.host}:${tunnel.at.port}`;
  return request?.headers["host"] ?? "";
}

/** Those of our own endpoints carry codes and signed links of a sign-in, and are nobody's to analyse. */
function shownQuery({ request, plan }: Visit): string {
  return request === null || (plan === null && carriesSignIn.test(request.path))
    ? ""
    : stripSessionQuery(request.search).slice(1);
}
const carriesSignIn = /^\/(?:\.pomerium|\.well-known\/pomerium|oauth2)(?:\/|$)/;
