/**
 * Operator roles: what a person may do in the operator API, and within which groups of routes. Pure. The roles of
 * processes (docs/roles.md) are another thing.
 *
 * - An entry of `administrators`, `operators` or `viewers` grants one role, for all routes or for some groups of them.
 * - Each role includes those below it. Grants add up: a viewer of everything may be an operator of some routes.
 * - An e-mail counts only if the provider has verified it.
 */
import type { Principal } from "../../../auth/index.ts";
import type { Config, OperatorEntry } from "../../../config/index.ts";
import type { GroupId } from "../../../events/index.ts";

/** From the lowest to the highest. */
export const operatorRoles = ["viewer", "operator", "administrator"] as const;
export type OperatorRole = (typeof operatorRoles)[number];

/** The groups of routes that a caller may see and change. Null: all routes. */
export type RouteScope = ReadonlySet<string> | null;
export type RoleGrant = Readonly<{ role: OperatorRole; scope: RouteScope }>;
export type RoleEntries = Readonly<Pick<Config, "administrators"> & Partial<Pick<Config, "operators" | "viewers">>>;

export function isOperatorRole(value: unknown): value is OperatorRole {
  return operatorRoles.includes(value as OperatorRole);
}

/** What the entries of the configuration grant to this person. */
export function grantsOf(
  principal: Principal,
  { administrators, operators = [], viewers = [] }: RoleEntries,
): readonly RoleGrant[] {
  const granted = (role: OperatorRole, entries: readonly OperatorEntry[]): RoleGrant[] =>
    entries
      .filter((entry) => isNamedBy(principal, nameOf(entry)))
      .map((entry) => ({ role, scope: typeof entry === "string" ? null : new Set(entry.routeGroups) }));
  return [
    ...granted("administrator", administrators),
    ...granted("operator", operators),
    ...granted("viewer", viewers),
  ];
}

/** The groups that give a role. A bare entry may be one. */
export function groupsIn({ administrators, operators = [], viewers = [] }: RoleEntries): readonly string[] {
  return [...administrators, ...operators, ...viewers].flatMap((entry) => {
    const [, kind, name] = /^(group|email|sub):(.*)$/s.exec(nameOf(entry)) ?? [undefined, "group", nameOf(entry)];
    return kind === "group" && name !== undefined ? [name] : [];
  });
}

const nameOf = (entry: OperatorEntry): string => (typeof entry === "string" ? entry : entry.who);

/** @param entry `group:ID`, `email:ADDRESS` or `sub:SUBJECT`; a bare entry counts as each of the three */
function isNamedBy({ groups, profile }: Principal, entry: string): boolean {
  const [, kind, named = ""] = /^(group|email|sub):(.*)$/s.exec(entry) ?? [];
  const name = kind === undefined ? entry : named;
  if (name === "") return false;
  const isKind = (one: string): boolean => kind === undefined || kind === one;
  if (isKind("group") && groups.has(name as GroupId)) return true;
  if (profile === undefined) return false;
  return (
    (isKind("sub") && profile.subject === name) || (isKind("email") && profile.emailVerified && profile.email === name)
  );
}

export const includesRole = (role: OperatorRole, needed: OperatorRole): boolean =>
  operatorRoles.indexOf(role) >= operatorRoles.indexOf(needed);

/** The highest role of the grants, whatever its scope; undefined: there is none. */
export function highestRole(grants: readonly RoleGrant[]): OperatorRole | undefined {
  return operatorRoles.findLast((role) => grants.some((grant) => grant.role === role));
}

/** Where the grants permit what needs this role. Undefined: nowhere. */
export function scopeFor(grants: readonly RoleGrant[], needed: OperatorRole): RouteScope | undefined {
  const scopes = grants.filter(({ role }) => includesRole(role, needed)).map(({ scope }) => scope);
  if (scopes.length === 0) return undefined;
  const limited = scopes.filter((scope) => scope !== null);
  return limited.length < scopes.length ? null : new Set(limited.flatMap((scope) => [...scope]));
}

/** Whether `now` still has all that `before` had. */
export function isStillWithin(before: RouteScope, now: RouteScope): boolean {
  return now === null || (before !== null && [...before].every((group) => now.has(group)));
}

/** Whether a route belongs to one of the groups of a scope. */
export function isInScope(scope: RouteScope, routeGroups: readonly string[]): boolean {
  return scope === null || routeGroups.some((group) => scope.has(group));
}

/** Whether these entries make the person an administrator of a route; without one, of all routes. */
export function isAdministrator(
  principal: Principal,
  administrators: readonly OperatorEntry[],
  routeGroups: readonly string[] = [],
): boolean {
  const scope = scopeFor(grantsOf(principal, { administrators }), "administrator");
  return scope !== undefined && isInScope(scope, routeGroups);
}
