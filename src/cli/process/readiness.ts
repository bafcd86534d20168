/**
 * Readiness: whether a balancer should send requests to this process, and which share of the routes it serves. Pure.
 *
 * A node with an expired lease is ready while its routes serve within their grace, and says that it serves from its
 * last projection: a lost control plane must not empty the pool. Such a node answers 503 on its `on_stale: deny`
 * routes, so a balancer may check all routes instead (`/readyz?routes=all`).
 */
export type RouteShare = Readonly<{
  total: number;
  /** Routes that the node decides now; the others answer 503. */
  served: number;
  /** 0 to 1. A process without routes has 1. */
  share: number;
}>;
/** `routes`: absent in a process that decides no requests. */
export type ProcessReadiness = Readonly<{ ready: boolean; reasons: readonly string[]; routes?: RouteShare }>;

export function readinessOf(
  replica: ProcessReadiness & Readonly<{ overdueMs: number; graceMs: number; draining: "draining" | "serving" }>,
): ProcessReadiness {
  if (replica.ready || replica.draining === "draining") return { ready: replica.ready, reasons: replica.reasons };
  const withinGrace = replica.overdueMs > 0 && replica.overdueMs <= replica.graceMs;
  return withinGrace
    ? { ready: true, reasons: [...replica.reasons, "serving from the last projection, within stale_grace"] }
    : { ready: false, reasons: replica.reasons };
}

/**
 * The same comparison as that of admission, for each route.
 * @param overdueMs how long the lease has expired; negative: it is fresh; Infinity: the node permits nothing
 */
export function routeShareOf(overdueMs: number, routes: readonly Readonly<{ staleGraceMs: number }>[]): RouteShare {
  return shareOf(routes.length, routes.filter(({ staleGraceMs }) => overdueMs <= staleGraceMs).length);
}

/** Several workers take turns on one port: a route counts as served only when every worker serves it. */
export function commonShare(shares: readonly RouteShare[]): RouteShare | undefined {
  if (shares.length === 0) return undefined;
  const total = Math.max(...shares.map((share) => share.total));
  return shareOf(total, Math.min(...shares.map((share) => share.served)));
}

/** For a balancer that must not send requests to a node that answers 503 on some routes. */
export function readyForAll(readiness: ProcessReadiness): ProcessReadiness {
  const { routes, ready, reasons } = readiness;
  if (routes === undefined || routes.served === routes.total) return readiness;
  const unserved = routes.total - routes.served;
  return {
    ready: false,
    reasons: ready ? [...reasons, `${unserved} of ${routes.total} routes answer 503`] : reasons,
    routes,
  };
}

function shareOf(total: number, served: number): RouteShare {
  return { total, served, share: total === 0 ? 1 : served / total };
}
