/**
 * Route changes: who would lose or gain which routes by a change, as the policies of this server's routes say. The same
 * evaluation as that of access reports (docs/adr/0052-access-reports-fold-the-log-again.md).
 *
 * What depends on the request is not guessed: who keeps or gains a route only under such a condition is counted
 * apart. The answer has bounds in bytes and in time, and says what it leaves out.
 */
import { type AccessState, describePerson, evaluateAccess, evaluateAnonymous } from "../../../audit/index.ts";
import type { RoutePolicy } from "../../../auth/index.ts";
import type { GroupId, User, UserId } from "../../../events/index.ts";
import { startTurns, type WorkTurns } from "../lists/turns.ts";
import type { OperatorApiDeps, PolicyOfRoute } from "../operator-route.ts";

export type RouteLosses = Readonly<{
  /** The routes that change, the one of most people first. `conditional`: who has it in some requests then. */
  routes: readonly Readonly<{ route: string; people: number; conditional: number }>[];
  moreRoutes: number;
  /** The people who lose or gain a route. `more`: routes of the person that are not named. */
  people: readonly Readonly<{ userId: string; email: string; routes: readonly string[]; more: number }>[];
  morePeople: number;
  /** People that were not evaluated, because that would have taken too long. */
  unchecked: number;
}>;
export type RouteChanges = Readonly<{ lost: RouteLosses; gained: RouteLosses }>;

/** What a change takes: groups from people, and all access from those whose access it ends. */
export type TakenFrom = Readonly<{ groups: ReadonlyMap<UserId, readonly GroupId[]>; ended: readonly UserId[] }>;
/** The same, and what it gives: groups, and the access of people who were suspended. */
export type AccessChange = TakenFrom &
  Readonly<{ given?: ReadonlyMap<UserId, readonly GroupId[]>; restored?: readonly UserId[] }>;

const routesMax = 50;
const peopleMax = 100;
const routesOfPersonMax = 5;
const routeCharsMax = 200;
const timeMsMax = 1_500;

type Changed = Readonly<{ route: string; isConditional: boolean }>;
type Evaluated = Readonly<{ userId: UserId; email: string; lost: readonly Changed[]; gained: readonly Changed[] }>;

export async function findRouteLosses(deps: OperatorApiDeps, taken: TakenFrom): Promise<RouteLosses> {
  return (await findRouteChanges(deps, taken)).lost;
}

export async function findRouteChanges(deps: OperatorApiDeps, change: AccessChange): Promise<RouteChanges> {
  const { groups, ended, given, restored = [] } = change;
  const concerned = [...new Set([...ended, ...restored, ...groups.keys(), ...(given?.keys() ?? [])])];
  const evaluate = evaluationFor(deps, change, startTurns(deps));
  const [lost, gained] = [new Tally(), new Tally()];
  const endsAt = deps.now() + timeMsMax;
  let checked = 0;
  for (const userId of concerned) {
    if (deps.now() >= endsAt) break;
    checked += 1;
    const evaluated = await evaluate(userId);
    if (evaluated === undefined) continue;
    lost.add(evaluated, evaluated.lost);
    gained.add(evaluated, evaluated.gained);
  }
  const unchecked = concerned.length - checked;
  return { lost: lost.result(unchecked), gained: gained.result(unchecked) };
}

class Tally {
  readonly #routes = new Map<string, { people: number; conditional: number }>();
  readonly #people: RouteLosses["people"][number][] = [];
  #morePeople = 0;

  add({ userId, email }: Evaluated, changed: readonly Changed[]): void {
    if (changed.length === 0) return;
    for (const { route, isConditional } of changed) {
      const counts = this.#routes.get(route) ?? { people: 0, conditional: 0 };
      counts[isConditional ? "conditional" : "people"] += 1;
      this.#routes.set(route, counts);
    }
    const named = changed.slice(0, routesOfPersonMax).map(({ route }) => route);
    if (this.#people.length >= peopleMax) this.#morePeople += 1;
    else this.#people.push({ userId, email, routes: named, more: changed.length - named.length });
  }

  result(unchecked: number): RouteLosses {
    const counted = [...this.#routes].map(([route, counts]) => ({ route, ...counts }));
    counted.sort((a, b) => b.people - a.people || b.conditional - a.conditional || (a.route < b.route ? -1 : 1));
    return {
      routes: counted.slice(0, routesMax),
      moreRoutes: Math.max(0, counted.length - routesMax),
      people: this.#people,
      morePeople: this.#morePeople,
      unchecked,
    };
  }
}

/** Undefined: the user is a record of a SCIM client or a directory, not a person who signs in. */
function evaluationFor(
  { replica, now, routePolicies }: OperatorApiDeps,
  { groups, ended: endedPeople, given, restored: restoredPeople }: AccessChange,
  turns: WorkTurns,
): (userId: UserId) => Promise<Evaluated | undefined> {
  const [ended, restored] = [new Set(endedPeople), new Set(restoredPeople)];
  const at = now();
  const { projection, places, applied: link } = replica;
  const before: AccessState = { at, link, projection, places, open: replica.open.bind(replica) };
  const routes = routePolicies?.() ?? [];
  const routesNaming = byGroup(routes);
  /** A route that needs no sign-in is neither lost nor gained. */
  const open = new Map<RoutePolicy, boolean>();
  const isOpen = (policy: RoutePolicy): boolean => {
    const known = open.get(policy) ?? evaluateAnonymous(policy, at).result === "permit";
    open.set(policy, known);
    return known;
  };
  return async (userId) => {
    await turns.step();
    const user = projection.user(userId);
    const own = user && describePerson(before, user);
    if (user === undefined || own === undefined) return undefined;
    const changed = { lost: new Set(groups.get(userId)), given: given?.get(userId) ?? [] };
    const isWhole = ended.has(userId) || restored.has(userId);
    const then = restored.has(userId) ? activeAgain(user) : user;
    const after = ended.has(userId) ? undefined : describePerson(withGroups(before, changed), then);
    const named = [...changed.lost, ...changed.given].flatMap((group) => routesNaming.get(group) ?? []);
    const [lost, gained]: [Changed[], Changed[]] = [[], []];
    for (const { from, policy } of isWhole ? routes : new Set(named)) {
      await turns.step();
      const was = evaluateAccess(policy, own, at).result;
      const will = after === undefined ? "deny" : evaluateAccess(policy, after, at).result;
      if (was === will || isOpen(policy)) continue;
      const route = from.slice(0, routeCharsMax);
      const isLess = will === "deny" || was === "permit";
      if (isLess) lost.push({ route, isConditional: will !== "deny" });
      else gained.push({ route, isConditional: will !== "permit" });
    }
    return { userId, email: own.profile?.email ?? "", lost, gained };
  };
}

function activeAgain({ suspension: _, ...user }: User): User {
  return { ...user, status: "active" };
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

/** The state with other groups of the one person that is read from it. */
function withGroups(
  state: AccessState,
  { lost, given }: Readonly<{ lost: ReadonlySet<GroupId>; given: readonly GroupId[] }>,
): AccessState {
  const { projection } = state;
  return {
    ...state,
    projection: {
      users: () => projection.users(),
      session: (sessionId) => projection.session(sessionId),
      sessionsOf: (userId) => projection.sessionsOf(userId),
      user: (userId) => projection.user(userId),
      membership: (userId, groupId) => projection.membership(userId, groupId),
      groupsOf: (userId, at) =>
        new Set([...[...projection.groupsOf(userId, at)].filter((group) => !lost.has(group)), ...given]),
    },
  };
}
