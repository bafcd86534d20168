/** Compiled route: everything about a route that does not depend on the request, built once per configuration. Pure. */
import type { AssertionRules } from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import { assertionRulesOf, carriersOf } from "../headers/assertion-rules.ts";
import { compileResponseRules, type ResponseRules } from "../headers/downstream-headers.ts";
import { compileRewrite, type Rewrite } from "../headers/rewrite.ts";
import type { ServiceAccountTokens } from "../headers/service-account-file.ts";
import { compileHeaderRules, type HeaderRules } from "../headers/upstream-headers.ts";
import { ownCookies } from "../message/cookies.ts";
import { type ClientTrust, compileClientTrusts } from "../tls/client-trust.ts";
import type { ConfiguredUpstreams } from "../upstream/connection-pools.ts";
import type { NextUpstream } from "../upstream/upstream-choice.ts";
import { compileRouteAnswer } from "./redirects.ts";
import { compileRouteTable, type RouteTable } from "./route-table.ts";

export type CompiledRoute = Readonly<{
  route: RouteConfig;
  scheme: "http" | "https";
  /** Verifies callers' certificates; null: the route ignores them. */
  clientTrust: ClientTrust | null;
  headerRules: HeaderRules;
  assertionRules: AssertionRules;
  responseRules: ResponseRules;
  rewrite: Rewrite;
  /** Undefined: the route forwards to an upstream. */
  answer: ReturnType<typeof compileRouteAnswer>;
  /** Undefined: the route responds by itself. */
  nextUpstream: NextUpstream | undefined;
}>;

export type CompiledRoutes = Readonly<{
  routes: RouteTable;
  compiledRouteOf(route: RouteConfig): CompiledRoute;
  /** Whether a compiled route belongs to this configuration. */
  has(compiled: CompiledRoute): boolean;
  /**
   * Finds the routes that now apply to a request which a route of an earlier configuration permitted.
   *
   * @param found the route that matches the request now
   * @returns the routes that must all permit it; empty: its route is gone
   */
  successorsOf(earlier: RouteConfig, found: RouteConfig | undefined): readonly CompiledRoute[];
}>;

export function compileRoutes(
  config: Config,
  upstreams: ConfiguredUpstreams,
  tokens: Pick<ServiceAccountTokens, "of">,
): CompiledRoutes {
  const cookies = ownCookies(config.cookie.name);
  const trusts = compileClientTrusts(config);
  const compiled = new Map(config.routes.map((route) => [route, compileRoute(route)]));

  function compileRoute(route: RouteConfig): CompiledRoute {
    const answer = compileRouteAnswer(route);
    const headerRules = compileHeaderRules(route, config, cookies, tokens.of(route));
    return {
      route,
      scheme: route.from.protocol === "http:" ? "http" : "https",
      clientTrust: trusts.of(route),
      assertionRules: assertionRulesOf(route, carriersOf(headerRules, config)),
      headerRules,
      responseRules: compileResponseRules(route, cookies),
      rewrite: compileRewrite(route),
      answer,
      nextUpstream: answer === undefined ? upstreams.chooserOf(route) : undefined,
    };
  }

  function compiledRouteOf(route: RouteConfig): CompiledRoute {
    const found = compiled.get(route);
    if (found === undefined) throw new TypeError(`route ${route.id} does not belong to this configuration`);
    return found;
  }

  const byMatch = new Map(config.routes.toReversed().map((route) => [matchKeyOf(route), route]));
  return {
    routes: compileRouteTable(config.routes),
    compiledRouteOf,
    has: (one) => compiled.get(one.route) === one,
    successorsOf(earlier, found) {
      if (found === undefined) return [];
      const key = matchKeyOf(earlier);
      if (found.id === earlier.id || matchKeyOf(found) === key) return [compiledRouteOf(found)];
      // Another route now precedes it. An open exchange continues while both routes permit it.
      const same = byMatch.get(key);
      return same === undefined ? [] : [compiledRouteOf(found), compiledRouteOf(same)];
    },
  };
}

/** The requests that a route matches, as a key. Equal keys in two configurations mean the same route. */
function matchKeyOf({ from, tunnel, match }: RouteConfig): string {
  return JSON.stringify([from.href, tunnel, match.kind, match.value]);
}
