/**
 * Access report: who could reach a route, and which routes a person could reach, from a state of the log and a
 * configuration. Pure.
 *
 * - The policy engine itself answers. What depends on the request (method, path, address, certificate, device, time) or
 *   on data outside of the log is shown as a condition, never guessed.
 * - A person could reach a route if a session of theirs could: whether they had one at that moment does not matter.
 */
import {
  evaluatePartially,
  noRequest,
  type PartialCondition,
  type Principal,
  type RoutePolicy,
} from "../auth/index.ts";
import {
  claimsOfSession,
  type FactPositions,
  type GroupId,
  groupStream,
  isProvisioned,
  isSignalRecord,
  type Link,
  lastStatedOf,
  noPosition,
  type Position,
  type Profile,
  type Projection,
  type Sealed,
  type Stream,
  timeBoxOf,
  type UnixMs,
  type User,
  type UserId,
  userStream,
} from "../events/index.ts";
import type { ExplainedEvent } from "./explain.ts";

/** The log at one time. */
export type AccessState = Readonly<{
  at: UnixMs;
  /** The newest event that was recorded by then. */
  link: Link;
  projection: Pick<Projection, "users" | "user" | "groupsOf" | "membership" | "session" | "sessionsOf">;
  places: Pick<FactPositions, "ofStream" | "ofMembership">;
  open: (sealed: Sealed, userId: UserId) => Profile | undefined;
}>;

export type AccessFact = Readonly<{
  fact: Stream;
  member?: boolean;
  /** The end of an operator's addition, and its reason. */
  until?: string;
  reason?: string;
  /** The event that set it; 0: none did. `exact` false: this one or an earlier one. */
  position: Position;
  exact: boolean;
  /** Null: not looked up, or not found. */
  event: ExplainedEvent | null;
}>;
export type AccessAnswer = Readonly<{
  result: "permit" | "deny" | "conditional";
  conditions: readonly PartialCondition[];
  rule: string | null;
  /** Why the answer does not come from the policy, or cannot be complete; null: it does. */
  note: string | null;
}>;
export type AccessPerson = AccessAnswer &
  Readonly<{ userId: UserId; email: string; name: string; facts: readonly AccessFact[] }>;

/** What a report needs of a person; undefined: the user is a record, not a person who signs in. */
type Described = Readonly<{ principal: Principal | null; profile: Profile | undefined; note: string | null }>;

const profileCriteria: ReadonlySet<string> = new Set(["user", "email", "domain", "claim"]);
const personCriteria: ReadonlySet<string> = new Set([...profileCriteria, "authenticated_user", "groups"]);
const always: ReadonlySet<string> = new Set(["accept", "reject"]);

export function describePerson(state: AccessState, user: User): Described | undefined {
  const { userId, status, suspension } = user;
  if (isSignalRecord(userId)) return undefined;
  const profile = user.profile === null ? undefined : state.open(user.profile, userId);
  if (profile !== undefined && isProvisioned(profile)) return undefined;
  if (status === "erased") return { principal: null, profile, note: "the person was erased" };
  if (status === "suspended") {
    const end = suspension === undefined ? "" : ` until ${new Date(suspension.until).toISOString()}`;
    return { principal: null, profile, note: `the person was suspended${end}` };
  }
  if (user.profile === null) return { principal: null, profile, note: "the person had never signed in" };
  const note = profile === undefined ? "the person was erased since: what the provider said is unreadable" : null;
  return { principal: principalOf(state, user, profile ?? unreadable), profile, note };
}

const unreadable: Profile = { issuer: "", subject: "-", email: "", emailVerified: false, name: "", claims: {} };

function principalOf({ projection, at }: AccessState, user: User, profile: Profile): Principal {
  const { userId } = user;
  return {
    session: {
      status: "active",
      sessionId: "" as never,
      userId,
      idpId: "",
      issuedAt: at,
      expiresAt: Number.MAX_SAFE_INTEGER as UnixMs,
      refreshedAt: at,
      profile: new Uint8Array(),
      createdAt: noPosition,
    },
    user,
    userId,
    profile,
    claims: claimsOfSession(profile.claims, lastStatedOf(projection, userId), profile),
    groups: projection.groupsOf(userId, at),
  };
}

export function evaluateAccess(
  policy: RoutePolicy,
  { principal, profile, note }: Described,
  now: UnixMs,
): AccessAnswer {
  if (principal === null && note !== null) return { result: "deny", conditions: [], rule: null, note };
  const isKnown = (name: string): boolean => {
    const plain = name.split("/", 1)[0] ?? name;
    if (always.has(plain)) return true;
    return personCriteria.has(plain) && (profile !== undefined || principal === null || !profileCriteria.has(plain));
  };
  return { ...evaluatePartially(policy, { request: noRequest, principal, now, isKnown }), note };
}

/** What a caller without a sign-in gets. */
export function evaluateAnonymous(policy: RoutePolicy, now: UnixMs): AccessAnswer {
  return evaluateAccess(policy, { principal: null, profile: undefined, note: null }, now);
}

/** The facts behind an answer: the person, and the groups that the policy reads. */
export function factsBehind(policy: RoutePolicy, state: AccessState, userId: UserId): readonly AccessFact[] {
  const { projection, places, at } = state;
  const own = userStream(userId);
  const groups = projection.groupsOf(userId, at);
  return [
    { fact: own, ...places.ofStream(own), event: null },
    ...policy.reads.groups.map((name): AccessFact => {
      const groupId = name as GroupId;
      const grant = timeBoxOf(projection.membership(userId, groupId));
      return {
        fact: groupStream(groupId),
        member: groups.has(groupId),
        ...(grant === undefined ? {} : { until: new Date(grant.until).toISOString(), reason: grant.reason }),
        ...places.ofMembership(userId, groupId),
        event: null,
      };
    }),
  ];
}

/** The people that the policy may let in. `denied`: how many others there are. */
export async function whoCan(
  policy: RoutePolicy,
  state: AccessState,
  options: Readonly<{ limit: number; pause: () => Promise<void> }>,
): Promise<Readonly<{ people: readonly AccessPerson[]; denied: number; more: boolean }>> {
  const people: AccessPerson[] = [];
  let denied = 0;
  let seen = 0;
  for (const user of state.projection.users()) {
    seen += 1;
    if (seen % peoplePerSlice === 0) await options.pause();
    const described = describePerson(state, user);
    if (described === undefined) continue;
    const answer = evaluateAccess(policy, described, state.at);
    if (answer.result === "deny") denied += 1;
    else if (people.length >= options.limit) return { people, denied, more: true };
    else people.push({ ...answer, ...personOf(user, described), facts: factsBehind(policy, state, user.userId) });
  }
  return { people, denied, more: false };
}

const peoplePerSlice = 500;

function personOf({ userId }: User, { profile }: Described): Pick<AccessPerson, "userId" | "email" | "name"> {
  return { userId, email: profile?.email ?? "", name: profile?.name ?? "" };
}
