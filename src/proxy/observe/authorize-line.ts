/**
 * Authorize line: one line of JSON for one decision about a request, in Pomerium's format (docs/pomerium-behaviour.md
 * §7.1). Pure.
 *
 * - A line never contains credentials, nor a header whose name looks like that of a credential.
 * - This log is for tools that read Pomerium's log. The decision records (src/audit) contain more, and are chained.
 */
import type { DecisionRecord, Principal, RuleSetOutcomes } from "../../auth/index.ts";
import type { AuthorizeLogField, RouteConfig } from "../../config/index.ts";
import { stripSessionQuery } from "../headers/upstream-headers.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import { createTimestampFormatter, type JsonText, quoteJson, shownHeaders, showsHeader } from "./log-text.ts";

export type AuthorizeLogEntry = Readonly<{
  record: DecisionRecord;
  /** Null: policy was not evaluated. */
  sides: RuleSetOutcomes | null;
  principal: Principal | null;
  route: RouteConfig | null;
  request: Pick<CanonicalRequest, "search" | "headers"> | null;
}>;

type Value = (facts: AuthorizeLogEntry) => JsonText | undefined;

/** @returns a function that makes a line without its line end */
export function compileAuthorizeLine(names: readonly AuthorizeLogField[]): (facts: AuthorizeLogEntry) => string {
  const fields = names.map((name) => ({ key: `,${JSON.stringify(name)}:`, value: fieldOf(name) }));
  const stamp = createTimestampFormatter();
  return (facts) => {
    let line = `{"level":"info","service":"authorize","time":"${stamp(facts.record.at)}"`;
    for (const { key, value } of fields) {
      const text = value(facts);
      if (text !== undefined) line += key + text;
    }
    return `${line},${sidesOf(facts)},"message":"authorize check"}`;
  };
}

/** Whether the record gets a line: no re-decision, no malformed request, and none that this node could not decide. */
export function isCheck({ result, occasion }: DecisionRecord): boolean {
  return occasion === "request" && result !== "bad_request" && result !== "unavailable";
}

/**
 * Both sides and their reasons, as Pomerium names them. Without a policy result, a request without a route is a denial
 * for that reason; any other request was not allowed.
 */
function sidesOf({ record: { result, reasons }, sides }: AuthorizeLogEntry): string {
  if (sides !== null) {
    const { allow, deny } = sides;
    return `${sideText("allow", allow.met, allow.reasons.words)},${sideText("deny", deny.met, deny.reasons.words)}`;
  }
  if (result === "not_found") return `${sideText("allow", false, [])},${sideText("deny", true, reasons)}`;
  return `${sideText("allow", false, reasons)},${sideText("deny", false, [])}`;
}

function sideText(side: "allow" | "deny", isMet: boolean, reasons: readonly string[]): string {
  return `"${side}":${isMet},"${side}-why-${isMet}":${JSON.stringify(reasons)}`;
}

function fieldOf(name: AuthorizeLogField): Value {
  switch (name) {
    case "request-id":
    case "check-request-id":
      return ({ record }) => quoteJson(record.requestId);
    case "method":
      return ({ record }) => quoteJson(record.method);
    case "path":
      return ({ record }) => quoteJson(record.path);
    case "host":
      return ({ record }) => quoteJson(record.host);
    case "ip":
      return ({ record }) => quoteJson(record.ip);
    case "session-id":
      return ({ record }) => (record.sessionId === null ? undefined : quoteJson(record.sessionId));
    case "user":
      return ({ principal }) => quoteJson(principal?.profile?.subject ?? "");
    case "email":
      return ({ principal }) => quoteJson(principal?.profile?.email ?? "");
    case "removed-groups-count":
      return ({ principal, route }) => removedGroups(principal, route);
    case "route-id":
    case "envoy-route-id":
      return ({ record }) => (record.routeId === null ? undefined : quoteJson(record.routeId));
    case "route-checksum":
    case "envoy-route-checksum":
      return ({ record }) => quoteJson(record.configHash); // a route is decided about as one configuration says
    case "cluster-stat-name":
      return ({ route }) => quoteJson(route?.name ?? "");
    case "query":
      return ({ request }) => quoteJson(stripSessionQuery(request?.search ?? "").slice(1));
    case "headers":
      return ({ request }) => JSON.stringify(shownHeaders(request?.headers ?? {})) as JsonText;
    case "id-token-claims":
      return ({ principal }) => (principal === null ? undefined : (JSON.stringify(principal.claims) as JsonText));
    // Impersonation does not exist here, and the request path has no service accounts.
    case "impersonate-session-id":
    case "impersonate-user-id":
    case "impersonate-email":
    case "service-account-id":
      return () => undefined;
    default: {
      const wanted = name.slice("headers.".length).toLowerCase();
      return showsHeader(wanted) ? ({ request }) => quoteJson(request?.headers[wanted] ?? "") : () => undefined;
    }
  }
}

/** Number of the person's groups that the assertion leaves out. Undefined: the route filters none. */
function removedGroups(principal: Principal | null, route: RouteConfig | null): JsonText | undefined {
  const filter = new Set(route?.jwtGroupsFilter ?? []);
  if (principal === null || filter.size === 0) return undefined;
  return String([...principal.groups].filter((group) => !filter.has(group)).length) as JsonText;
}
