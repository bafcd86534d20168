/**
 * Reserved paths: paths that the proxy itself serves on every host (docs/pomerium-behaviour.md §2.1), beside `/ping`
 * and `/healthz`, and paths that the authenticate service serves on its own host. Pure.
 */
import { isProviderCallback } from "../../auth/index.ts";

/** Paths by which a load balancer or an orchestrator asks whether this node is alive. */
export function isProbePath(path: string): boolean {
  return path === "/ping" || path === "/healthz";
}

/** Paths that belong to the proxy on every host, beside `/ping` and `/healthz`. */
export function isReserved(path: string): boolean {
  return (
    path === "/.pomerium" ||
    path === "/.well-known/pomerium" ||
    path.startsWith("/.pomerium/") ||
    path.startsWith("/.well-known/pomerium/")
  );
}

/** Paths of the sign-in service on a host that is also the host of a route; the route has all others. */
export function isSignInPath(path: string): boolean {
  return isReserved(path) || path === "/" || isProviderCallback(path) || path === "/robots.txt";
}

/** Reserved paths for users of a route, also where the route is on the sign-in host. */
export function isVisitorPath(path: string): boolean {
  if (path.startsWith("/.pomerium/callback") || path.startsWith("/.pomerium/api/")) return true;
  if (path === "/.pomerium/routes") return true;
  return path === "/.pomerium/jwt" || path === "/.pomerium/return" || path === "/.pomerium/address.js";
}
