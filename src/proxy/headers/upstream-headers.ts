/**
 * Upstream headers: the header lines that an upstream receives, rebuilt from the request line by line.
 *
 * - Pure. First the lines of the caller's connection are dropped, with every name that its `Connection` header lists;
 *   then the proxy's own credentials; then every name that an upstream could mistake for a statement of the proxy.
 *   Only after that are the proxy's own lines added, so a caller can neither remove nor double them.
 * - The caller's `X-Forwarded-*` and `Forwarded` are unproven claims and are dropped. If the configuration counts
 *   trusted proxies in front of this one, as many entries of `X-Forwarded-For` are kept. (Pomerium passes them on.)
 * - The caller's address by that count is alone in `X-Envoy-External-Address`, so that an upstream need not count.
 */
import { isIP } from "node:net";
import { type Config, type HeaderPart, parseHeaderTemplate, type RouteConfig } from "../../config/index.ts";
import type { ProviderTokens } from "../../events/index.ts";
import { type CanonicalRequest, parseHost } from "../message/canonical-request.ts";
import type { OwnCookies } from "../message/cookies.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { HeaderNameCache } from "../message/header-name-cache.ts";
import {
  connectionHeaderNames,
  foldName,
  headerValue,
  hopByHopNames,
  isReservedName,
} from "../message/header-names.ts";
import type { PresentedCertificate } from "../message/peer.ts";
import { routingKeyOf } from "../upstream/balancer.ts";
import { neverInTrailers } from "./downstream-headers.ts";
import {
  type ImpersonatedUser,
  identifiesCaller,
  impersonationLines,
  type KubernetesRules,
  withoutBearerToken,
} from "./kubernetes.ts";
import { compileSubstitution } from "./rewrite.ts";

/** The signed assertion and claim headers for this principal, host and route. */
export type UpstreamIdentity = ImpersonatedUser &
  Readonly<{ assertion: string; claimHeaders: readonly (readonly [string, string])[] }>;

/** A route's rules, compiled once. */
export type HeaderRules = Readonly<{
  route: RouteConfig;
  /** The upstream receives the key by which its requests are hashed, as from Pomerium. */
  sendsRoutingKey: boolean;
  hostOfPath: ((rawPath: string) => string) | null;
  sendsRequestId: boolean;
  /** What happens to a line, by its name as received. Filled as names arrive, up to a bound. */
  actions: HeaderNameCache<HeaderAction>;
  actionFor: (name: string) => HeaderAction;
  set: readonly Readonly<{ name: string; parts: readonly HeaderPart[] }>[];
  /** Whether the assertion is needed at all. */
  wantsIdentity: "assertion-and-claims" | "assertion" | "nothing";
  /** Whether the identity provider's tokens are needed. */
  wantsTokens: boolean;
  /** Null: the upstream is not an API server of Kubernetes. */
  kubernetes: KubernetesRules | null;
  cookies: OwnCookies;
  trustedHops: number;
  skipXffAppend: boolean;
  /** Lowercase names of the proxy's own lines that are not sent: the route removes or sets them itself. */
  suppressed: ReadonlySet<string>;
}>;

type HeaderAction = "pass" | "drop" | "cookie" | "authorization" | "referer" | "protocols" | "trailer";

/** The proxy builds these from parsed values and never copies them. */
const rebuiltNames: ReadonlySet<string> = new Set(["host", "expect", "content-length"]);

export function compileHeaderRules(
  route: RouteConfig,
  config: Pick<Config, "jwtClaimsHeaders" | "xffNumTrustedHops" | "skipXffAppend">,
  cookies: OwnCookies,
  kubernetes: KubernetesRules | null = null,
): HeaderRules {
  const hostOfPath = route.hostPathRegexRewrite === null ? null : compileSubstitution(route.hostPathRegexRewrite);
  const set = Object.entries(route.setRequestHeaders).map(([name, value]) => ({
    name,
    parts: parseHeaderTemplate(value).parts,
  }));
  const replaced = new Set([...Object.keys(config.jwtClaimsHeaders), ...set.map(({ name }) => name)].map(foldName));
  const removed = new Set(route.removeRequestHeaders.map((name) => name.toLowerCase()));
  const foldedDropped = new Set([...replaced, ...[...removed].map(foldName)]);
  const suppressed = new Set([...removed, ...set.map(({ name }) => name.toLowerCase())]);
  const actionFor = (name: string): HeaderAction => {
    const lower = name.toLowerCase();
    if (rebuiltNames.has(lower) || removed.has(lower)) return "drop";
    const folded = foldName(lower);
    if (lower === "trailer" && !foldedDropped.has(folded)) return "trailer";
    if (hopByHopNames.has(lower)) return "drop";
    if (foldedDropped.has(folded) || isReservedName(folded)) return "drop";
    if (kubernetes !== null && identifiesCaller(folded)) return "drop"; // the proxy calls with its own token
    if (kubernetes !== null && lower === "sec-websocket-protocol") return "protocols";
    return lower === "cookie" || lower === "authorization" || lower === "referer" ? lower : "pass";
  };
  const usesAssertion = set.some(({ parts }) => parts.some(({ type }) => type === "jwt"));
  return {
    route,
    sendsRoutingKey: route.balancing.policy === "ring_hash" || route.balancing.policy === "maglev",
    hostOfPath,
    sendsRequestId: !suppressed.has("x-request-id"),
    actions: new HeaderNameCache(),
    actionFor,
    set,
    wantsIdentity: route.passIdentityHeaders
      ? "assertion-and-claims"
      : usesAssertion || kubernetes !== null
        ? "assertion"
        : "nothing",
    wantsTokens: set.some(({ parts }) => parts.some(({ type }) => type === "providerToken")),
    kubernetes,
    cookies,
    trustedHops: config.xffNumTrustedHops,
    skipXffAppend: config.skipXffAppend,
    suppressed,
  };
}

export type UpstreamHeadersInput = Readonly<{
  request: CanonicalRequest;
  /** Host and port of the caller's URL, from the route and the Host header alone. */
  authority: string;
  /** The scheme of the route. */
  scheme: "http" | "https";
  /** The connection's peer. */
  peer: string;
  /** Host and port of the upstream that was chosen. */
  upstreamHost: string;
  sessionId: string | null;
  identity: UpstreamIdentity | null;
  /** The tokens of the caller's session, if the route forwards them. */
  tokens?: Pick<ProviderTokens, "idToken" | "accessToken"> | null;
  /** The caller's client certificate, if it is valid on this route. */
  certificate?: PresentedCertificate | null;
}>;

/** What an upstream receives, but for the request's id, which is added where the lines are sent. */
export function upstreamLines(rules: HeaderRules, input: UpstreamHeadersInput): HeaderLines {
  return new HeaderLines(buildUpstreamHeaders(rules, input));
}

/**
 * @returns names and values in turn, `host` first; hop-by-hop lines and the request's id are added where they are
 *   sent
 */
export function buildUpstreamHeaders(rules: HeaderRules, input: UpstreamHeadersInput): string[] {
  const { request } = input;
  const { headers, rawHeaders } = request;
  const host = upstreamHostHeader(rules, input);
  const lines: string[] = ["host", host];
  const connectionNames = connectionHeaderNames(headers["connection"]);
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? "";
    const value = rawHeaders[i + 1] ?? "";
    if (connectionNames?.has(name.toLowerCase())) continue;
    const action = rules.actions.get(name) ?? cacheAction(rules, name);
    if (action === "drop") continue;
    if (action === "pass") lines.push(name, value);
    else if (action === "referer") lines.push(name, stripReferer(value));
    else if (action === "cookie" || action === "protocols") {
      const stripped = action === "cookie" ? rules.cookies.strip(value) : withoutBearerToken(value);
      if (stripped !== undefined) lines.push(name, stripped);
    } else if (action === "trailer") lines.push(...announcedTrailers(rules, request, { value, connectionNames }));
    else if (!isOwnAuthorization(rules.route, value)) lines.push(name, value);
  }
  const length = headers["content-length"];
  if (length !== undefined) lines.push("content-length", length);
  const add = (name: string, value: string): void => {
    if (!rules.suppressed.has(name)) lines.push(name, value);
  };
  add("x-forwarded-proto", input.scheme);
  const { trustedHops, skipXffAppend } = rules;
  const addresses = forwardedFor(headers["x-forwarded-for"], { peer: input.peer, trustedHops, skipXffAppend });
  if (addresses !== "") add("x-forwarded-for", addresses);
  add("x-envoy-external-address", callerAddress(headers["x-forwarded-for"], input.peer, trustedHops));
  if (host !== input.authority) add("x-forwarded-host", input.authority);
  if (rules.sendsRoutingKey && input.sessionId !== null) add("x-pomerium-routing-key", routingKeyOf(input.sessionId));
  if (input.identity !== null && rules.wantsIdentity === "assertion-and-claims")
    addIdentity(add, trustedHops > 0 ? headers : null, input.identity);
  for (const { name, parts } of rules.set) lines.push(name, render(rules, parts, input));
  if (rules.kubernetes !== null) lines.push(...impersonationLines(rules.kubernetes, input.identity));
  return lines;
}

/** Longer ones, all `Trailer` lines of a request together, are dropped: they would cost more than they help. */
const announcedLengthMax = 1_024;
/** RFC 9110 §5.6.2. */
const token = /^[!#$%&'*+.^_`|~\w-]+$/;

/** @returns a `Trailer` line with those names of another that may pass (RFC 9110 §6.6.2); empty: none may */
function announcedTrailers(
  rules: HeaderRules,
  request: Pick<CanonicalRequest, "headers">,
  { value, connectionNames }: Readonly<{ value: string; connectionNames: ReadonlySet<string> | undefined }>,
): readonly string[] {
  if ((request.headers["trailer"] ?? value).length > announcedLengthMax) return [];
  const names = value.split(",").map((name) => name.trim());
  const lines = names.filter((name) => token.test(name)).flatMap((name) => [name, ""]);
  const passed = forwardedTrailers(rules, request, lines, connectionNames).filter((_, i) => i % 2 === 0);
  return passed.length === 0 ? [] : ["trailer", passed.join(", ")];
}

/**
 * The trailers of a request that its upstream receives. Some servers treat them as headers. One passes only if a
 * header of its name would, the head had none of that name, and it cannot change the meaning of the head (RFC 9110
 * §6.5.1).
 * @param lines names and values in turn
 * @param connectionNames of the request, lowercase, where they are known already
 */
export function forwardedTrailers(
  rules: HeaderRules,
  { headers }: Pick<CanonicalRequest, "headers">,
  lines: readonly string[],
  connectionNames: ReadonlySet<string> | undefined = connectionHeaderNames(headers["connection"]),
): readonly string[] {
  const passed: string[] = [];
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i] ?? "";
    const lower = name.toLowerCase();
    const changesMeaning = neverInTrailers.has(lower) || /^(?:if-|content-|access-control-|sec-|accept)|_/.test(lower);
    if (
      changesMeaning ||
      connectionNames?.has(lower) ||
      headers[lower] !== undefined ||
      rules.actionFor(name) !== "pass"
    )
      continue;
    passed.push(name, lines[i + 1] ?? "");
  }
  return passed;
}

function cacheAction(rules: HeaderRules, name: string): HeaderAction {
  const action = rules.actionFor(name);
  rules.actions.add(name, action);
  return action;
}

/**
 * Whether `Authorization` carries a session handle or the caller's bearer token; anything else there is for the
 * upstream.
 */
export function isOwnAuthorization({ bearer }: Pick<RouteConfig, "bearer">, value: string): boolean {
  return (bearer !== null ? /^\s*(?:pomerium|bearer)\s/i : /^\s*(?:pomerium\s|bearer\s+pomerium-)/i).test(value);
}

/**
 * @param trusted headers from a trusted proxy in front (`xff_num_trusted_hops`); null: from a caller that may claim
 *   nothing
 */
function addIdentity(
  add: (name: string, value: string) => void,
  trusted: CanonicalRequest["headers"] | null,
  identity: UpstreamIdentity,
): void {
  add("x-pomerium-jwt-assertion", identity.assertion);
  // Behind another Pomerium: the original caller's assertion. Another key signed it, so the upstream must verify it.
  const original = trusted?.["x-pomerium-jwt-assertion-for"] ?? trusted?.["x-pomerium-jwt-assertion"];
  if (original !== undefined) add("x-pomerium-jwt-assertion-for", original);
  for (const [name, value] of identity.claimHeaders) add(name, headerValue(value));
}

function render(
  rules: HeaderRules,
  parts: readonly HeaderPart[],
  { request: { headers }, identity, tokens, certificate = null }: UpstreamHeadersInput,
): string {
  let value = "";
  for (const part of parts) {
    if (part.type === "text") value += headerValue(part.text);
    else if (part.type === "jwt") value += identity?.assertion ?? "";
    else if (part.type === "providerToken") value += (part.what === "id" ? tokens?.idToken : tokens?.accessToken) ?? "";
    else if (part.type === "clientCertificate") value += headerValue(certificateText(certificate, part.what));
    else value += copiedHeader(rules, part.name, headers[part.name] ?? "");
  }
  return value;
}

/** Names are joined by commas, as in Pomerium. A name with a comma would look like two and is left out. */
function certificateText(certificate: PresentedCertificate | null, what: "fingerprint" | "dns" | "email"): string {
  if (certificate === null) return "";
  if (what === "fingerprint") return certificate.fingerprint;
  const names = certificate.names.get(what === "dns" ? "DNS" : "email") ?? [];
  return names.filter((name) => !name.includes(",")).join(",");
}

/** A configured copy of a caller's header never carries the proxy's credentials either. */
function copiedHeader(rules: HeaderRules, name: string, value: string): string {
  if (name === "cookie") return rules.cookies.strip(value) ?? "";
  if (name === "referer") return stripReferer(value);
  if (name === "x-pomerium-authorization" || (name === "authorization" && isOwnAuthorization(rules.route, value)))
    return "";
  return value;
}

/**
 * Precedence of docs/pomerium-behaviour.md §5.1: a fixed host, a header's value, one derived from the path, the
 * caller's own, the upstream's.
 */
function upstreamHostHeader({ route, hostOfPath }: HeaderRules, input: UpstreamHeadersInput): string {
  if (route.hostRewrite !== null) return route.hostRewrite;
  if (route.hostRewriteHeader !== null) {
    const named = input.request.headers[route.hostRewriteHeader];
    if (parseHost(named) !== undefined && named !== undefined) return named;
    return input.upstreamHost;
  }
  if (hostOfPath !== null) {
    const made = hostOfPath(input.request.rawPath);
    return parseHost(made) === undefined ? input.upstreamHost : made;
  }
  return route.preserveHostHeader ? input.authority : input.upstreamHost;
}

/** @param received the caller's own `X-Forwarded-For` */
export function forwardedFor(
  received: string | undefined,
  how: Readonly<{ peer: string; trustedHops: number; skipXffAppend: boolean }>,
): string {
  const trusted = trustedEntries(received, how.trustedHops);
  if (trusted.length === 0) return how.skipXffAppend ? "" : how.peer;
  return (how.skipXffAppend ? trusted : [...trusted, how.peer]).join(", ");
}

/**
 * The entries that the trusted proxies in front of this one have added: the last ones, one for each such proxy. They
 * are counted before they are parsed: an invalid one must not move a caller's own entry into its position.
 */
function trustedEntries(forwardedFor: string | undefined, hops: number): readonly string[] {
  if (hops === 0 || forwardedFor === undefined) return [];
  const entries = forwardedFor.split(",").slice(-hops).map(parseAddress);
  return entries.every((entry) => entry !== undefined) ? entries : [];
}

/** Accepts a port and brackets around IPv6, which some proxies write. */
function parseAddress(entry: string): string | undefined {
  const text = entry.trim();
  const address = /^\[(.+)\](?::\d{1,5})?$/.exec(text)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(text)?.[1] ?? text;
  return isIP(address) === 0 ? undefined : address;
}

/** The caller's address: the peer's, or the entry of the outermost trusted proxy. */
export function callerAddress(forwardedFor: string | undefined, peer: string, hops: number): string {
  const entries = trustedEntries(forwardedFor, hops);
  return entries.length === hops && hops > 0 ? (entries[0] ?? peer) : peer;
}

/** The request id from a trusted proxy in front; undefined: none, or the caller is not one. */
export function trustedRequestId(
  { headers }: Pick<CanonicalRequest, "headers">,
  trustedHops: number,
): string | undefined {
  const given = headers["x-request-id"];
  return trustedHops > 0 && given !== undefined && /^[A-Za-z0-9._:+/=@-]{8,128}$/.test(given) ? given : undefined;
}

/** The query without session handles, however their name is encoded; `search` has its `?` or is empty. */
export function stripSessionQuery(search: string): string {
  // Runs for every request, and a query without a percent sign needs no decoding.
  const text = search.includes("%") ? decodeLeniently(search) : search;
  if (search.length < 2 || !/pomerium_session/i.test(text)) return search;
  const parts = search.slice(1).split(/([&;])/); // pairs and separators in turn
  let kept: string | undefined;
  for (let i = 0; i < parts.length; i += 2) {
    const pair = parts[i] ?? "";
    const name = decodeLeniently(pair.split("=", 1)[0] ?? "").trim();
    if (name.toLowerCase() === "pomerium_session") continue;
    kept = kept === undefined ? pair : kept + parts[i - 1] + pair;
  }
  return kept === undefined ? "" : `?${kept}`;
}

/** Removes a handle from `Referer`: a page whose URL held one sends that URL with what it loads. */
export function stripReferer(referer: string): string {
  const question = referer.indexOf("?");
  return question < 0 ? referer : referer.slice(0, question) + stripSessionQuery(referer.slice(question));
}

/** Decodes what can be decoded, octet by octet; only for comparing names. */
function decodeLeniently(text: string): string {
  return text
    .replace(/\+/g, " ")
    .replace(/%([0-9a-f]{2})/gi, (_, pair: string) => String.fromCharCode(Number.parseInt(pair, 16)));
}
