/** Upgrade request: the conditions under which a connection may change to another protocol. Pure. */
import type { Config, RouteConfig } from "../../config/index.ts";
import type { CanonicalRequest, RequestHead } from "../message/canonical-request.ts";
import type { UpgradeKind } from "../message/downstream-request.ts";
import type { ProxyDeps } from "../request/dependencies.ts";
import type { RouteTable } from "./route-table.ts";

/** Whether a route accepts upgrades to the requested protocol. */
export function takesUpgrade(
  route: Pick<RouteConfig, "allowWebsockets" | "allowUpgrades">,
  { headers }: Pick<CanonicalRequest, "headers">,
): boolean {
  const protocol = headers["upgrade"]?.toLowerCase() ?? "";
  return protocol === "websocket" ? route.allowWebsockets : route.allowUpgrades.includes(protocol);
}

/**
 * A WebSocket handshake as in RFC 6455 §4.2.1, or over HTTP/2 as in RFC 8441 §5, where it needs no key. A body is
 * refused, since it would be read as data after the upgrade.
 */
export function isHandshake(
  kind: UpgradeKind,
  { method, headers }: CanonicalRequest,
  { httpVersion }: Pick<RequestHead, "httpVersion">,
): boolean {
  if (httpVersion === "1.0") return false; // HTTP/1.0 has no upgrade (RFC 9110 §7.8)
  const bodiless = headers["transfer-encoding"] === undefined && (headers["content-length"] ?? "0") === "0";
  const isHttp2 = httpVersion === "2";
  if (kind !== "websocket") return bodiless && !isHttp2; // an extended CONNECT to an unknown protocol
  const key = headers["sec-websocket-key"];
  const greets = method === "GET" && headers["sec-websocket-version"] === "13";
  return bodiless && greets && ((isHttp2 && key === undefined) || /^[A-Za-z0-9+/]{22}==$/.test(key ?? ""));
}

/**
 * Whether a page of another site opens this WebSocket with the session cookie. `cookie_same_site: none` lets browsers
 * send the cookie there, and no same-origin rule protects a WebSocket (RFC 6455 §10.2). A caller without `Origin` is no
 * browser.
 */
export function isCrossSite(
  { headers, search }: Pick<CanonicalRequest, "headers" | "search">,
  {
    deps: { config, credentials },
    routes,
  }: Readonly<{
    deps: Readonly<{ config: Pick<Config, "cookie">; credentials: Pick<ProxyDeps["credentials"], "read"> }>;
    routes: Pick<RouteTable, "isRouteOrigin">;
  }>,
): boolean {
  const origin = headers["origin"];
  if (config.cookie.sameSite !== "none" || origin === undefined || routes.isRouteOrigin(origin)) return false;
  return credentials.read(headers, search.slice(1))?.source === "cookie";
}
