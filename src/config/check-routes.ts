/**
 * Route checks: compares the routes with each other and with the settings of the process.
 *
 * Pure. Refuses two routes with one id, and routes that would expose the databroker. Warns of routes that are never
 * reached, and of hosts that no certificate covers.
 */
import { isIP } from "node:net";
import type { RouteConfig, TlsFiles } from "./config.ts";
import { readCertificate } from "./resolve/key-material.ts";
import type { Path, ProblemReporter } from "./source/source-locations.ts";
import { type HostPort, isLoopback } from "./values/network-values.ts";

export type LocatedRoute = Readonly<{ route: RouteConfig; path: Path; hasOwnId: boolean }>;
export type RouteSurroundings = Readonly<{
  address: HostPort;
  certificates: readonly TlsFiles[];
  autocert: boolean;
  /** Addresses of the databroker APIs of this process and of the others. */
  brokers: readonly HostPort[];
}>;

/** @returns the routes to use, without exact repetitions of an earlier route */
export function checkRoutes(
  placed: readonly LocatedRoute[],
  around: RouteSurroundings,
  report: ProblemReporter,
): readonly RouteConfig[] {
  const byId = new Map<string, LocatedRoute>();
  const kept: LocatedRoute[] = [];
  const earlierOnes = new EarlierRoutes();
  for (const one of placed) {
    const earlier = byId.get(one.route.id);
    if (earlier !== undefined && (one.hasOwnId || earlier.hasOwnId)) {
      report.error(
        [...one.path, "id"],
        `${one.route.id} is also the id of the route on line ${earlier.route.location.line}`,
        "give each route its own id",
      );
      continue;
    }
    const hider = earlierOnes.firstCovering(one.route);
    if (hider !== undefined) {
      report.warn(
        one.path,
        `is never reached: the route on line ${hider.location.line} matches every such request first`,
        "move it up, or remove it",
      );
    }
    checkUpstreams(one, { around, report });
    checkCertificate(one, { around, report });
    if (earlier !== undefined) continue;
    byId.set(one.route.id, one);
    kept.push(one);
    earlierOnes.add(one.route);
  }
  return kept.map(({ route }) => route);
}

/**
 * Finds an earlier route that matches every request of a later one. It does not compare all pairs, because a host may
 * have thousands of routes.
 */
class EarlierRoutes {
  /** The first route per host and port, then per kind and value of the match, numbered in the order of the file. */
  readonly #byPlace = new Map<string, Map<string, NumberedRoute>>();
  readonly #tunnels = new Map<string, RouteConfig[]>();
  #count = 0;

  add(route: RouteConfig): void {
    const host = hostKey(route);
    if (route.tunnel !== null) {
      this.#tunnels.set(host, [...(this.#tunnels.get(host) ?? []), route]);
      return;
    }
    const matches = this.#byPlace.get(host) ?? new Map<string, NumberedRoute>();
    this.#byPlace.set(host, matches);
    const key = matchKey(route.match.kind, route.match.value);
    if (!matches.has(key)) matches.set(key, { route, number: this.#count++ });
  }

  /** @returns the first earlier route that matches every request of this one */
  firstCovering(later: RouteConfig): RouteConfig | undefined {
    const host = hostKey(later);
    if (later.tunnel !== null)
      return this.#tunnels.get(host)?.find((earlier) => coversTunnel(earlier.tunnel, later.tunnel));
    const matches = this.#byPlace.get(host);
    if (matches === undefined) return undefined;
    const { kind, value } = later.match;
    const keys = [matchKey(kind, value), matchKey("prefix", "/")];
    if (kind !== "regex") for (let n = 1; n <= value.length; n++) keys.push(matchKey("prefix", value.slice(0, n)));
    let first: NumberedRoute | undefined;
    for (const key of keys) {
      const found = matches.get(key);
      if (found !== undefined && found.number < (first?.number ?? Infinity)) first = found;
    }
    return first?.route;
  }
}

type NumberedRoute = Readonly<{ route: RouteConfig; number: number }>;

function hostKey({ host, port }: RouteConfig): string {
  return JSON.stringify([host, port]);
}

function matchKey(kind: RouteConfig["match"]["kind"], value: string): string {
  return JSON.stringify([kind, value]);
}

function coversTunnel(earlier: RouteConfig["tunnel"], later: RouteConfig["tunnel"]): boolean {
  if (earlier === null || later === null || earlier.kind !== later.kind) return false;
  return later.targets.every(({ host, port }) => earlier.targets.some((one) => one.host === host && one.port === port));
}

function checkUpstreams(
  { route, path }: LocatedRoute,
  { around, report }: Readonly<{ around: RouteSurroundings; report: ProblemReporter }>,
): void {
  const single = route.to.length === 1;
  for (const [i, { url }] of route.to.entries()) {
    const upstream: HostPort = {
      host: url.hostname,
      port: url.port !== "" ? Number(url.port) : url.protocol === "https:" ? 443 : 80,
    };
    const at = [...path, "to", ...(single ? [] : [i])];
    if (around.brokers.some((broker) => sameSocket(upstream, broker))) {
      report.error(
        at,
        `${url.host} is the databroker, which must never be reachable through a route`,
        "point the route at the intended service",
      );
    } else if (sameSocket(upstream, around.address)) {
      report.warn(
        at,
        `${url.host} is this proxy itself, so requests would loop`,
        "point the route at the upstream service",
      );
    }
  }
}

/** A listener on every address can also be reached through loopback. */
function sameSocket(upstream: HostPort, listener: HostPort): boolean {
  if (upstream.port !== listener.port || listener.port === 0) return false;
  const [a, b] = [upstream.host, listener.host].map((host) =>
    host
      .toLowerCase()
      .replace(/^\[|\]$/g, "")
      .replace(/\.$/, ""),
  );
  if (a === b || (isLoopback(upstream.host) && isLoopback(listener.host))) return true;
  const everywhere = b === "0.0.0.0" || b === "::";
  return everywhere && (isLoopback(upstream.host) || a === "0.0.0.0" || a === "::");
}

function checkCertificate(
  { route, path }: LocatedRoute,
  { around, report }: Readonly<{ around: RouteSurroundings; report: ProblemReporter }>,
): void {
  if (around.certificates.length === 0 || around.autocert || route.from.protocol !== "https:") return;
  const host = route.host.replaceAll("*", "x").replace(/^\[|\]$/g, "");
  const covered = around.certificates.some(({ cert }) => {
    const certificate = readCertificate(cert);
    return (isIP(host) === 0 ? certificate?.checkHost(host) : certificate?.checkIP(host)) !== undefined;
  });
  if (!covered)
    report.warn(
      [...path, "from"],
      `no certificate covers ${route.host}`,
      "add one that does, or browsers will refuse the connection",
    );
}
