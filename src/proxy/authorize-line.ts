/**
 * Authorize line: one line of JSON for one decision about a request, in Pomerium's words (docs/pomerium-behaviour.md
 * §7.1).
 *
 * Pure. The decision records (src/audit) hold more, and are chained; this is for what reads Pomerium's log. Never in a line:
 * credentials of any kind, nor what is called like one.
 */
import type { DecisionRecord, Principal } from "../auth/index.ts";
import type { AuthorizeLogField, RouteConfig } from "../config/index.ts";
import type { CanonicalRequest } from "./canonical.ts";
import { type JsonText, quote, shownHeaders, showsHeader, stamps } from "./log-text.ts";
import { stripSessionQuery } from "./upstream-headers.ts";

export type AuthorizeFacts = Readonly<{
  record: DecisionRecord;
  principal: Principal | null;
  route: RouteConfig | null;
  request: Pick<CanonicalRequest, "search" | "headers"> | null;
}>;

type Value = (facts: AuthorizeFacts) => JsonText | undefined;

/** @returns makes a line without its end */
export function compileAuthorizeLine(names: readonly AuthorizeLogField[]): (facts: AuthorizeFacts) => string {
  const fields = names.map((name) => ({ key: `,${JSON.stringify(name)}:`, value: fieldOf(name) }));
  const stamp = stamps();
  return (facts) => {
    let line = `{"level":"info","service":"authorize","time":"${stamp(facts.record.at)}"`;
    for (const { key, value } of fields) {
      const text = value(facts);
      if (text !== undefined) line += key + text;
    }
    return `${line},${sidesOf(facts.record)},"message":"authorize check"}`;
  };
}

/** Whether policy was asked at all: what could not be read, and what was not known well enough, is no decision. */
export function isCheck({ result, occasion }: DecisionRecord): boolean {
  return occasion === "request" && result !== "bad_request" && result !== "unavailable";
}

function sidesOf({ result, reasons, trace }: DecisionRecord): string {
  const met = (side: "allow" | "deny"): boolean =>
    trace?.rules.some(({ rule, met: isMet }) => isMet && sideOf(rule) === side) === true;
  const deny = result !== "permit" && met("deny");
  const allow = result === "permit" || met("allow");
  const why = (said: boolean): string => JSON.stringify(said ? reasons : []);
  const allowWhy = `"allow":${allow},"allow-why-${allow}":${why(!deny)}`;
  return `${allowWhy},"deny":${deny},"deny-why-${deny}":${why(deny)}`;
}

function sideOf(rule: string): "allow" | "deny" {
  return rule === "downstream_mtls" || /(?:^|[.\]])deny(?:\.|$)/.test(rule) ? "deny" : "allow";
}

function fieldOf(name: AuthorizeLogField): Value {
  switch (name) {
    case "request-id":
    case "check-request-id":
      return ({ record }) => quote(record.requestId);
    case "method":
      return ({ record }) => quote(record.method);
    case "path":
      return ({ record }) => quote(record.path);
    case "host":
      return ({ record }) => quote(record.host);
    case "ip":
      return ({ record }) => quote(record.ip);
    case "session-id":
      return ({ record }) => (record.sessionId === null ? undefined : quote(record.sessionId));
    case "user":
      return ({ principal }) => quote(principal?.profile?.subject ?? "");
    case "email":
      return ({ principal }) => quote(principal?.profile?.email ?? "");
    case "removed-groups-count":
      return ({ principal, route }) => removedGroups(principal, route);
    case "route-id":
    case "envoy-route-id":
      return ({ record }) => (record.routeId === null ? undefined : quote(record.routeId));
    case "route-checksum":
    case "envoy-route-checksum":
      return ({ record }) => quote(record.configHash); // a route is decided about as one configuration says
    case "cluster-stat-name":
      return ({ route }) => quote(route?.name ?? "");
    case "query":
      return ({ request }) => quote(stripSessionQuery(request?.search ?? "").slice(1));
    case "headers":
      return ({ request }) => JSON.stringify(shownHeaders(request?.headers ?? {})) as JsonText;
    case "id-token-claims":
      return ({ principal }) => (principal === null ? undefined : (JSON.stringify(principal.claims) as JsonText));
    // Nobody acts for somebody else here, and there are no service accounts on the request path.
    case "impersonate-session-id":
    case "impersonate-user-id":
    case "impersonate-email":
    case "service-account-id":
      return () => undefined;
    default: {
      const wanted = name.slice("headers.".length).toLowerCase();
      return showsHeader(wanted) ? ({ request }) => quote(request?.headers[wanted] ?? "") : () => undefined;
    }
  }
}

/** How many of the person's groups the assertion leaves out. */
function removedGroups(principal: Principal | null, route: RouteConfig | null): JsonText | undefined {
  const filter = new Set(route?.jwtGroupsFilter ?? []);
  if (principal === null || filter.size === 0) return undefined;
  return String([...principal.groups].filter((group) => !filter.has(group)).length) as JsonText;
}
