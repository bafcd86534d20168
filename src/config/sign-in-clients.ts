/**
 * Sign-in clients: our clients at the identity providers, found by the id that sessions carry, by name, by issuer or by
 * route. Pure.
 *
 * - A session names its client (`SessionCreated.idpId`) and counts only on routes that allow it.
 * - The id is derived from provider, issuer and client id. A renamed provider keeps its sessions; another client id
 *   makes others.
 */
import { createHash } from "node:crypto";
import type { Config, RouteConfig, SignInProviderConfig } from "./config.ts";
import { defaultProviderName } from "./values/sign-in-provider-values.ts";

/** A client at a provider. That of a single route (`idp_client_id`) is one at the provider `default`. */
export type SignInClient = SignInProviderConfig & Readonly<{ idpId: string }>;

/** Whose sessions count on a route. */
export type RouteSignIn = Readonly<{
  /** In the order of the configuration; empty: there is no provider. */
  idpIds: readonly string[];
  allows: ReadonlySet<string>;
  /** The client whose tokens count as bearer tokens: the first; "": none. */
  bearerIdpId: string;
}>;

export type SignInClients = Readonly<{
  /** Each client once, by its id. */
  all: ReadonlyMap<string, SignInClient>;
  /** Of routes that name no provider. */
  defaults: RouteSignIn;
  ofRoute(route: RouteConfig): RouteSignIn;
  /** Undefined: no provider has this name. */
  byName(name: string): SignInClient | undefined;
  /** Every client at an issuer, by the exact `iss` of its tokens; a slash at the end does not count. */
  byIssuer(issuer: string): readonly SignInClient[];
}>;

type ClientsConfig = Pick<Config, "signInProviders" | "defaultSignInProviders" | "routes">;

export function signInClientsOf({ signInProviders, defaultSignInProviders, routes }: ClientsConfig): SignInClients {
  const byName = new Map(signInProviders.map((provider) => [provider.name, clientOf(provider)]));
  const all = new Map([...byName.values()].map((client) => [client.idpId, client]));
  const main = byName.get(defaultProviderName);
  const namesToIds = (names: readonly string[]): readonly string[] =>
    names.flatMap((name) => byName.get(name)?.idpId ?? []);
  const defaults = routeSignInOf(namesToIds(defaultSignInProviders));
  const byRoute = new Map<RouteConfig, RouteSignIn>();
  for (const route of routes) {
    if (route.idpClient !== null && main !== undefined) {
      const own = clientOf({ ...main, ...route.idpClient });
      all.set(own.idpId, own);
      byRoute.set(route, routeSignInOf([own.idpId]));
    } else if (route.signInProviders !== null) byRoute.set(route, routeSignInOf(namesToIds(route.signInProviders)));
  }
  return {
    all,
    defaults,
    ofRoute: (route) => byRoute.get(route) ?? defaults,
    byName: (name) => byName.get(name),
    byIssuer(issuer) {
      const wanted = withoutSlash(issuer);
      return [...all.values()].filter(({ url }) => withoutSlash(url.href) === wanted);
    },
  };
}

function clientOf(provider: SignInProviderConfig): SignInClient {
  return { ...provider, idpId: idpIdOf(provider) };
}

function idpIdOf({ provider, url, clientId }: SignInProviderConfig): string {
  const parts = JSON.stringify([provider, url.href, clientId]);
  return createHash("sha256").update(parts).digest("base64url").slice(0, 16);
}

function routeSignInOf(idpIds: readonly string[]): RouteSignIn {
  return { idpIds, allows: new Set(idpIds), bearerIdpId: idpIds[0] ?? "" };
}

function withoutSlash(url: string): string {
  return url.endsWith("/") ? url.slice(0, -1) : url;
}
