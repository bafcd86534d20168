/**
 * Route list: the routes that one person may use, as policy answers for them now (docs/pomerium-behaviour.md §2.2).
 *
 * Pure. A route is listed when its whole policy, deny rules too, permits a plain GET of where it begins. A certificate
 * that a route wants is taken for shown, for this list is read before one is chosen; what asks for a particular
 * certificate, for a device that the session has not shown or for a data set that cannot be read is left out. To be
 * listed is no right: each request is decided for itself.
 */
import type { RouteConfig } from "../config/index.ts";
import type { UnixMs } from "../events/index.ts";
import type { Policies } from "./authorize/compile.ts";
import { decide } from "./authorize/decide.ts";
import type { DecisionRequest, Principal } from "./authorize/decision.ts";

/** Pomerium's names. */
export type ListedRoute = Readonly<{
  id: string;
  name: string;
  type: "http" | "tcp" | "udp";
  from: string;
  /** Where the route begins, if that is not the root of `from`; Cardea only. */
  address?: string;
  description: string;
  /** How a tunnel is opened from a terminal. */
  connect_command?: string;
  logo_url: string;
}>;

/** Who asks, and how they reached us. */
export type ListRoutesQuery = Readonly<{
  principal: Principal;
  /** External origin of the host that was asked. */
  origin: URL;
  headers: Readonly<Record<string, string>>;
  ip: string;
  now: UnixMs;
}>;

/** In the order of the file. */
export function listRoutes(
  { routes, policies }: Readonly<{ routes: readonly RouteConfig[]; policies: Policies }>,
  query: ListRoutesQuery,
): readonly ListedRoute[] {
  const caller = { type: "principal", principal: query.principal } as const;
  const common = { headers: query.headers, ip: query.ip, query: "", clientCertificate };
  const mayUse = (route: RouteConfig): boolean => {
    const request = { ...probeRequestOf(route), ...common };
    return decide({ policies, routeId: route.id, caller, request, now: query.now }).type === "permit";
  };
  return routes.filter(mayUse).map((route) => listedRouteOf(route, query.origin));
}

const clientCertificate = { presented: true, valid: true, leafPem: "" };

function probeRequestOf(route: RouteConfig): Pick<DecisionRequest, "method" | "scheme" | "host" | "rawPath" | "path"> {
  const { from, tunnel, match } = route;
  const path = tunnel !== null || match.kind === "regex" ? "/" : match.value;
  return {
    method: tunnel?.kind === "tcp" ? "CONNECT" : "GET",
    scheme: from.protocol === "http:" ? "http" : "https",
    host: from.host,
    rawPath: encodeURI(path),
    path,
  };
}

function listedRouteOf(route: RouteConfig, origin: URL): ListedRoute {
  const { id, name, description, logoUrl } = route;
  const common = { id, name, description, logo_url: logoUrl };
  if (route.tunnel === null) {
    const { origin: from } = route.from;
    const path = route.match.kind === "regex" ? "/" : route.match.value;
    return {
      ...common,
      type: "http",
      from,
      ...(path === "/" || path === "" ? {} : { address: `${from}${encodeURI(path)}` }),
    };
  }
  const { kind, targets, behindProxy } = route.tunnel;
  const scheme = `${kind}+${route.from.protocol}//`;
  const names = targets.map(({ host, port }) => `${host}:${port}`);
  const from = `${scheme}${behindProxy ? `${route.from.host}/` : ""}${names.join("/")}`;
  const [name0 = ""] = names;
  // Of a pattern nobody knows which name is meant.
  if (name0.includes("*")) return { ...common, type: kind, from };
  const port = route.from.port === "" && origin.port !== "" ? `:${origin.port}` : "";
  const target = behindProxy ? `${scheme}${route.from.host}${port}/${name0}` : name0;
  const own = `${route.from.origin}${port}`;
  const elsewhere = behindProxy || own === `https://${route.from.hostname}` ? "" : ` --proxy-url ${own}`;
  return { ...common, type: kind, from, connect_command: `cardea ${kind} ${target}${elsewhere}` };
}
