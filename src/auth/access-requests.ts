/**
 * Access requests of routes: who approves them, and whether an approval would open the route. Pure.
 *
 * - Approvers are named by the configuration of the process that asks. The leader checks at the head that the approver
 *   is still signed in and, if a group gives the right, still its member.
 * - An e-mail counts only if the provider has verified it.
 */
import type { Problem, RouteConfig, RouteRequestAccess } from "../config/index.ts";
import type { AccessDecider, GroupId, Profile, UnixMs } from "../events/index.ts";
import type { Policies, RoutePolicy } from "./authorize/compile.ts";
import type { Decision } from "./authorize/decide.ts";
import type { Principal } from "./authorize/decision.ts";
import { evaluatePartially, noRequest } from "./authorize/partial.ts";
import type { ListRoutesQuery } from "./route-list.ts";

export type RequestableRoute = RouteConfig & Readonly<{ requestAccess: RouteRequestAccess }>;

/** The routes of this process that people may ask for. */
export type RequestableRoutes = Readonly<{
  find(routeId: string): RequestableRoute | undefined;
  /** Decides plain requests of a person. */
  probe(query: ListRoutesQuery): (route: RouteConfig) => Decision;
}>;

/** The configured routes, by id. */
export function createRequestableRoutes(
  routes: readonly RouteConfig[],
  probe: RequestableRoutes["probe"],
): RequestableRoutes {
  const byId = new Map(
    routes.flatMap((route) => {
      const { id, requestAccess } = route;
      return requestAccess === null ? [] : [[id, { ...route, requestAccess }] as const];
    }),
  );
  return { find: (routeId) => byId.get(routeId), probe };
}

/** How a person may decide about requests for a route; null: they may not. */
export function approverOf(
  { groups, profile, userId, session: { sessionId } }: Principal,
  { approvers }: Pick<RouteRequestAccess, "approvers">,
): AccessDecider | null {
  const own = { userId, sessionId };
  const isNamed =
    profile !== undefined &&
    (approvers.includes(`sub:${profile.subject}`) ||
      (profile.emailVerified && profile.email !== "" && approvers.includes(`email:${profile.email}`)));
  if (isNamed) return { type: "named", ...own };
  const group = approvers.find((entry) => entry.startsWith("group:") && groups.has(groupIn(entry)));
  return group === undefined ? null : { type: "group", ...own, groupId: groupIn(group) };
}

const groupIn = (entry: string): GroupId => entry.slice("group:".length) as GroupId;

/** Warnings about routes that an approval would not open. */
export function checkRequestAccess(routes: readonly RouteConfig[], policies: Policies): readonly Problem[] {
  return routes.flatMap(({ id, requestAccess, location }): readonly Problem[] => {
    const policy = policies.get(id);
    if (requestAccess === null || policy === undefined) return [];
    const { group, approvers } = requestAccess;
    const warn = (key: string, problem: string, remedy: string): Problem => ({
      ...location,
      key: `request_access.${key}`,
      problem,
      remedy,
      severity: "warning",
    });
    const opens = policy.reads.groups.includes(group) && !isShutFor(policy, group);
    return [
      ...(opens
        ? []
        : [
            warn(
              "group",
              `the policy of this route does not let members of ${group} in, so an approval would not open it`,
              `let the policy allow groups: { has: ${group} }, or name the group that it asks for`,
            ),
          ]),
      ...(approvers.includes(`group:${group}`)
        ? [
            warn(
              "approvers",
              `members of ${group} approve requests for ${group}, so a person whose request was approved approves others`,
              "name another group of approvers",
            ),
          ]
        : []),
    ];
  });
}

/** Of no one: only groups are known. */
const unnamed: Profile = { issuer: "", subject: "-", email: "", emailVerified: false, name: "", claims: {} };
const known: ReadonlySet<string> = new Set(["groups", "accept", "reject"]);

/** Whether the policy refuses a member, whatever else is true of them. */
function isShutFor(policy: RoutePolicy, group: GroupId): boolean {
  const principal = { groups: new Set([group]), profile: unnamed } as unknown as Principal;
  const isKnown = (name: string): boolean => known.has(name.split("/", 1)[0] ?? name);
  return evaluatePartially(policy, { request: noRequest, principal, now: 0 as UnixMs, isKnown }).result === "deny";
}
