/**
 * Decision scope: which audit records a caller may see whose role is limited to groups of routes.
 *
 * - Decisions on the routes of these groups, by the configuration that this server runs now.
 * - Neither acts of operators nor sign-ins, which concern people whatever routes they reach. Gaps are shown: they say
 *   only how many records of a node are lost.
 */
import type { AuditRecord } from "../../../audit/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { isInScope, type RouteScope } from "../roles/operator-roles.ts";

export function scopeOfRecords(
  { routePolicies }: Pick<OperatorApiDeps, "routePolicies">,
  scope: RouteScope,
): (record: AuditRecord) => boolean {
  if (scope === null) return () => true;
  const routes = new Set(
    (routePolicies?.() ?? []).filter(({ routeGroups }) => isInScope(scope, routeGroups)).map(({ id }) => id),
  );
  return (record) =>
    record.kind === "gap" || (record.kind === "decision" && record.routeId !== null && routes.has(record.routeId));
}
