/**
 * Route table: finds the route of a request, once, for policy and forwarder alike. Pure.
 *
 * - An exact host wins over every wildcard and never falls back to one. Within a host, routes that name a port come
 *   first, then file order decides. The first match is final, whatever its policy says (docs/pomerium-behaviour.md
 *   §5.2).
 * - A prefix is plain text, as in Envoy: `/foo` also matches `/foobar`. A regular expression must match the whole path;
 *   RE2 keeps it linear.
 * - A tunnel route matches the host and port that the caller asks for, and no HTTP request.
 * - Paths are compared percent-decoded, so that no spelling of a path reaches a laxer route than another spelling.
 * - A path whose parameters (`;…`) lead to another route once a server removes them matches no route. Encoded slashes
 *   (`%2F`) match only a route with `allow_encoded_slashes`, and only if they lead to that route as slashes too.
 */
import { RE2JS } from "re2js";
import { ambiguityOf, pathReadings } from "../../auth/index.ts";
import type { HostPort, RouteConfig, TunnelConfig } from "../../config/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import { decodeOnce, doubleEncoding, hasEncodedSlash } from "../message/canonical-request.ts";
import { isReserved } from "../message/reserved-paths.ts";
import { type Candidate, PathIndex } from "./path-index.ts";

export type RouteTable = Readonly<{
  /** Undefined: no route, or a refused path. `refusalOf` distinguishes the two. */
  match(request: RoutedPath): RouteConfig | undefined;
  /**
   * Why a path that servers interpret in several ways is refused: one interpretation belongs to another route or to the
   * proxy itself, or the route does not allow encoded slashes. Undefined: all interpretations lead to the same route.
   */
  refusalOf(request: RoutedPath): "path-parameters" | "encoded-separator" | undefined;
  /** The route that a CONNECT or CONNECT-UDP belongs to. */
  matchTunnel(kind: TunnelConfig["kind"], asked: HostPort): RouteConfig | undefined;
  /** Whether any route is of that kind. */
  hasTunnels(kind: TunnelConfig["kind"]): boolean;
  /** The first route of a host in file order, whatever its path. It has the host's external scheme. */
  ofHost(hostname: string, port: number | null): RouteConfig | undefined;
  /** Whether an `Origin` header names the external origin of one of the routes. */
  isRouteOrigin(origin: string): boolean;
}>;

/** `rawPath` is the path before percent-decoding. */
type RoutedPath = Readonly<{ hostname: string; port: number | null; path: string; rawPath?: string }>;

export function compileRouteTable(routes: readonly RouteConfig[]): RouteTable {
  const hosts = new HostIndex();
  /** Hosts where people sign in for tunnels. No HTTP route needs to be there. */
  const doors = new HostIndex();
  const tunnels = { tcp: compileTunnels(routes, "tcp"), udp: compileTunnels(routes, "udp") };
  routes.forEach((route, place) => {
    if (route.tunnel !== null) {
      doors.of(route.host).add({ route, rank: place, begins: "", matches: () => true });
      return;
    }
    const { begins, matches } = compileMatcher(route.match);
    const rank = route.port === null ? routes.length + place : place;
    hosts.of(route.host).add({ route, rank, begins, matches });
  });
  const bestOf = (hostname: string, path: string, port: number | null): RouteConfig | undefined => {
    let best: Candidate | undefined;
    for (const index of hosts.find(hostname))
      best = index.find(path, (route) => portFits(route, port), best?.rank) ?? best;
    return best?.route;
  };
  const refusalOf = (request: RoutedPath): ReturnType<RouteTable["refusalOf"]> => {
    const { hostname, port, path, rawPath = path } = request;
    const isEncoded = rawPath.includes("%");
    const isDoubled = isEncoded && doubleEncoding.test(rawPath);
    const hasSlash = isEncoded && hasEncodedSlash({ rawPath });
    if (!isDoubled && !hasSlash && !path.includes(";")) return undefined;
    const route = bestOf(hostname, path, port);
    const isAllowed = route?.allowEncodedSlashes === true;
    if (hasSlash && (!isAllowed || isReserved(path))) return "encoded-separator";
    if (isDoubled && isAllowed) return "encoded-separator";
    const others = pathReadings(request);
    const differs = others.some((other) => isReserved(other) || bestOf(hostname, other, port) !== route);
    return differs ? ambiguityOf(request) : undefined;
  };
  /** @param fits compares scheme and port alone */
  const firstOf = (
    index: HostIndex,
    hostname: string,
    fits: (route: RouteConfig) => boolean,
  ): RouteConfig | undefined => {
    let best: Candidate | undefined;
    for (const { firsts } of index.find(hostname))
      for (const candidate of firsts)
        if ((best === undefined || candidate.rank < best.rank) && fits(candidate.route)) best = candidate;
    return best?.route;
  };

  return {
    match: (request) =>
      refusalOf(request) === undefined ? bestOf(request.hostname, request.path, request.port) : undefined,
    refusalOf,
    matchTunnel: (kind, asked) => tunnels[kind].match(asked),
    hasTunnels: (kind) => tunnels[kind].any,
    ofHost: (hostname, port) =>
      firstOf(hosts, hostname, (route) => portFits(route, port)) ?? firstOf(doors, hostname, () => true),
    isRouteOrigin(origin) {
      if (!URL.canParse(origin)) return false;
      const url = new URL(origin);
      if (url.origin !== origin.toLowerCase()) return false;
      const port = url.port === "" ? null : Number(url.port);
      const fits = (route: RouteConfig): boolean => route.from.protocol === url.protocol && portFits(route, port);
      return (firstOf(hosts, url.hostname, fits) ?? firstOf(doors, url.hostname, fits)) !== undefined;
    },
  };
}

/** Routes by host. A leading wildcard (`*.example.com`) is found under its suffix. */
class HostIndex {
  readonly #exact = new Map<string, PathIndex>();
  /** By the text after the star. */
  readonly #above = new Map<string, PathIndex>();
  readonly #odd = new Map<string, PathIndex>();

  /** The index of a configured host. */
  of(host: string): PathIndex {
    const [map, key] = !host.includes("*")
      ? [this.#exact, host]
      : /^\*\.[^*]+$/.test(host)
        ? [this.#above, host.slice(1)]
        : [this.#odd, host];
    const known = map.get(key);
    if (known !== undefined) return known;
    const made = new PathIndex();
    map.set(key, made);
    return made;
  }

  /** An exact host never falls back to a wildcard. */
  find(hostname: string): readonly PathIndex[] {
    const exact = this.#exact.get(hostname);
    if (exact !== undefined) return [exact];
    const found: PathIndex[] = [];
    for (let dot = hostname.indexOf("."); dot >= 0; dot = hostname.indexOf(".", dot + 1)) {
      const above = this.#above.get(hostname.slice(dot));
      if (above !== undefined) found.push(above);
    }
    for (const [pattern, index] of this.#odd) if (matchesWildcard(pattern, hostname)) found.push(index);
    return found;
  }
}

type Tunnels = Readonly<{ any: boolean; match(asked: HostPort): RouteConfig | undefined }>;

/** As with hosts, a whole name wins over every wildcard; then file order decides. */
function compileTunnels(routes: readonly RouteConfig[], kind: TunnelConfig["kind"]): Tunnels {
  const exact = new Map<string, RouteConfig>();
  const wild: Readonly<{ route: RouteConfig; at: HostPort }>[] = [];
  for (const route of routes) {
    if (route.tunnel?.kind !== kind) continue;
    for (const at of route.tunnel.targets) {
      const name = `${at.host}:${at.port}`;
      if (at.host.includes("*")) wild.push({ route, at });
      else if (!exact.has(name)) exact.set(name, route);
    }
  }
  return {
    any: exact.size > 0 || wild.length > 0,
    match: ({ host, port }) =>
      exact.get(`${host}:${port}`) ?? wild.find(({ at }) => at.port === port && matchesWildcard(at.host, host))?.route,
  };
}

function portFits(route: RouteConfig, port: number | null): boolean {
  return route.port === null || route.port === (port ?? defaultPort(route));
}

export function defaultPort(route: Pick<RouteConfig, "from">): number {
  return route.from.protocol === "http:" ? 80 : 443;
}

function compileMatcher(match: RouteConfig["match"]): Pick<Candidate, "begins" | "matches"> {
  if (match.kind === "regex") {
    const pattern = RE2JS.compile(match.value);
    return { begins: literalStart(match.value), matches: (path) => pattern.testExact(path) };
  }
  const begins = literal(match.value);
  return { begins, matches: match.kind === "path" ? (path) => path.length === begins.length : () => true };
}

/** The literal text that every match of an expression begins with; empty if it has none. */
export function literalStart(expression: string): string {
  const text = /^\^?((?:[\w/~@%,;:=&'!-]|\\[./-])*)/.exec(expression)?.[1] ?? "";
  const rest = expression.slice((expression.startsWith("^") ? 1 : 0) + text.length);
  // A top-level alternative leaves no common prefix; a repetition removes the last character.
  if (expression.includes("|")) return "";
  const plain = text.replaceAll("\\", "");
  return /^[*?{+]/.test(rest) ? plain.slice(0, -1) : plain;
}

/** A configured path in the form that requests have when they are compared. */
function literal(configured: string): string {
  return decodeOnce(configured) ?? configured;
}

/** `*` matches any characters, dots included. Greedy with one backtracking point: bounded by 253² steps. */
export function matchesWildcard(pattern: string, hostname: string): boolean {
  let p = 0;
  let h = 0;
  let star = -1;
  let starAt = 0;
  while (h < hostname.length) {
    if (pattern[p] === "*") {
      star = p++;
      starAt = h;
    } else if (p < pattern.length && pattern[p] === hostname[h]) {
      p++;
      h++;
    } else if (star >= 0) {
      p = star + 1;
      h = ++starAt;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** The audience that a credential needs here: this host or, on a TCP or UDP route, all tunnels. */
export type CredentialScope = Readonly<{ hostname: string; isTunnel: boolean }>;

export function scopeOf(route: RouteConfig, { hostname }: Pick<CanonicalRequest, "hostname">): CredentialScope {
  const { tunnel } = route;
  return { hostname: tunnel?.behindProxy === true ? route.host : hostname, isTunnel: tunnel !== null };
}

/** The authority of the route's URLs: the port only if it is not the scheme's default. */
export function authorityOf(route: RouteConfig, request: Pick<CanonicalRequest, "hostname" | "port">): string {
  if (route.tunnel?.behindProxy === true) return route.from.host;
  if (route.tunnel !== null) return request.hostname; // the port is the service's, not the proxy's
  return request.port === null || request.port === defaultPort(route)
    ? request.hostname
    : `${request.hostname}:${request.port}`;
}
