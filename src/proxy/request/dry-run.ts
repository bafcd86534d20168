/**
 * Dry run: how the proxy would parse a request that was never sent, and the status of its reply. Pure.
 *
 * It uses the same parts as a real request, so the operator's result holds for callers.
 */
import { X509Certificate } from "node:crypto";
import { chainToAuthority, type Decision, type DecisionRequest, isCertificate } from "../../auth/index.ts";
import { type Config, type HostPort, type RouteConfig, readSubjectNames } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { type CanonicalRequest, canonicaliseRequest, hasEncodedSlash } from "../message/canonical-request.ts";
import { isProbePath, isReserved } from "../message/reserved-paths.ts";
import { localReplyFor, type ReplyDetails } from "../reply/local-reply.ts";
import { type ReplyFormat, replyFormatOf } from "../reply/reply-format.ts";
import { authorityOf, type RouteTable } from "../routing/route-table.ts";
import { compileClientTrusts } from "../tls/client-trust.ts";
import type { PresentedCertificate } from "../tls/presented-certificate.ts";
import { conditionOfDenial, decisionRequestOf } from "./authorize.ts";

/** A request as an operator describes it. Header names and values alternate, without `Host`. */
export type DryRunRequest = Readonly<{
  method: string;
  scheme: "http" | "https";
  /** Host and port, as in the address bar. */
  authority: string;
  /** Raw path and query. For a CONNECT it repeats the authority. */
  target: string;
  headers: readonly string[];
  ip: string;
  /** Target of a tunnel; null: the request is not for a tunnel. */
  tunnel: Readonly<{ kind: "tcp" | "udp"; at: HostPort }> | null;
}>;

export type DryRun = Readonly<
  | { type: "refused"; status: number; reason: string }
  | {
      type: "read";
      /** Whether the proxy replies by itself, before any route. */
      reserved: boolean;
      path: string;
      /** Whether only a route with `allow_encoded_slashes` accepts it. */
      hasEncodedSlash: boolean;
      match(routes: RouteTable): RouteConfig | undefined;
      /**
       * Why the proxy refuses the path (400) with these routes; undefined: it does not. Null: no routes to compare.
       */
      refusalOf(routes: RouteTable | null): ReturnType<RouteTable["refusalOf"]>;
      /** @param route null: evaluates policy without a route */
      decisionRequest(route: RouteConfig | null): DecisionRequest;
      /** The status that the caller would see. */
      statusOf(decision: DryRunDecision): number;
    }
>;
/** The parts of a decision that determine its status. */
export type DryRunDecision =
  | Pick<Extract<Decision, { type: "permit" }>, "type" | "reasons">
  | Pick<Extract<Decision, { type: "signin" }>, "type" | "reasons">
  | Pick<Extract<Decision, { type: "deny" }>, "type" | "reasons" | "status" | "deviceType">;

export function dryRunRequest(head: DryRunRequest): DryRun {
  const { method, authority, target, scheme, ip } = head;
  const rawHeaders = ["Host", authority, ...head.headers];
  const canonical = canonicaliseRequest({ method, url: target, httpVersion: "1.1", rawHeaders }, "keep");
  if (canonical.type === "refused") return { type: "refused", status: canonical.status, reason: canonical.reason };
  const { request } = canonical;
  const upgrade = requestsWebSocket(request) ? "websocket" : null;
  const format = replyFormatOf(asBrowser(request), { upgrade, isRouteOrigin: () => false });
  return {
    type: "read",
    reserved:
      head.tunnel === null && (isProbePath(request.path) || isReserved(request.path)) && !hasEncodedSlash(request),
    path: request.path,
    hasEncodedSlash: hasEncodedSlash(request),
    match: (routes) =>
      head.tunnel === null ? routes.match(request) : routes.matchTunnel(head.tunnel.kind, head.tunnel.at),
    refusalOf: (routes) => (head.tunnel === null ? routes?.refusalOf(request) : undefined),
    decisionRequest(route) {
      if (route === null) return decisionRequestOf(request, scheme, authority.toLowerCase(), ip, null);
      const routeScheme = route.from.protocol === "http:" ? "http" : "https";
      return decisionRequestOf(request, routeScheme, authorityOf(route, request), ip, null);
    },
    statusOf: (decision) => statusOf(decision, format),
  };
}

/** A request without `Accept` and `User-Agent` counts as a browser's. Policy reads the headers as given. */
function asBrowser(request: CanonicalRequest): CanonicalRequest {
  const { accept, "user-agent": userAgent } = request.headers;
  return accept === undefined && userAgent === undefined
    ? { ...request, headers: { ...request.headers, accept: "text/html" } }
    : request;
}

/** A client certificate as an operator gives it: PEM, and whether the caller presents it. */
export type WrittenCertificate = Readonly<{ presented: boolean; leaf: string; intermediates: string }>;
/** @param route null: evaluates policy without a route */
export type CertificateChecker = (
  route: RouteConfig | null,
  shown: WrittenCertificate,
  now: UnixMs,
) => NonNullable<DecisionRequest["clientCertificate"]>;

/** Checks against one authority (PEM). Null: no authority is named, so every certificate that parses is accepted. */
export function certificateCheckerFor(authority: string | null): CertificateChecker {
  return (_route, shown, now) => {
    const { presented, leaf: leafPem } = shown;
    const isGood = authority === null ? isCertificate(leafPem) : chainToAuthority(shown, authority, now) !== undefined;
    return { presented, valid: presented && isGood, leafPem };
  };
}

/** Checks against the authorities that the configuration sets for each route. */
export function createCertificateChecker(config: Pick<Config, "downstreamMtls" | "routes">): CertificateChecker {
  const trusts = compileClientTrusts(config);
  const byNobody = certificateCheckerFor(null);
  return (route, shown, now) => {
    const trust = route === null ? null : trusts.of(route);
    if (trust === null || !shown.presented || !isCertificate(shown.leaf)) return byNobody(route, shown, now);
    const chain = chainToAuthority(shown, trusts.authorities.join("\n"), now);
    const leaf = new X509Certificate(shown.leaf);
    const presented: PresentedCertificate = {
      leaf,
      leafPem: shown.leaf,
      above: chain?.slice(1) ?? [],
      verified: chain !== undefined,
      names: readSubjectNames(leaf.subjectAltName ?? ""),
      fingerprint: leaf.fingerprint256.replaceAll(":", "").toLowerCase(),
    };
    return trust.judge(presented, now);
  };
}

function statusOf(decision: DryRunDecision, asked: ReplyFormat): number {
  if (decision.type === "permit") return 200;
  // Pomerium redirects a caller without a device to enrol one, as it redirects a caller without a session to sign in.
  if (decision.type === "deny" && decision.deviceType !== null) return asked.canSignIn ? 302 : 401;
  return localReplyFor(conditionOfDenial(decision), asked, nothingToTell).status;
}

const nothingToTell: ReplyDetails = {
  requestId: "",
  at: 0 as UnixMs,
  host: null,
  url: null,
  explain: null,
  user: null,
  details: [],
};

function requestsWebSocket({ headers }: CanonicalRequest): boolean {
  const connection = (headers["connection"] ?? "").toLowerCase().split(",");
  return connection.some((word) => word.trim() === "upgrade") && headers["upgrade"]?.toLowerCase() === "websocket";
}
