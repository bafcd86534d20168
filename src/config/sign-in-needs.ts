/**
 * Sign-in needs: whether any route requires its callers to sign in, according to the policies as written.
 *
 * Pure. A criterion that is not listed here counts as one that needs a session. So a new criterion requires sign-in
 * until it is listed.
 */
import type { RouteAccess, RouteConfig } from "./config.ts";
import { isPlainObject } from "./values/value-type.ts";

/** Criteria that need only the request and its connection. */
const withoutSession: ReadonlySet<string> = new Set([
  "accept",
  "reject",
  "cors_preflight",
  "http_method",
  "http_path",
  "source_ip",
  "client_certificate",
  "invalid_client_certificate",
  "date",
  "day_of_week",
  "time_of_day",
]);

type RouteRequirements = RouteAccess & Pick<RouteConfig, "bearer" | "idpClient" | "signInProviders" | "shadowPolicy">;

/** Whether a caller of this route may have to sign in. */
export function requiresSession(route: RouteRequirements): boolean {
  if (route.allowAnyAuthenticatedUser || route.bearer !== null || route.idpClient !== null) return true;
  if (route.signInProviders !== null) return true;
  if (route.allowedUsers.length + route.allowedDomains.length + Object.keys(route.allowedIdpClaims).length > 0)
    return true;
  const policies = [route.policy, route.shadowPolicy, ...route.subPolicies.map(({ policy }) => policy)];
  return policies.some((source) => source !== null && criteriaIn(source.ppl).some((name) => !withoutSession.has(name)));
}

/**
 * Names of criteria in `allow`/`deny`, `and`/`or`/`not`/`nor`; what has another form is named as it is, and so asks.
 */
function criteriaIn(ppl: unknown): readonly string[] {
  const rules: readonly unknown[] = Array.isArray(ppl) ? ppl : [ppl];
  return rules.flatMap((rule) =>
    valuesOf(rule).flatMap((action) =>
      valuesOf(action).flatMap((list: unknown) =>
        Array.isArray(list) ? list.flatMap((one) => (isPlainObject(one) ? Object.keys(one) : ["(unreadable)"])) : [],
      ),
    ),
  );
}

function valuesOf(value: unknown): readonly unknown[] {
  return isPlainObject(value) ? Object.values(value) : [];
}
