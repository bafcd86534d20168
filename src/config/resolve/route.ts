/**
 * Route settings: one entry of `routes`, checked on its own, with global settings filled in.
 *
 * Pure. Refuses contradictions, and settings that would let more callers through than intended. check-routes.ts
 * compares routes with each other.
 */

import { createHash } from "node:crypto";
import { type ClaimValue, flattenClaims } from "../../events/index.ts";
import type { RouteAccess, RouteConfig } from "../config.ts";
import { configFields } from "../schema/keys.ts";
import { type Route, routeKeys } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import type { SubPolicyConfig } from "../values/identity-values.ts";
import { isLoopback } from "../values/network-values.ts";
import { formatValue } from "../values/value-type.ts";
import { resolveBalancing } from "./balancing.ts";
import { resolveRouteClientCertificates } from "./client-certificates.ts";
import { resolveBearer, resolveIdpClient, resolveSubPolicies } from "./identity.ts";
import { resolveKubernetes } from "./kubernetes.ts";
import type { RouteContext, RouteOrigin } from "./route-context.ts";
import { requireEncryption } from "./sign-in.ts";
import { resolveRouteTimeouts } from "./timeouts.ts";
import { checkTunnel, resolveTunnelFrom, tunnelPattern } from "./tunnel.ts";
import { resolveUpgrades } from "./upgrades.ts";
import {
  resolveHost,
  resolvePattern,
  resolveRequestHeaders,
  resolveResponseHeaders,
  resolveResponseRewrites,
  resolveTls,
} from "./upstream.ts";

/** @returns null when the entry cannot be made into a route; the reporter then holds the reason */
export function resolveRoute(context: RouteContext): RouteConfig | null {
  const { route, report, globals } = context;
  const from = resolveFrom(context);
  const match = resolveMatch(context);
  const action = resolveAction(context);
  const access = resolveAccess(context);
  const upgrades = resolveUpgrades(context);
  const stale = resolveStale(context);
  const host = resolveHost(context);
  const tls = resolveTls(context);
  const requestHeaders = resolveRequestHeaders(context);
  const kubernetes = resolveKubernetes(context);
  const identity = {
    idpClient: resolveIdpClient(context),
    bearer: resolveBearer(context),
    dependsOn: route.depends_on,
  };
  checkTunnel(context, from?.tunnel ?? null);
  const lasting =
    upgrades.allowWebsockets || kubernetes !== null || (from?.tunnel ?? null) !== null || context.present.has("mcp");
  const timeouts = resolveRouteTimeouts(route, { globals, report, lasting });
  if (from === null || action === null) return null;
  const id =
    route.id ??
    digest([
      from.url.protocol,
      from.host,
      from.port,
      match,
      action.to.map(({ url, weight }) => [url.href, weight]),
      action.redirect,
      action.response,
      ...(from.tunnel === null ? [] : [from.tunnel]),
    ]);
  const [target] = from.tunnel?.targets ?? [];
  const shown = target === undefined ? from.host : `${target.host}:${target.port}`;
  return {
    ...configFields(routeKeys, route),
    id,
    name: route.name ?? `${shown}${match.value === "/" ? "" : match.value}`,
    location: report.locationOf([]),
    from: from.url,
    host: from.host,
    port: from.port,
    tunnel: from.tunnel,
    ...action,
    match,
    ...resolveRewrite(context),
    ...host,
    setRequestHeaders: requestHeaders,
    setResponseHeaders: resolveResponseHeaders(context),
    rewriteResponseHeaders: resolveResponseRewrites(context),
    ...identity,
    passIdentityHeaders: route.pass_identity_headers ?? globals.pass_identity_headers,
    jwtIssuerFormat: route.jwt_issuer_format ?? globals.jwt_issuer_format,
    jwtGroupsFilter: [...new Set([...globals.jwt_groups_filter, ...route.jwt_groups_filter])],
    ...access,
    requestAccess: route.request_access ?? null,
    shadowPolicy: context.shadowPolicy,
    ...timeouts,
    ...upgrades,
    ...resolveBalancing(context),
    tls,
    ...resolveRouteClientCertificates(route, { ...context, all: context.downstreamMtls }),
    kubernetes,
    ...stale,
    audit: route.audit ?? globals.audit.mode,
    auditTrace: route.audit_trace ?? globals.audit.trace,
    auditEnds: route.audit_ends ?? globals.audit.ends,
    recorded: {
      query: route.audit_query ?? globals.audit.query,
      headers: route.audit_headers ?? globals.audit.headers,
      redactPath: [...new Set([...globals.audit.redact_path, ...route.audit_redact_path])],
    },
  };
}

function resolveFrom(context: RouteContext): RouteOrigin | null {
  const { route, report, failed, globals, matchAnyIncomingPort } = context;
  const written = route.from?.trim();
  if (written === undefined || written === "") {
    if (!failed.has("from"))
      report.error(["from"], "is missing", "write the URL that people use, such as https://app.example.com", "key");
    return null;
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(written)?.[1]?.toLowerCase();
  if (tunnelPattern.test(written)) return resolveTunnelFrom(context, written);
  if (scheme === "ssh") {
    report.error(["from"], `${scheme} routes are not supported by this build yet`, "remove the route");
    return null;
  }
  if ((scheme !== "https" && scheme !== "http") || !URL.canParse(written)) {
    report.error(["from"], `${formatValue(written)} is not a URL`, "write one such as https://app.example.com");
    return null;
  }
  const url = new URL(written);
  const host = url.hostname.toLowerCase();
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    report.error(["from"], "has more than scheme, host and port", `write ${url.protocol}//${url.host}`);
  } else if (url.pathname !== "/") {
    report.error(
      ["from"],
      `has the path ${url.pathname}`,
      `write ${url.protocol}//${url.host}, and the path under prefix or path`,
    );
  }
  requireEncryption(url, { report, path: ["from"] });
  if (scheme === "http" && !globals.insecure_server && isLoopback(host) && globals.services.has("proxy")) {
    report.warn(["from"], "is plain HTTP, and the listener speaks only TLS", "use https, or set insecure_server: true");
  }
  const explicit = /^[a-z]+:\/\/[^/?#]*:(\d{1,5})(?:[/?#]|$)/i.exec(written)?.[1];
  const port = explicit !== undefined ? Number(explicit) : matchAnyIncomingPort ? null : scheme === "https" ? 443 : 80;
  return { url: new URL(url.origin), host, port, tunnel: null };
}

function resolveMatch({ route, report }: RouteContext): RouteConfig["match"] {
  const given = (["regex", "path", "prefix"] as const).filter((key) => route[key] !== undefined);
  const [kind = "prefix", ...rest] = given;
  for (const key of rest) report.warn([key], `has no effect with ${kind}`, "keep one of them", "key");
  return { kind, value: route[kind] ?? "/" };
}

type Action = Pick<RouteConfig, "to" | "redirect" | "response">;

function resolveAction({ route, report, present, failed }: RouteContext): Action | null {
  const given = (["to", "redirect", "response"] as const).filter((key) => present.has(key));
  if (given.length === 0) {
    report.error(
      ["to"],
      "is missing, and so are redirect and response",
      "write the URL of the upstream service",
      "key",
    );
    return null;
  }
  for (const key of given.slice(1))
    report.error([key], `cannot be combined with ${given[0]}`, "keep one of them", "key");
  const nothing: Action = { to: [], redirect: null, response: null };
  if (given[0] === "response") return { ...nothing, response: configFields(routeKeys.response.shape, route.response) };
  if (given[0] === "redirect") return { ...nothing, redirect: resolveRedirect(route, report) };
  return failed.has("to") ? null : { ...nothing, to: (route.to ?? []).map(({ url, weight }) => ({ url, weight })) };
}

function resolveRedirect({ redirect }: Route, report: ProblemReporter): RouteConfig["redirect"] {
  const codes = [301, 302, 303, 307, 308] as const;
  const responseCode = codes.find((code) => code === redirect.response_code);
  if (responseCode === undefined)
    report.error(
      ["redirect", "response_code"],
      `${redirect.response_code} does not redirect`,
      "write 301, 302, 303, 307 or 308",
    );
  const changes = [
    redirect.https_redirect,
    redirect.scheme_redirect,
    redirect.host_redirect,
    redirect.port_redirect,
    redirect.path_redirect,
    redirect.prefix_rewrite,
  ];
  if (changes.every((change) => change === undefined || change === false))
    report.error(
      ["redirect"],
      "changes nothing, so it would redirect to itself",
      "write host_redirect, path_redirect or another",
      "key",
    );
  for (const [one, other] of [
    ["https_redirect", "scheme_redirect"],
    ["path_redirect", "prefix_rewrite"],
  ] as const) {
    if (redirect[one] !== undefined && redirect[other] !== undefined)
      report.error(["redirect", other], `cannot be combined with ${one}`, "keep one of them", "key");
  }
  if (redirect.port_redirect !== undefined && redirect.host_redirect?.includes(":") === true)
    report.error(["redirect", "port_redirect"], "is a second port, after the one in host_redirect", "keep one", "key");
  return {
    ...configFields(routeKeys.redirect.shape, redirect),
    responseCode: responseCode ?? 301,
  };
}

function resolveRewrite(context: RouteContext): Pick<RouteConfig, "prefixRewrite" | "regexRewrite"> {
  const { route, report } = context;
  const { prefix_rewrite: prefix, regex_rewrite_pattern: pattern } = route;
  if (prefix !== undefined && pattern !== undefined)
    report.error(["regex_rewrite_pattern"], "cannot be combined with prefix_rewrite", "keep one of them", "key");
  const regexRewrite = resolvePattern(context, {
    pattern: "regex_rewrite_pattern",
    substitution: "regex_rewrite_substitution",
  });
  if (regexRewrite !== null) {
    checkQuery(context, regexRewrite.substitution);
    return { prefixRewrite: prefix ?? null, regexRewrite };
  }
  const upstreamPath = route.to?.[0]?.path ?? "";
  const matched = route.prefix ?? "/";
  return {
    prefixRewrite: prefix ?? (upstreamPath === "" || upstreamPath === matched ? null : upstreamPath),
    regexRewrite: null,
  };
}

function checkQuery({ report }: RouteContext, substitution: string): void {
  const key = ["regex_rewrite_substitution"];
  if (substitution.includes("#"))
    report.error(key, "contains a #, and no request carries a fragment", "remove it, or write %23");
  if (substitution.split("?").length > 2)
    report.error(
      key,
      "contains more than one ?, and a path has one query",
      "write %3F for every ? that does not begin it",
    );
}

type Access = Omit<RouteAccess, "allowAnyAuthenticatedUser">;

function resolveAccess(context: RouteContext): Access {
  const { route, report, failed, policy } = context;
  const subPolicies = resolveSubPolicies(context);
  const lists = (["allowed_users", "allowed_domains", "allowed_idp_claims"] as const).filter(
    (key) => failed.has(key) || Object.keys(route[key]).length > 0,
  );
  const open = route.allow_public_unauthenticated_access
    ? "allow_public_unauthenticated_access"
    : route.allow_any_authenticated_user
      ? "allow_any_authenticated_user"
      : null;
  if (open !== null) {
    for (const key of lists)
      report.error(
        [key],
        `has no effect with ${open}, which lets ${route.allow_public_unauthenticated_access ? "everyone" : "everyone who is signed in"} through`,
        "keep one of them",
        "key",
      );
  }
  if (route.allow_public_unauthenticated_access && route.allow_any_authenticated_user) {
    report.error(
      ["allow_any_authenticated_user"],
      "has no effect with allow_public_unauthenticated_access",
      "keep one of them",
      "key",
    );
  }
  if (open !== null) {
    for (const [i, sub] of subPolicies.entries()) {
      if (sub.allowedUsers.length + sub.allowedDomains.length + Object.keys(sub.allowedIdpClaims).length > 0)
        report.error(
          ["sub_policies", i],
          `allows individual people, which has no effect with ${open}`,
          "keep one of them",
        );
    }
  }
  const accessKeys = [
    "policy",
    "sub_policies",
    "allowed_users",
    "allowed_domains",
    "allowed_idp_claims",
    "allow_any_authenticated_user",
    "allow_public_unauthenticated_access",
  ];
  if (
    open === null &&
    lists.length === 0 &&
    policy === null &&
    subPolicies.length === 0 &&
    !accessKeys.some((key) => failed.has(key))
  ) {
    report.warn(["policy"], "is missing, so no one may use this route", "write a policy, or one of the allow keys");
  }
  for (const [i, domain] of route.allowed_domains.entries()) {
    if (domain.includes("@"))
      report.error(
        ["allowed_domains", i],
        "contains an @ and would match no one",
        "write the domain alone, or use allowed_users",
      );
  }
  const ofAll = <Value>(own: readonly Value[], of: (sub: SubPolicyConfig) => readonly Value[]): readonly Value[] => [
    ...new Set([...own, ...subPolicies.flatMap(of)]),
  ];
  const claims = flattenClaims(route.allowed_idp_claims) as Readonly<Record<string, readonly ClaimValue[]>>;
  const names = ofAll(Object.keys(claims), (sub) => Object.keys(sub.allowedIdpClaims));
  return {
    policy,
    subPolicies,
    allowedUsers: ofAll(route.allowed_users, (sub) => sub.allowedUsers),
    allowedDomains: ofAll(route.allowed_domains, (sub) => sub.allowedDomains),
    allowedIdpClaims: Object.fromEntries(
      names.map((name) => [name, ofAll(claims[name] ?? [], (sub) => sub.allowedIdpClaims[name] ?? [])]),
    ),
  };
}

function resolveStale({ route, report, failed }: RouteContext): Pick<RouteConfig, "staleGraceMs"> {
  if (route.on_stale === "serve") return { staleGraceMs: route.stale_grace ?? 60_000 };
  if (route.stale_grace !== undefined && route.stale_grace > 0 && !failed.has("on_stale")) {
    report.error(["stale_grace"], "contradicts on_stale: deny, which denies at once", "keep one of them", "key");
  }
  return { staleGraceMs: 0 };
}

/** The default id of a route: 32 hexadecimal digits of the SHA-256 of its identifying parts, without the policy. */
function digest(parts: unknown): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}
