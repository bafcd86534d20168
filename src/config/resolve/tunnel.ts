/**
 * Tunnel settings of a route that is not HTTP: `tcp+https://host:port`, `udp+https://host:port`, or the form that names
 * the proxy first, `tcp+https://proxy/host:port`.
 *
 * Pure. `from` lists the names that callers may request, and `to` alone is the destination. So a tunnel leads only to
 * addresses that the file names.
 */
import type { RouteConfig } from "../config.ts";
import type { HostPort } from "../values/network-values.ts";
import { formatValue } from "../values/value-type.ts";
import type { RouteContext, RouteOrigin } from "./route-context.ts";
import { requireEncryption } from "./sign-in.ts";

export const tunnelPattern = /^(tcp|udp)\+(https?):\/\//i;

const namePattern = /^(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9*_](?:[a-z0-9*._-]{0,251}[a-z0-9*_])?)):(\d{1,5})$/;

function parseName(text: string): HostPort | undefined {
  const [, address, name, digits] = namePattern.exec(text.toLowerCase()) ?? [];
  const port = Number(digits);
  const host = address === undefined ? name : `[${address}]`;
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

export function resolveTunnelFrom(context: RouteContext, written: string): RouteOrigin | null {
  const { report, matchAnyIncomingPort } = context;
  const found = /^(tcp|udp)\+(https?):\/\/([^/?#@]+)((?:\/[^?#]*)?)$/i.exec(written);
  const [, scheme = "", web = "", authority = "", path = ""] = found ?? [];
  const kind = scheme.toLowerCase() === "udp" ? "udp" : "tcp";
  const example = `write one such as ${kind}+https://db.example.com:${kind === "udp" ? 53 : 5432}`;
  const names = path.split("/").filter((segment) => segment !== "");
  const own = parseName(authority);
  if (found === null || (names.length === 0 && own === undefined)) {
    const what = found === null ? "is not a tunnel address" : "names no port";
    report.error(["from"], `${formatValue(written)} ${what}`, example);
    return null;
  }
  const targets = names.length === 0 && own !== undefined ? [own] : names.map(parseName);
  const bad = targets.indexOf(undefined);
  const address = names.length === 0 ? (own?.host ?? "") : authority;
  if (bad >= 0 || !URL.canParse(`${web}://${address}`)) {
    report.error(["from"], `${formatValue(names[bad] ?? authority)} is not host:port`, example);
    return null;
  }
  const url = new URL(`${web.toLowerCase()}://${address}`);
  requireEncryption(url, { report, path: ["from"] });
  const explicit = names.length === 0 ? undefined : /:(\d{1,5})$/.exec(authority)?.[1];
  const standard = url.protocol === "https:" ? 443 : 80;
  return {
    url: new URL(url.origin),
    host: url.hostname.toLowerCase(),
    // If callers name the target host itself, the requested port is the target's, not that of the proxy's listener.
    port: explicit !== undefined ? Number(explicit) : names.length === 0 || matchAnyIncomingPort ? null : standard,
    tunnel: { kind, targets: targets.filter((one) => one !== undefined), behindProxy: names.length > 0 },
  };
}

const refusedKeys = [
  "prefix",
  "path",
  "regex",
  "redirect",
  "response",
  "prefix_rewrite",
  "regex_rewrite_pattern",
  "cors_allow_preflight",
  "allow_websockets",
  "allow_upgrades",
  "allow_spdy",
  "allow_encoded_slashes",
  "max_request_body_bytes",
] as const;
const ineffectiveKeys = ["host_rewrite", "host_rewrite_header", "preserve_host_header"] as const;
/** Keys that have an effect only if the tunnel leads through another HTTP proxy. */
const ineffectiveWithoutProxy = [
  ...ineffectiveKeys,
  "set_request_headers",
  "remove_request_headers",
  "pass_identity_headers",
  "tls_skip_verify",
  "tls_custom_ca",
  "tls_custom_ca_file",
  "tls_client_cert",
  "tls_client_cert_file",
] as const;

/** Checks that `from` and `to` have the same kind, and that a tunnel has no keys that only apply to HTTP. */
export function checkTunnel({ route, report, present }: RouteContext, tunnel: RouteConfig["tunnel"]): void {
  const kind = tunnel?.kind ?? "http";
  const to = route.to ?? [];
  const onward = kind === "tcp" && to.some(({ url }) => isWeb(url));
  const strangers = to.filter(({ url, path }) => {
    const scheme = url.protocol.slice(0, -1);
    if (onward) return !isWeb(url) || (path !== "" && path !== "/");
    return kind === "http" ? scheme === "tcp" || scheme === "udp" : scheme !== kind;
  });
  for (const { url } of strangers) {
    const at = ["to", ...(to.length === 1 ? [] : [to.findIndex((one) => one.url === url)])];
    if (kind === "http")
      report.error(
        at,
        `${url.protocol.slice(0, -1)} cannot be reached by an HTTP route`,
        `write from: ${url.protocol.slice(0, -1)}+https://…`,
      );
    else if (onward)
      report.error(
        at,
        "has a path: this route requests the target from another proxy, by CONNECT",
        "write only https://proxy.example.com, or only tcp://host:port",
      );
    else report.error(at, `a ${kind} route does not lead to ${url.protocol.slice(0, -1)}`, `write ${kind}://host:port`);
  }
  if (tunnel === null) return;
  for (const key of refusedKeys)
    if (present.has(key)) report.error([key], `has no meaning on a ${kind} route`, "remove it", "key");
  for (const key of onward ? ineffectiveKeys : ineffectiveWithoutProxy)
    if (present.has(key))
      report.warn([key], `has no effect on a ${kind} route: bytes pass unchanged`, "remove it", "key");
}

function isWeb({ protocol }: URL): boolean {
  return protocol === "https:" || protocol === "http:";
}
