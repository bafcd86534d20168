/**
 * Window limits: the longest window that a broker grants to each role. Pure.
 *
 * - A limit that the file omits is what the routes in the same file need, and at least what the default grace needs.
 * - The limit bounds how long a receipt waits for a silent node, and for leases of a history that the store may have
 *   lost.
 */
import type { Config, PerNodeRole } from "./config.ts";
import type { ProblemReporter } from "./source/source-locations.ts";

const graceMsDefault = 60_000;

type Given = Readonly<{ broker: Pick<Config["broker"], "leaseMs" | "maxWindow"> } & Pick<Config, "routes">>;

/** @returns ms for each role */
export function windowLimits({ broker, routes }: Given): PerNodeRole {
  const { proxy, authorize, broker: regional } = broker.maxWindow;
  const needed = broker.leaseMs + Math.max(graceMsDefault, longestGraceMs(routes));
  return { proxy: proxy ?? needed, authorize: authorize ?? needed, broker: regional ?? needed };
}

export function checkWindowLimits({ broker, routes }: Given, report: ProblemReporter): void {
  const { proxy } = broker.maxWindow;
  if (proxy === null || proxy < broker.leaseMs || proxy >= broker.leaseMs + longestGraceMs(routes)) return;
  report.warn(
    ["broker", "max_window", "proxy"],
    "is shorter than broker.lease plus the largest stale_grace of the routes here, so proxies deny before that grace is over",
    "lengthen it, or shorten stale_grace",
  );
}

function longestGraceMs(routes: Config["routes"]): number {
  return Math.max(0, ...routes.map(({ staleGraceMs }) => staleGraceMs));
}
