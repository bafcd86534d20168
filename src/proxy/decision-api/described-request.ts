/**
 * Described request: a request that another proxy or service will carry, parsed as the proxy would parse it, with its
 * route. Pure.
 *
 * A request that the proxy would rewrite before forwarding is refused. Otherwise the other side would forward a request
 * different from the one decided about.
 */
import { pathReadings } from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import type { Fact } from "../../events/index.ts";
import { type CanonicalRequest, canonicaliseRequest } from "../message/canonical-request.ts";
import { isReserved, isSignInPath } from "../message/reserved-paths.ts";
import { type ReplyFormat, replyFormatOf } from "../reply/reply-format.ts";
import { authorityOf, type RouteTable } from "../routing/route-table.ts";
import type { PresentedCertificate } from "../tls/presented-certificate.ts";

/** A request as the proxy or service that carries it describes it. */
export type DescribedRequest = Readonly<{
  method: string;
  /** Null: the scheme of the route. */
  scheme: "http" | "https" | null;
  authority: string;
  /** Path and query, as the other side received them. */
  target: string;
  /** Header names and values alternate, without `Host`. */
  lines: readonly string[];
  /** The caller's address. Null: not given; no decision is made about a route whose policy reads it. */
  ip: string | null;
  /** The certificate that the caller presented to the other proxy; absent: none is known. */
  certificate?: PresentedCertificate | null;
}>;

/** A described request and its route. */
export type MatchedRequest = Readonly<{
  route: RouteConfig;
  scheme: "http" | "https";
  request: CanonicalRequest;
  format: ReplyFormat;
  /** The URL, as in the caller's address bar. */
  url: URL;
}>;

export type UnmatchedRequest = Fact<"not_found", { format: ReplyFormat }> | Fact<"bad_request", { reason: string }>;

export function matchDescribedRequest(
  described: DescribedRequest,
  { routes, config }: Readonly<{ routes: RouteTable; config: Pick<Config, "authenticateServiceUrl"> }>,
): Fact<"matched", { matched: MatchedRequest }> | UnmatchedRequest {
  const { method, authority, target, lines } = described;
  const rawHeaders = ["Host", authority, ...lines];
  const canonical = canonicaliseRequest({ method, url: target, httpVersion: "1.1", rawHeaders }, "keep");
  if (canonical.type === "refused") return { type: "bad_request", reason: canonical.reason };
  const { request } = canonical;
  if (method === "CONNECT") return { type: "bad_request", reason: "method" };
  if (request.rawPath + request.search !== target) return { type: "bad_request", reason: "not-canonical" };
  if (isReserved(request.path)) return { type: "bad_request", reason: "reserved-path" };
  const upgrade = request.headers["sec-websocket-key"] === undefined ? null : "websocket";
  const format = replyFormatOf(request, { upgrade, isRouteOrigin: routes.isRouteOrigin });
  const { hostname } = config.authenticateServiceUrl;
  const found = routes.match(request);
  // On the sign-in host only routes of exactly that host match, except on the paths reserved for sign-in.
  const isTaken =
    request.hostname === hostname &&
    ([request.path].concat(pathReadings(request)).some(isSignInPath) || found?.host !== hostname);
  const route = isTaken ? undefined : found;
  if (route === undefined) {
    const reason = routes.refusalOf(request);
    return reason === undefined ? { type: "not_found", format } : { type: "bad_request", reason };
  }
  const scheme = schemeOf(route);
  if (described.scheme !== null && described.scheme !== scheme) return { type: "bad_request", reason: "scheme" };
  if (described.ip === null && readsAddress(route)) return { type: "bad_request", reason: "context-ip" };
  const url = new URL(`${scheme}://${authorityOf(route, request)}${request.rawPath}${request.search}`);
  return { type: "matched", matched: { route, scheme, request, format, url } };
}

/** Whether its policies may read the caller's address. A missing one has no default: `not` and `deny` would use it. */
function readsAddress({ policy, subPolicies }: RouteConfig): boolean {
  return [policy, ...subPolicies.map((sub) => sub.policy)].some((source) => mentions(source?.ppl, addressCriteria));
}
const addressCriteria: ReadonlySet<string> = new Set(["source_ip", "record"]);

function mentions(ppl: unknown, names: ReadonlySet<string>): boolean {
  if (typeof ppl !== "object" || ppl === null) return false;
  return Object.entries(ppl).some(([name, inner]) => names.has(name) || mentions(inner, names));
}

function schemeOf({ from }: RouteConfig): "http" | "https" {
  return from.protocol === "http:" ? "http" : "https";
}
