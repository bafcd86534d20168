/**
 * Upstream settings of a route: host, headers and TLS.
 *
 * Pure. Refuses headers that identify the caller or change the framing: only the proxy may set those.
 */
import { RE2JS } from "re2js";
import type { RouteConfig } from "../config.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { parseHeaderTemplate } from "../values/header-template.ts";
import type { RouteContext } from "./route-context.ts";

type HostRules = Pick<RouteConfig, "hostRewrite" | "hostRewriteHeader" | "hostPathRegexRewrite" | "preserveHostHeader">;

/** The first key wins (docs/pomerium-behaviour.md §5.1). Each other key is a warning. */
export function resolveHost(context: RouteContext): HostRules {
  const { route, report } = context;
  const [spelling = "", own] =
    Object.entries(route.set_request_headers).find(([name]) => name.toLowerCase() === "host") ?? [];
  if (own !== undefined && !/^[A-Za-z0-9._-]+(?::\d{1,5})?$/.test(own))
    report.error(
      ["set_request_headers", spelling],
      "is not a host",
      "write one such as app.internal, or use host_rewrite_header",
    );
  const rewrite = route.host_rewrite ?? own;
  const ways = [
    ["host_rewrite", rewrite !== undefined],
    ["host_rewrite_header", route.host_rewrite_header !== undefined],
    ["host_path_regex_rewrite_pattern", route.host_path_regex_rewrite_pattern !== undefined],
    ["preserve_host_header", route.preserve_host_header],
  ] as const;
  const [winner, ...rest] = ways.filter(([, given]) => given).map(([key]) => key);
  for (const key of rest) report.warn([key], `has no effect with ${winner}`, "keep one of them", "key");
  const header = winner === "host_rewrite_header" ? (route.host_rewrite_header ?? null) : null;
  if (header !== null && !/^[A-Za-z0-9-]{1,200}$/.test(header))
    report.error(["host_rewrite_header"], "is not a header name", "write one such as X-Upstream-Host");
  const byPath = resolvePattern(context, {
    pattern: "host_path_regex_rewrite_pattern",
    substitution: "host_path_regex_rewrite_substitution",
  });
  return {
    hostRewrite: rewrite ?? null,
    hostRewriteHeader: header?.toLowerCase() ?? null,
    hostPathRegexRewrite: winner === "host_path_regex_rewrite_pattern" ? byPath : null,
    preserveHostHeader: winner === "preserve_host_header",
  };
}

type PatternKeys =
  | { pattern: "regex_rewrite_pattern"; substitution: "regex_rewrite_substitution" }
  | { pattern: "host_path_regex_rewrite_pattern"; substitution: "host_path_regex_rewrite_substitution" };

/** A pattern and its substitution. A substitution that names a group missing from the pattern is an error. */
export function resolvePattern(
  { route, report, failed }: RouteContext,
  keys: PatternKeys,
): Readonly<{ pattern: string; substitution: string }> | null {
  const pattern = route[keys.pattern];
  const substitution = route[keys.substitution];
  if (pattern === undefined) {
    if (substitution !== undefined && !failed.has(keys.pattern))
      report.error([keys.substitution], `is set without ${keys.pattern}`, "write the pattern too", "key");
    return null;
  }
  const groups = RE2JS.compile(pattern).groupCount();
  const beyond = [...(substitution ?? "").matchAll(/\\(\d+)/g)].find(([, group]) => Number(group) > groups);
  if (beyond !== undefined)
    report.error(
      [keys.substitution],
      `refers to group ${beyond[1]}, and the pattern has ${groups}`,
      "correct the number",
    );
  return { pattern, substitution: substitution ?? "" };
}

/** Headers that frame a message. Only the proxy may set them. */
export const framingHeaders: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

export function resolveRequestHeaders({ route, report, globals }: RouteContext): Readonly<Record<string, string>> {
  const identity = new Set([
    "x-pomerium-jwt-assertion",
    "x-pomerium-jwt-assertion-for",
    ...Object.keys(globals.jwt_claims_headers),
  ]);
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(route.set_request_headers)) {
    const folded = name.toLowerCase();
    if (folded === "host") continue;
    if (framingHeaders.has(folded))
      report.error(["set_request_headers", name], "is a header that the proxy itself must set", "remove it", "key");
    // Pomerium's documentation sets the assertion this way. With identity headers on, the proxy already sends it.
    if (folded === "x-pomerium-jwt-assertion" && isAssertion(value)) {
      if (!(route.pass_identity_headers ?? globals.pass_identity_headers)) kept[name] = value;
      continue;
    }
    if (identity.has(folded))
      report.error(
        ["set_request_headers", name],
        "states who the visitor is, and only the proxy may do that",
        "use pass_identity_headers",
        "key",
      );
    for (const reference of parseHeaderTemplate(value).unknown) {
      report.warn(
        ["set_request_headers", name],
        `${reference} is not a known reference and renders as nothing, as in Pomerium`,
        `use \${pomerium.jwt} or \${pomerium.request.headers["Name"]}, or write $$ for a dollar sign`,
      );
    }
    kept[name] = value;
  }
  return kept;
}

function isAssertion(value: string): boolean {
  const template = parseHeaderTemplate(value.trim());
  return template.unknown.length === 0 && template.parts.length === 1 && template.parts[0]?.type === "jwt";
}

/** Merges global and route headers as Pomerium does. `disable` on a route removes all of them, global ones included. */
export function resolveResponseHeaders({
  route,
  report,
  responseHeaders,
}: RouteContext): Readonly<Record<string, string>> {
  const given = settableHeaders(route.set_response_headers, report);
  if (Object.hasOwn(given, "disable")) return {};
  const own = new Set(Object.keys(given).map((name) => name.toLowerCase()));
  const inherited = Object.entries(responseHeaders).filter(([name]) => !own.has(name.toLowerCase()));
  return { ...Object.fromEntries(inherited), ...given };
}

/**
 * The entries of `set_response_headers` that a configuration may set. Headers that frame the response are refused,
 * because a wrong one would make some recipients read two responses.
 */
export function settableHeaders(
  given: Readonly<Record<string, string>>,
  report: ProblemReporter,
): Readonly<Record<string, string>> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const at = ["set_response_headers", name];
    if (framingHeaders.has(name.toLowerCase()))
      report.error(at, "is a header that the proxy itself must set", "remove it", "key");
    else if (name.toLowerCase() === "x-request-id")
      report.warn(at, "has no effect: it is the request's own id", "remove it", "key");
    else kept[name] = value;
  }
  return kept;
}

/** Refuses rewrites of headers that frame the response. */
export function resolveResponseRewrites({ route, report }: RouteContext): RouteConfig["rewriteResponseHeaders"] {
  for (const [i, { header }] of route.rewrite_response_headers.entries()) {
    if (framingHeaders.has(header))
      report.error(
        ["rewrite_response_headers", i],
        `${header} is a header that the proxy itself must set`,
        "remove it",
        "key",
      );
  }
  return route.rewrite_response_headers;
}

export function resolveTls({ route, report, material }: RouteContext): RouteConfig["tls"] {
  const plain = route.to?.every(({ url }) => !url.protocol.startsWith("https")) === true;
  if (route.tls_skip_verify && !plain)
    report.warn(
      ["tls_skip_verify"],
      "lets anyone between the proxy and the upstream read and change everything",
      "name the upstream's authority with tls_custom_ca_file instead",
      "key",
    );
  if (route.tls_server_name !== undefined && route.tls_upstream_server_name !== undefined)
    report.warn(["tls_server_name"], "has no effect with tls_upstream_server_name", "remove it", "key");
  const customCa = material.authorities(material.textOrFile(route, { key: "tls_custom_ca", secrecy: "public" }));
  const pair = material.pair(
    material.textOrFile(route, { key: "tls_client_cert", secrecy: "public" }),
    material.textOrFile(route, { key: "tls_client_key", secrecy: "secret" }),
    ["tls_client_cert"],
  );
  return {
    skipVerify: route.tls_skip_verify,
    serverName: route.tls_upstream_server_name ?? route.tls_server_name ?? null,
    customCa,
    clientCert: pair?.cert ?? null,
    clientKey: pair?.key ?? null,
    allowRenegotiation: route.tls_upstream_allow_renegotiation,
  };
}
