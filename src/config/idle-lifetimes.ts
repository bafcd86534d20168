/**
 * Idle lifetimes: how long a session may be unused, by route and provider. The shortest that applies counts. Pure.
 *
 * 0 means none throughout.
 */
import type { Config, RouteConfig } from "./config.ts";
import { signInClientsOf } from "./sign-in-clients.ts";

export type IdleLifetimes = Readonly<{
  /** For sessions of a provider on a route (ms). */
  onRoute(route: Pick<RouteConfig, "sessionIdleLifetimeMs">, idpId: string): number;
  /** For sessions of a provider everywhere (ms). */
  everywhere(idpId: string): number;
  /** The shortest that any session of the provider meets on any route (ms); it sets how often nodes report. */
  shortest(idpId: string): number;
}>;

type IdleConfig = Pick<Config, "sessionIdleLifetimeMs" | "signInProviders" | "defaultSignInProviders" | "routes">;

/** The part of an idle lifetime after which a node reports that a session is in use. */
export const reportedEvery = 4;

/** @returns null: the configuration has no idle lifetime */
export function idleLifetimesOf(config: IdleConfig): IdleLifetimes | null {
  const ofProviders = new Map<string, number>();
  for (const { idpId, sessionIdleLifetimeMs } of signInClientsOf(config).all.values())
    if (sessionIdleLifetimeMs > 0) ofProviders.set(idpId, sessionIdleLifetimeMs);
  const global = config.sessionIdleLifetimeMs;
  const ofRoutes = config.routes.reduce((least, route) => shorter(least, route.sessionIdleLifetimeMs), 0);
  const onAny = shorter(global, ofRoutes);
  if (onAny === 0 && ofProviders.size === 0) return null;
  const everywhere =
    ofProviders.size === 0 ? () => global : (idpId: string) => shorter(global, ofProviders.get(idpId) ?? 0);
  return {
    everywhere,
    onRoute: ({ sessionIdleLifetimeMs }, idpId) => shorter(sessionIdleLifetimeMs, everywhere(idpId)),
    shortest: ofProviders.size === 0 ? () => onAny : (idpId) => shorter(onAny, ofProviders.get(idpId) ?? 0),
  };
}

function shorter(a: number, b: number): number {
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
}
