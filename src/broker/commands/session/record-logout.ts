/**
 * Record logout: an identity provider has ended a session of its own, or all sessions of a person. Pure.
 *
 * - Sessions end by events of their own, which every build obeys. The logout is recorded beside them, so that a sign-in
 *   that is still under way is refused, also where no session was known yet.
 * - A recorded logout is a tombstone without a person, which the sweep removes a day later. Their number is bounded.
 * - A signal that ends all sessions of a person counts as a logout of that person (receive-signal.ts).
 *
 * Why so: docs/adr/0045-a-logout-is-remembered.md.
 */
import {
  type CardeaEvent,
  logoutsFrom,
  noPosition,
  type Projection,
  parseSessionId,
  parseUserId,
  personLogoutId,
  type SessionId,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import { booleanOf, MalformedCommandError } from "../fields.ts";
import { type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";

/** Longer than a sign-in takes, and than the ID tokens of usual providers are valid. */
export const rememberedMs = 24 * 3_600_000;
/** Bounds the memory of remembered logouts to about 12 MB on each node. */
export const rememberedMax = 100_000;
/** Signals leave the other half to logouts, of which one that is not remembered is refused. */
export const rememberedOfSignalsMax = rememberedMax / 2;
/** Beyond it, one event per person ends all of their sessions. */
const revokedAtOnceMax = 256;
/** Clocks of processes differ by at most this; a lease requires it. */
const clockDifferenceMs = 2_000;

export const recordLogout: CommandDefinition<"recordLogout"> = {
  schema(fields) {
    const userId = fields["userId"] === null ? null : parseUserId(fields["userId"]);
    const providerSession = parseProviderSession(fields["providerSession"]);
    if (userId === null && providerSession === null)
      throw new MalformedCommandError("a logout names neither a session nor a person");
    return { type: "recordLogout", providerSession, userId, remembered: booleanOf(fields, "remembered") };
  },
  permission: ["authenticate"],
  tightens: true,
  access(command, projection) {
    const { userId, providerSession } = command;
    const sessions = providerSession === null ? [] : projection.sessionsOfProvider(providerSession);
    const people = sessions.map((id) => projection.session(id)?.userId ?? null);
    const users = [userId, ...people].filter((id) => id !== null);
    return { reads: [], writes: [logoutIdOf(command), ...sessions].map(sessionStream).concat(users.map(userStream)) };
  },
  perform(projection, command, tools) {
    if (projection.level < logoutsFrom)
      return refuseCommand(
        "conflict",
        `the cluster is at level ${projection.level}, and logouts need level ${logoutsFrom}: run cardea cluster finalize`,
      );
    const ended = endedBy(projection, command);
    const logoutId = logoutIdOf(command);
    const known = projection.session(logoutId) !== undefined;
    const hasRoom = known || projection.tombstonesWithoutUser < rememberedMax;
    if (command.remembered && !hasRoom && ended.events.length === 0)
      return refuseCommand("conflict", `${rememberedMax} logouts of the last day are remembered: no more can be`);
    const remembered = command.remembered && hasRoom ? [logoutRecorded(logoutId, tools.now)] : [];
    return recordChanges([...ended.events, ...remembered], { vaultRemoved: ended.sessions });
  },
};

function logoutRecorded(logoutId: SessionId, now: UnixMs): CardeaEvent {
  return { type: "LogoutRecorded", logoutId, until: (now + rememberedMs) as UnixMs };
}

/** Refuses the sign-ins of these people that are under way, as far as there is room. */
export function rememberLogouts(projection: Projection, people: readonly UserId[], now: UnixMs): CardeaEvent[] {
  const hasRoom = projection.tombstonesWithoutUser + people.length <= rememberedOfSignalsMax;
  return hasRoom ? people.map((userId) => logoutRecorded(personLogoutId(userId), now)) : [];
}

type Ended = Readonly<{ events: readonly CardeaEvent[]; sessions: readonly SessionId[] }>;

function endedBy(projection: Projection, { userId, providerSession }: CommandOf<"recordLogout">): Ended {
  if (providerSession === null) return userId === null ? { events: [], sessions: [] } : ofPeople(projection, [userId]);
  const active: Readonly<{ sessionId: SessionId; userId: UserId }>[] = [];
  for (const id of projection.sessionsOfProvider(providerSession)) {
    const at = projection.sessionStatus(id);
    if (at.status === "active") active.push(at.session);
  }
  if (active.length > revokedAtOnceMax)
    return ofPeople(projection, [...new Set(active.map((session) => session.userId))]);
  return {
    events: active.map((session) => ({
      type: "SessionRevoked",
      sessionId: session.sessionId,
      userId: session.userId,
      reason: "identity-provider",
    })),
    sessions: active.map(({ sessionId }) => sessionId),
  };
}

function ofPeople(projection: Projection, people: readonly UserId[]): Ended {
  const events: CardeaEvent[] = [];
  const sessions: SessionId[] = [];
  for (const userId of people) {
    const active = projection.sessionsOf(userId).filter((id) => projection.sessionStatus(id).status === "active");
    if (active.length === 0) continue;
    events.push({ type: "UserSessionsRevoked", userId, upTo: null, reason: "identity-provider" });
    sessions.push(...active);
  }
  return { events, sessions };
}

function logoutIdOf({ providerSession, userId }: CommandOf<"recordLogout">): SessionId {
  return providerSession ?? personLogoutId(userId ?? ("" as UserId));
}

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** @throws MalformedCommandError unless it is null or a UUID */
export function parseProviderSession(value: unknown): SessionId | null {
  if (value === null) return null;
  if (typeof value !== "string" || !uuidPattern.test(value))
    throw new MalformedCommandError("a provider's session is not a UUID");
  return parseSessionId(value);
}

/** The ids under which a logout that concerns a sign-in is recorded. */
export function logoutsConcerning({
  userId,
  providerSession,
}: Readonly<{ userId: UserId; providerSession?: SessionId }>): readonly SessionId[] {
  const ofPerson = personLogoutId(userId);
  return providerSession === undefined ? [ofPerson] : [providerSession, ofPerson];
}

/**
 * The refusal of a sign-in whose session at the provider has ended, or that began before the provider or a signal ended
 * all sessions of the person. Undefined: none.
 */
export function refuseLoggedOut(
  projection: Projection,
  { userId, providerSession, begunAt, issuedAt, signalRecords = [] }: CommandOf<"createSession">,
  { now }: Pick<Tools, "now">,
): Performed | undefined {
  const isCut = (record: UserId): boolean =>
    begunAt !== undefined && begunAt < (projection.user(record)?.sessionsRevokedBelow ?? noPosition);
  if (signalRecords.some(isCut)) return loggedOut;
  const isEnded = providerSession !== undefined && isRemembered(projection, providerSession, now);
  if (isEnded) return loggedOut;
  const ofPerson = projection.session(personLogoutId(userId));
  if (ofPerson?.status !== "revoked") return undefined;
  const { expiresAt, revokedAt } = ofPerson;
  if (expiresAt !== null && expiresAt <= now) return undefined;
  if (begunAt !== undefined) return begunAt < revokedAt ? loggedOut : undefined;
  // A token that was issued before, presented for the first time now. Recorded again after a loss: no time is known.
  const recordedAt = expiresAt === null ? now : expiresAt - rememberedMs;
  return issuedAt <= recordedAt + clockDifferenceMs ? loggedOut : undefined;
}

const loggedOut = refuseCommand(
  "logged-out",
  "the identity provider or a signal has ended the session of this sign-in",
);

function isRemembered(projection: Projection, logoutId: SessionId, now: UnixMs): boolean {
  const session = projection.session(logoutId);
  return session !== undefined && (session.expiresAt === null || session.expiresAt > now);
}
