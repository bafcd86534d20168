/** A projection with signed-in people, and a function that decides from a verified handle, as the proxy does. */
import {
  CallerCache,
  compilePolicies,
  type DecisionRequest,
  decide,
  type Policies,
  resolveCaller,
} from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import {
  type CardeaEvent,
  type Claims,
  type GroupId,
  type Profile,
  Projection,
  type UnixMs,
  type UserId,
} from "../../src/events/index.ts";
import { created, record, sessionId, userId } from "../../test/events/support.ts";

export type World = Readonly<{
  routeIds: readonly string[];
  /** @param person undefined: a visitor without a session. @returns the type of the answer */
  decide(person: number | undefined, routeId: string, request: DecisionRequest): string;
}>;

export function createWorld(
  routes: readonly RouteConfig[],
  {
    people,
    groupsOf,
    claimsOf,
  }: Readonly<{
    people: number;
    groupsOf: (person: number) => readonly string[];
    claimsOf: (person: number) => Claims;
  }>,
): World {
  const policies = compiled(routes);
  const projection = new Projection();
  const events = Array.from({ length: people }, (_, n): CardeaEvent[] => [
    created(n, n, 2_000_000_000_000),
    { type: "UserGroupsReplaced", userId: userId(n), source: "idp", groupIds: groupsOf(n) as readonly GroupId[] },
  ]).flat();
  for (const event of record(events)) projection.apply(event);
  const profiles = new Map(
    Array.from({ length: people }, (_, n): [UserId, Profile] => [
      userId(n),
      {
        issuer: "https://idp.example",
        subject: `subject-${n}`,
        email: `person-${n}@example.com`,
        emailVerified: true,
        name: `Person ${n}`,
        claims: claimsOf(n),
      },
    ]),
  );
  const handles = Array.from({ length: people }, (_, n) => ({
    sessionId: sessionId(n),
    userId: userId(n),
    idpId: "idp",
  }));
  const options = {
    now: 1_000_000 as UnixMs,
    idpIds: new Set(["idp"]),
    credentialInHeader: false,
    open: (_sealed: Uint8Array, id: UserId) => profiles.get(id),
    cache: new CallerCache(),
  };
  return {
    routeIds: [...policies.keys()],
    decide(person, routeId, request) {
      const caller = resolveCaller(projection, person === undefined ? undefined : handles[person], options);
      if (caller.type === "behind") throw new Error(caller.why);
      return decide({ policies, routeId, caller, request, now: options.now }).type;
    },
  };
}

function compiled(routes: readonly RouteConfig[]): Policies {
  const result = compilePolicies(routes);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.policies;
}
