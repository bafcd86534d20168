/** The listener that redirects plain HTTP to https, built from a configuration. */
import type { Config, HostPort } from "../../config/index.ts";
import { type RedirectListener, startRedirectListener } from "../../proxy/index.ts";
import type { Logger } from "../../replication/index.ts";

/**
 * @param config the configuration in force
 * @param parts `challengeAnswer` answers the challenges of an ACME authority
 */
export async function startRedirect(
  config: () => Config,
  parts: Readonly<{
    listen: HostPort | null;
    useProxyProtocol: boolean;
    challengeAnswer: (token: string) => string | undefined;
    logger: Logger;
  }>,
): Promise<RedirectListener | null> {
  if (parts.listen === null) return null;
  const compiled = new WeakMap<Config, ReadonlyMap<string, number>>();
  return startRedirectListener({
    listen: parts.listen,
    useProxyProtocol: parts.useProxyProtocol,
    portOf(requestedHost) {
      const own = config();
      const { hostname, port } = own.authenticateServiceUrl;
      if (requestedHost === hostname && port !== "") return Number(port);
      const ports = compiled.get(own) ?? portsOf(own);
      compiled.set(own, ports);
      return ports.get(requestedHost) ?? null;
    },
    challengeAnswer: parts.challengeAnswer,
    onRefused: (code) => parts.logger.debug({ code }, "refused at http_redirect_addr"),
  });
}

/** Hosts that are served by https only on a port other than 443. */
function portsOf({ routes }: Config): ReadonlyMap<string, number> {
  const ports = new Map<string, number>();
  const https = routes.filter(({ from, host }) => from.protocol === "https:" && !host.includes("*"));
  for (const { host, from } of https.toReversed()) if (from.port !== "") ports.set(host, Number(from.port));
  for (const { host, from } of https) if (from.port === "") ports.delete(host);
  return ports;
}
