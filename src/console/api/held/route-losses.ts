/**
 * Route losses: who would lose which routes by a change, as the policies of this server's routes say. The same
 * evaluation as that of access reports (docs/adr/0052-access-reports-fold-the-log-again.md).
 *
 * What depends on the request is not guessed: a person who keeps a route only under such a condition is counted apart.
 * The answer has bounds in bytes and in time, and says what it leaves out.
 */
import { type AccessState, describePerson, evaluateAccess, evaluateAnonymous } from "../../../audit/index.ts";
import type { RoutePolicy } from "../../../auth/index.ts";
import type { GroupId, UserId } from "../../../events/index.ts";
import type { OperatorApiDeps, PolicyOfRoute } from "../operator-route.ts";

export type RouteLosses = Readonly<{
  /** Routes that people would lose, the one of most people first. `conditional`: who would keep it in some requests. */
  routes: readonly Readonly<{ route: string; people: number; conditional: number }>[];
  moreRoutes: number;
  /** People who would lose a route. `more`: routes of the person that are not named. */
  people: readonly Readonly<{ userId: string; email: string; routes: readonly string[]; more: number }>[];
  morePeople: number;
  /** People that were not evaluated, because that would have taken too long. */
  unchecked: number;
}>;

/** What a change takes: groups from people, and all access from those whose access it ends. */
export type TakenFrom = Readonly<{ groups: ReadonlyMap<UserId, readonly GroupId[]>; ended: readonly UserId[] }>;

const routesMax = 50;
const peopleMax = 100;
const routesOfPersonMax = 5;
const routeCharsMax = 200;
const timeMsMax = 1_500;
const perStep = 20;

type Lost = Readonly<{ route: string; isConditional: boolean }>;
type Evaluated = Readonly<{ email: string; lost: readonly Lost[] }>;

export async function findRouteLosses(deps: OperatorApiDeps, taken: TakenFrom): Promise<RouteLosses> {
  const ended = new Set(taken.ended);
  const concerned = [...new Set([...ended, ...taken.groups.keys()])];
  const evaluate = evaluationFor(deps, { ...taken, ended });
  const routes = new Map<string, { people: number; conditional: number }>();
  const people: RouteLosses["people"][number][] = [];
  let [checked, morePeople] = [0, 0];
  const endsAt = deps.now() + timeMsMax;
  for (const userId of concerned) {
    if (checked % perStep === 0 && checked > 0) {
      await deps.sleep(0, new AbortController().signal);
      if (deps.now() >= endsAt) break;
    }
    checked += 1;
    const evaluated = evaluate(userId);
    if (evaluated === undefined || evaluated.lost.length === 0) continue;
    const { lost, email } = evaluated;
    for (const { route, isConditional } of lost) {
      const counts = routes.get(route) ?? { people: 0, conditional: 0 };
      counts[isConditional ? "conditional" : "people"] += 1;
      routes.set(route, counts);
    }
    const named = lost.slice(0, routesOfPersonMax).map(({ route }) => route);
    if (people.length >= peopleMax) morePeople += 1;
    else people.push({ userId, email, routes: named, more: lost.length - named.length });
  }
  const counted = [...routes].map(([route, counts]) => ({ route, ...counts }));
  counted.sort((a, b) => b.people - a.people || b.conditional - a.conditional || (a.route < b.route ? -1 : 1));
  return {
    routes: counted.slice(0, routesMax),
    moreRoutes: Math.max(0, counted.length - routesMax),
    people,
    morePeople,
    unchecked: concerned.length - checked,
  };
}

/** Undefined: the user is a record of a SCIM client or a directory, not a person who signs in. */
function evaluationFor(
  { replica, now, routePolicies }: OperatorApiDeps,
  { groups, ended }: Readonly<{ groups: TakenFrom["groups"]; ended: ReadonlySet<UserId> }>,
): (userId: UserId) => Evaluated | undefined {
  const at = now();
  const { projection, places, applied: link } = replica;
  const before: AccessState = { at, link, projection, places, open: replica.open.bind(replica) };
  const routes = routePolicies?.() ?? [];
  const routesNaming = byGroup(routes);
  /** A route that needs no sign-in is not lost. */
  const open = new Map<RoutePolicy, boolean>();
  const isOpen = (policy: RoutePolicy): boolean => {
    const known = open.get(policy) ?? evaluateAnonymous(policy, at).result === "permit";
    open.set(policy, known);
    return known;
  };
  return (userId) => {
    const user = projection.user(userId);
    const own = user && describePerson(before, user);
    if (user === undefined || own === undefined) return undefined;
    const email = own.profile?.email ?? "";
    const lostGroups = groups.get(userId) ?? [];
    const isEnded = ended.has(userId);
    const after = isEnded ? undefined : describePerson(without(before, new Set(lostGroups)), user);
    const concerned = isEnded ? routes : [...new Set(lostGroups.flatMap((group) => routesNaming.get(group) ?? []))];
    const lost = concerned.flatMap(({ from, policy }): Lost[] => {
      const { result } = evaluateAccess(policy, own, at);
      if (result === "deny" || isOpen(policy)) return [];
      const then = after === undefined ? "deny" : evaluateAccess(policy, after, at).result;
      const isLess = then === "deny" || (then === "conditional" && result === "permit");
      return isLess ? [{ route: from.slice(0, routeCharsMax), isConditional: then !== "deny" }] : [];
    });
    return { email, lost };
  };
}

function byGroup(routes: readonly PolicyOfRoute[]): ReadonlyMap<string, readonly PolicyOfRoute[]> {
  const named = new Map<string, PolicyOfRoute[]>();
  for (const route of routes)
    for (const group of new Set(route.policy.groupsNamed)) {
      const known = named.get(group);
      if (known === undefined) named.set(group, [route]);
      else known.push(route);
    }
  return named;
}

/** The state without these groups of the one person that is read from it. */
function without(state: AccessState, lost: ReadonlySet<GroupId>): AccessState {
  const { projection } = state;
  return {
    ...state,
    projection: {
      users: () => projection.users(),
      session: (sessionId) => projection.session(sessionId),
      sessionsOf: (userId) => projection.sessionsOf(userId),
      user: (userId) => projection.user(userId),
      membership: (userId, groupId) => projection.membership(userId, groupId),
      groupsOf: (userId, at) => new Set([...projection.groupsOf(userId, at)].filter((group) => !lost.has(group))),
    },
  };
}
