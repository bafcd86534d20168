/**
 * Access line: one line of JSON for one request, with the fields that the configuration names (pomerium.md §8.2).
 *
 * Pure. Never in a line: a session handle, whether in the query or in a header; cookies; credentials of any kind. Texts of a
 * caller are escaped as JSON, so that nobody writes a line of their own.
 */
import type { AccessLogField } from "../config/index.ts";
import { responseCodeDetails } from "./failures.ts";
import { kindOf } from "./traffic.ts";
import { stripSessionQuery } from "./upstream-headers.ts";
import type { Visit } from "./visit.ts";

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
      return ({ visit }) => JSON.stringify(shownHeaders(visit));
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
      return secretHeaders.has(wanted) ? () => undefined : header(wanted);
    }
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON escapes
const needsEscape = /["\\\u0000-\u001f\u007f-\uffff]/;

/** As JSON. Hardly any text needs more than its quotes. */
function quote(text: string): string {
  return needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`;
}

/** ISO 8601; the part down to the second is made once a second. */
function stamps(): (at: number) => string {
  let second = Number.NaN;
  let prefix = "";
  return (at) => {
    const now = Math.floor(at / 1_000);
    if (now !== second) {
      second = now;
      prefix = new Date(now * 1_000).toISOString().slice(0, -4);
    }
    return `${prefix}${String(Math.floor(at) - now * 1_000).padStart(3, "0")}Z`;
  };
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

function withoutQuery(url: string): string {
  return url.split(/[?#]/, 1)[0] ?? "";
}

const secretHeaders: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "proxy-authorization",
  "sec-websocket-key",
  "sec-websocket-protocol", // of Kubernetes and others, a token stands among them
  "x-pomerium-authorization",
  "x-pomerium-jwt-assertion",
  "x-pomerium-jwt-assertion-for",
]);

/** Names that services behind us give to credentials of their own. */
const secretName = /token|secret|passw|credential|session|signature|cookie|authorization|api-?key|csrf|xsrf/;

function shownHeaders({ request }: Visit): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, value] of Object.entries(request?.headers ?? {})) {
    if (secretHeaders.has(name) || secretName.test(name)) continue;
    shown[name] = name === "referer" ? withoutQuery(value ?? "") : (value ?? "");
  }
  return shown;
}
