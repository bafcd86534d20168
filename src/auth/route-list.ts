/**
 * Route list: the routes that one person may use, by current policy (docs/pomerium-behaviour.md §2.2).
 *
 * - A route is listed when its whole policy, deny rules included, permits a plain GET of the route's start address.
 * - A required client certificate counts as shown, because the list is read before the person chooses one.
 * - A route is left out if its policy needs a particular certificate, a device that the session has not shown, or a
 *   data set that cannot be read.
 * - A listed route grants nothing: each request is decided separately.
 *
 * Pure.
 */
import type { RouteConfig } from "../config/index.ts";
import type { UnixMs } from "../events/index.ts";
import type { Policies } from "./authorize/compile.ts";
import { type Decision, decide } from "./authorize/decide.ts";
import type { DecisionRequest, Principal } from "./authorize/decision.ts";

/** Field names are Pomerium's. */
export type ListedRoute = Readonly<{
  id: string;
  name: string;
  type: "http" | "tcp" | "udp";
  from: string;
  /** Start address of the route, if it is not the root of `from`. Not in Pomerium. */
  address?: string;
  description: string;
  /** Command that opens a tunnel from a terminal. */
  connect_command?: string;
  logo_url: string;
  /** Who decides about access. Not in Pomerium. */
  owner?: string;
}>;

/** The caller, and the origin that the request was sent to. */
export type ListRoutesQuery = Readonly<{
  principal: Principal;
  /** External origin of the requested host. */
  origin: URL;
  headers: Readonly<Record<string, string>>;
  ip: string;
  now: UnixMs;
}>;

/** The whole policy of a route, allow and deny sides, for a plain request of this person. */
export function createRouteProbe(policies: Policies, query: ListRoutesQuery): (route: RouteConfig) => Decision {
  const caller = { type: "principal", principal: query.principal } as const;
  const common = { headers: query.headers, ip: query.ip, query: "", clientCertificate };
  return (route) => {
    const request = { ...probeRequestOf(route), ...common };
    return decide({ policies, routeId: route.id, caller, request, now: query.now });
  };
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

export function listedRouteOf(route: RouteConfig, origin: URL): ListedRoute {
  const { id, name, description, logoUrl, owner } = route;
  const common = { id, name, description, logo_url: logoUrl, ...(owner === "" ? {} : { owner }) };
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
  // A pattern does not name one host, so there is no connect command.
  if (name0.includes("*")) return { ...common, type: kind, from };
  const port = route.from.port === "" && origin.port !== "" ? `:${origin.port}` : "";
  const target = behindProxy ? `${scheme}${route.from.host}${port}/${name0}` : name0;
  const own = `${route.from.origin}${port}`;
  const elsewhere = behindProxy || own === `https://${route.from.hostname}` ? "" : ` --proxy-url ${own}`;
  return { ...common, type: kind, from, connect_command: `cardea ${kind} ${target}${elsewhere}` };
}
