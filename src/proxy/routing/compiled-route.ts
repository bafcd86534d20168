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
import { compileRoutes, type Routes } from "./route-table.ts";

export type RoutePlan = Readonly<{
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

export type Plans = Readonly<{
  routes: Routes;
  planOf(route: RouteConfig): RoutePlan;
  /** Whether a compiled route belongs to this configuration. */
  has(plan: RoutePlan): boolean;
  /**
   * Finds the routes that now apply to a request which a route of an earlier configuration permitted.
   *
   * @param found the route that matches the request now
   * @returns the routes that must all permit it; empty: its route is gone
   */
  successorsOf(earlier: RouteConfig, found: RouteConfig | undefined): readonly RoutePlan[];
}>;

export function compilePlans(
  config: Config,
  upstreams: ConfiguredUpstreams,
  tokens: Pick<ServiceAccountTokens, "of">,
): Plans {
  const cookies = ownCookies(config.cookie.name);
  const trusts = compileClientTrusts(config);
  const plans = new Map(config.routes.map((route) => [route, compilePlan(route)]));

  function compilePlan(route: RouteConfig): RoutePlan {
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

  function planOf(route: RouteConfig): RoutePlan {
    const plan = plans.get(route);
    if (plan === undefined) throw new TypeError(`route ${route.id} has no plan`);
    return plan;
  }

  const byPlace = new Map(config.routes.toReversed().map((route) => [placeOf(route), route]));
  return {
    routes: compileRoutes(config.routes),
    planOf,
    has: (plan) => plans.get(plan.route) === plan,
    successorsOf(earlier, found) {
      if (found === undefined) return [];
      const place = placeOf(earlier);
      if (found.id === earlier.id || placeOf(found) === place) return [planOf(found)];
      // Another route now precedes it. An open exchange continues while both routes permit it.
      const same = byPlace.get(place);
      return same === undefined ? [] : [planOf(found), planOf(same)];
    },
  };
}

/** What a route matches. Two routes that match the same are one route in two configurations. */
function placeOf({ from, tunnel, match }: RouteConfig): string {
  return JSON.stringify([from.href, tunnel, match.kind, match.value]);
}
