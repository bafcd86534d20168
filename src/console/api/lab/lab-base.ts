/** Lab base: the configuration that a what-if question starts from, and a route of it by any of its names. */
import { type PastConfiguration, readStoredConfiguration } from "../../../audit/index.ts";
import type { RouteConfig } from "../../../config/index.ts";
import { MalformedConfigBodyError } from "../../../events/index.ts";
import { findConfiguration } from "../operator-configurations.ts";
import type { Operator, OperatorApiDeps } from "../operator-route.ts";
import { routesInScope } from "../roles/scope-of-groups.ts";

export type LabProblem = Readonly<{ status: 400 | 404 | 500; error: string }>;
type BaseDeps = Pick<OperatorApiDeps, "databroker" | "ownConfiguration">;

/** The configuration of a hash; without one, that of this server. @throws BrokerUnavailableError */
export async function findBase(deps: BaseDeps, hash: string | undefined): Promise<PastConfiguration | LabProblem> {
  const own = deps.ownConfiguration?.();
  if (hash === undefined)
    return own ?? { status: 400, error: "this server runs no routes: name a stored configuration with base" };
  // The stored text has digests in place of secrets, so this server's own is the better one.
  if (own?.configHash.startsWith(hash) === true) return own;
  const found = await findConfiguration(deps, hash);
  if ("error" in found) return found;
  try {
    return readStoredConfiguration(found.stored);
  } catch (error) {
    if (!(error instanceof MalformedConfigBodyError)) throw error;
    return { status: 500, error: error.message };
  }
}

/**
 * Which routes a caller may ask about: with a limited role those of its groups, as the configuration in force has them.
 */
export function visibleRoutes(
  deps: Pick<OperatorApiDeps, "routePolicies" | "roles">,
  { scope }: Pick<Operator, "scope">,
): (routeId: string | null) => boolean {
  const ids = routesInScope(deps, scope);
  return (routeId) => ids === null || (routeId !== null && ids.has(routeId));
}

/** A route by its id, else by its name, address or host. What the caller may not see does not exist. */
export function findRoute(
  { routes: all }: PastConfiguration,
  name: string,
  maySee: (routeId: string) => boolean,
): RouteConfig | LabProblem {
  const routes = new Map([...all].filter(([id]) => maySee(id)));
  const byId = routes.get(name)?.route;
  if (byId !== undefined) return byId;
  const bare = name.replace(/\/$/, "");
  const [found, ...others] = [...routes.values()]
    .map(({ route }) => route)
    .filter((route) => route.name === name || String(route.from).replace(/\/$/, "") === bare || route.host === name);
  if (found === undefined)
    return { status: 404, error: `the configuration has no route ${JSON.stringify(name.slice(0, 200))}` };
  if (others.length > 0)
    return { status: 400, error: `${others.length + 1} routes have this name: name the route by its id` };
  return found;
}
