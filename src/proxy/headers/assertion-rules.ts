/**
 * Assertion rules of a route: the issuer, the groups, and the headers that carry the identity.
 *
 * Pure. Assertions are cached by the rules object, so each caller of this file makes one for a route and
 * configuration and keeps it.
 */
import type { AssertionRules, IdentityCarriers } from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import type { HeaderRules } from "./upstream-headers.ts";

export function assertionRulesOf(route: RouteConfig, carriers: IdentityCarriers): AssertionRules {
  return {
    issuerFormat: route.jwtIssuerFormat,
    groupsFilter: route.jwtGroupsFilter,
    routeId: route.id,
    carriers,
  };
}

/** The headers that the proxy itself sends to the route's upstream. */
export function carriersOf(rules: HeaderRules, config: Pick<Config, "jwtClaimsHeaders">): IdentityCarriers {
  const { suppressed, wantsIdentity, set, kubernetes } = rules;
  const passesIdentity = wantsIdentity === "assertion-and-claims";
  const assertionReferences = set.flatMap(({ parts }) => parts.filter(({ type }) => type === "jwt")).length;
  return {
    assertions: assertionReferences + (passesIdentity && !suppressed.has("x-pomerium-jwt-assertion") ? 1 : 0),
    claimHeaders: passesIdentity ? Object.keys(config.jwtClaimsHeaders).filter((name) => !suppressed.has(name)) : [],
    impersonation: kubernetes !== null,
  };
}

/** The headers of a reply to another proxy: forward-auth or Envoy's external authorization. */
export function replyCarriersOf(config: Pick<Config, "jwtClaimsHeaders">): IdentityCarriers {
  return { assertions: 1, claimHeaders: Object.keys(config.jwtClaimsHeaders), impersonation: false };
}
