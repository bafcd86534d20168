/**
 * Timeout settings of the listener and of a route.
 *
 * - Pure.
 * - It warns of combinations in which one timeout makes another pointless.
 * - An upload that the configuration does not limit as a whole is limited by silence: it lives as long as data moves.
 */
import type { RouteConfig, TimeoutConfig } from "../config.ts";
import type { Globals, Route } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { formatDuration } from "../values/network-values.ts";

/** Pomerium's defaults. */
const readMsDefault = 30_000;
const upstreamMsDefault = 30_000;

export function resolveTimeouts(globals: Globals, report: ProblemReporter): TimeoutConfig {
  const {
    timeout_read: read,
    timeout_write: write,
    timeout_idle: idleMs,
    default_upstream_timeout: upstream,
  } = globals;
  if (upstream !== undefined && isLonger(upstream, write))
    report.warn(
      ["default_upstream_timeout"],
      `is longer than timeout_write, which ends every request after ${formatDuration(write)}`,
      "raise or remove timeout_write, or write a shorter one",
    );
  return {
    readMs: read ?? readMsDefault,
    readLimit: read === undefined ? "silence" : "request",
    writeMs: write,
    idleMs,
  };
}

/** @param lasting the route carries WebSockets and other upgrades, which have no timeout by default */
export function resolveRouteTimeouts(
  route: Route,
  { globals, report, lasting }: Readonly<{ globals: Globals; report: ProblemReporter; lasting: boolean }>,
): Pick<RouteConfig, "timeoutMs" | "timeoutFrom" | "idleTimeoutMs"> {
  warnOfOthers(route, globals, report);
  const upstream = globals.default_upstream_timeout;
  return {
    timeoutMs: route.timeout ?? (lasting ? 0 : (upstream ?? upstreamMsDefault)),
    timeoutFrom: route.timeout === undefined && upstream === undefined ? "body-end" : "permit",
    idleTimeoutMs: route.idle_timeout ?? (lasting ? 0 : globals.timeout_idle),
  };
}

function warnOfOthers({ timeout, idle_timeout: idle }: Route, globals: Globals, report: ProblemReporter): void {
  const { timeout_read: read, timeout_write: write } = globals;
  if (timeout === undefined) return;
  if (isLonger(timeout, write))
    report.warn(
      ["timeout"],
      `allows for more than timeout_write, which ends every request after ${formatDuration(write)}`,
      "raise or remove timeout_write, or write a shorter timeout",
    );
  if (read !== undefined && isLonger(timeout, read))
    report.warn(
      ["timeout"],
      `allows for more than timeout_read, which ends an upload after ${formatDuration(read)}`,
      "remove timeout_read, so that an upload lives as long as it moves, or raise it",
    );
  if (idle !== undefined && idle > 0 && timeout > 0 && idle >= timeout)
    report.warn(
      ["idle_timeout"],
      `is never reached: timeout ends the request after ${formatDuration(timeout)}`,
      "write a shorter idle_timeout, or a longer timeout",
    );
}

/** Whether a timeout is longer than a bound, both in ms. 0 means unlimited. */
function isLonger(ms: number, boundMs: number): boolean {
  return boundMs > 0 && (ms === 0 || ms > boundMs);
}
