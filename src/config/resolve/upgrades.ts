/** Upgrade settings of a route: the protocols in `Upgrade` that it allows, such as WebSocket and SPDY. Pure. */
import type { RouteConfig } from "../config.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import type { RouteContext } from "./route-context.ts";

const token = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}(?:\/[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32})?$/;
/**
 * Protocols that carry HTTP requests or proxy traffic. Requests that follow such an upgrade would pass without a
 * decision.
 */
const never = /^(?:connect(?:-udp|-ip)?|h2c?|h3|http(?:\/.*)?|tls(?:\/.*)?)$/i;

/** @returns the protocols of the list to which an upgrade is allowed */
export function checkUpgrades(protocols: readonly string[], report: ProblemReporter): readonly string[] {
  return protocols.filter((protocol, i) => {
    if (!token.test(protocol))
      report.error(["allow_upgrades", i], `${protocol} is not the name of a protocol`, "write one such as websocket");
    else if (never.test(protocol))
      report.error(
        ["allow_upgrades", i],
        `${protocol} would carry requests without a decision`,
        "remove it; a route of tcp+https or udp+https carries other traffic",
      );
    else return true;
    return false;
  });
}

export function resolveUpgrades({
  route,
  report,
  globals,
}: RouteContext): Pick<RouteConfig, "allowWebsockets" | "allowUpgrades"> {
  const given =
    route.allow_upgrades === undefined ? globals.allow_upgrades : checkUpgrades(route.allow_upgrades, report);
  const names = new Set(given.map((protocol) => protocol.toLowerCase()));
  if (route.allow_websockets === true) names.add("websocket");
  if (route.allow_spdy) names.add("spdy/3.1");
  const allowWebsockets = names.delete("websocket");
  return { allowWebsockets, allowUpgrades: [...names] };
}
