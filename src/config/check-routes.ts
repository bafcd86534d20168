/**
 * Check routes against each other and against the process.
 *
 * Pure. Refuses two routes of one id and routes that would expose the databroker; warns of routes that are never reached
 * and hosts that no certificate covers.
 */
import { isIP } from "node:net";
import type { HostPort, RouteConfig, TlsFiles } from "./config.ts";
import { isLoopback } from "./kinds-network.ts";
import { readCertificate } from "./material.ts";
import type { Path, Report } from "./places.ts";

export type PlacedRoute = Readonly<{ route: RouteConfig; path: Path; hasOwnId: boolean }>;
export type Surroundings = Readonly<{
  address: HostPort;
  certificates: readonly TlsFiles[];
  autocert: boolean;
  /** Where databroker APIs answer: this process's and the others'. */
  brokers: readonly HostPort[];
}>;

/** @returns the routes to use: those that repeat an earlier one entirely are left out */
export function checkRoutes(
  placed: readonly PlacedRoute[],
  around: Surroundings,
  report: Report,
): readonly RouteConfig[] {
  const byId = new Map<string, PlacedRoute>();
  const kept: PlacedRoute[] = [];
  for (const one of placed) {
    const earlier = byId.get(one.route.id);
    if (earlier !== undefined && (one.hasOwnId || earlier.hasOwnId)) {
      report.error(
        [...one.path, "id"],
        `${one.route.id} is also the id of the route on line ${earlier.route.place.line}`,
        "give each route its own id",
      );
      continue;
    }
    const hidden = kept.find((before) => hides(before.route, one.route));
    if (hidden !== undefined) {
      report.warn(
        one.path,
        `is never reached: the route on line ${hidden.route.place.line} matches everything that it would`,
        "move it up, or remove it",
      );
    }
    checkUpstreams(one, { around, report });
    checkCertificate(one, { around, report });
    if (earlier !== undefined) continue;
    byId.set(one.route.id, one);
    kept.push(one);
  }
  return kept.map(({ route }) => route);
}

/** The earlier route takes every request that the later one could. */
function hides(earlier: RouteConfig, later: RouteConfig): boolean {
  if (earlier.host !== later.host || earlier.port !== later.port) return false;
  if (earlier.tunnel !== null || later.tunnel !== null) return hidesTunnel(earlier.tunnel, later.tunnel);
  const [first, second] = [earlier.match, later.match];
  if (first.kind === "prefix")
    return first.value === "/" || (second.kind !== "regex" && second.value.startsWith(first.value));
  return first.kind === second.kind && first.value === second.value;
}

function hidesTunnel(earlier: RouteConfig["tunnel"], later: RouteConfig["tunnel"]): boolean {
  if (earlier === null || later === null || earlier.kind !== later.kind) return false;
  return later.targets.every(({ host, port }) => earlier.targets.some((one) => one.host === host && one.port === port));
}

function checkUpstreams(
  { route, path }: PlacedRoute,
  { around, report }: Readonly<{ around: Surroundings; report: Report }>,
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
        "point the route at the service meant",
      );
    } else if (sameSocket(upstream, around.address)) {
      report.warn(
        at,
        `${url.host} is this proxy itself, so requests would go round`,
        "point the route at the service behind",
      );
    }
  }
}

/** A listener on every address is also reached through loopback. */
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
  { route, path }: PlacedRoute,
  { around, report }: Readonly<{ around: Surroundings; report: Report }>,
): void {
  if (around.certificates.length === 0 || around.autocert || route.from.protocol !== "https:") return;
  const host = route.host.replaceAll("*", "x").replace(/^\[|\]$/g, "");
  const covered = around.certificates.some(({ cert }) => {
    const certificate = readCertificate(cert);
    return (isIP(host) === 0 ? certificate?.checkHost(host) : certificate?.checkIP(host)) !== undefined;
  });
  if (!covered)
    report.warn([...path, "from"], `no certificate is for ${route.host}`, "name one that is, or browsers will refuse");
}
