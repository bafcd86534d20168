/**
 * Scope of groups of people: whether all that a group opens lies within a caller's groups of routes. Pure.
 *
 * - At least one route of this server names the group in its policy, and each that does is in the scope.
 * - A group that gives a role in the operator API is in no scope, nor is one whose members approve requests for another
 *   route.
 * - What an application behind a route makes of a group in the identity headers is not known here.
 */
import type { Principal } from "../../../auth/index.ts";
import type { GroupId } from "../../../events/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { grantsOf, isInScope, type RouteScope } from "./operator-roles.ts";

export type ScopeSources = Pick<OperatorApiDeps, "routePolicies" | "roles">;

/** For many groups: the routes are read once. */
export function scopeOfGroups({ routePolicies, roles }: ScopeSources, scope: RouteScope): (group: GroupId) => boolean {
  if (scope === null) return () => true;
  const [inside, outside] = [new Set<string>(), new Set<string>()];
  for (const { policy, routeGroups, requestAccess } of routePolicies?.() ?? []) {
    const isInside = isInScope(scope, routeGroups);
    for (const group of policy.groupsNamed) (isInside ? inside : outside).add(group);
    if (isInside) continue;
    for (const approver of requestAccess?.approvers ?? [])
      if (approver.startsWith("group:")) outside.add(approver.slice("group:".length));
  }
  return (group) => inside.has(group) && !outside.has(group) && !givesRole(group, roles());
}

function givesRole(group: GroupId, roles: ReturnType<ScopeSources["roles"]>): boolean {
  return grantsOf({ groups: new Set([group]), profile: undefined } as unknown as Principal, roles).length > 0;
}

/** The ids of the routes in the scope; null: all. */
export function routesInScope({ routePolicies }: ScopeSources, scope: RouteScope): ReadonlySet<string> | null {
  if (scope === null) return null;
  const routes = (routePolicies?.() ?? []).filter(({ routeGroups }) => isInScope(scope, routeGroups));
  return new Set(routes.map(({ id }) => id));
}
