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
  type Position,
  type Projection,
  parseSessionId,
  parseUnixMs,
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
import { type LostHistory, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";

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
/**
 * The clock of a provider or transmitter may be behind ours by this. Of what it says has ended, a session that began
 * later than this after its time is another one.
 */
export const senderClockMs = 5 * 60_000;

export const recordLogout: CommandDefinition<"recordLogout"> = {
  schema(fields) {
    const userId = fields["userId"] === null ? null : parseUserId(fields["userId"]);
    const providerSession = parseProviderSession(fields["providerSession"]);
    if (userId === null && providerSession === null)
      throw new MalformedCommandError("a logout names neither a session nor a person");
    const { issuedAt } = fields;
    return {
      type: "recordLogout",
      providerSession,
      userId,
      remembered: booleanOf(fields, "remembered"),
      ...(issuedAt === undefined ? {} : { issuedAt: parseUnixMs(issuedAt) }),
    };
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
    const remembered = command.remembered && hasRoom ? logoutRecorded(logoutId, logoutTimeOf(command, tools)) : [];
    return recordChanges([...ended.events, ...remembered], { vaultRemoved: ended.sessions });
  },
};

/** The leader's time of the logout: when it is recorded, or, where the provider's is much earlier, that. */
function logoutTimeOf({ issuedAt }: CommandOf<"recordLogout">, { now }: Pick<Tools, "now">): RecordedTime {
  return { now, endedUpTo: endOf(issuedAt) };
}

/** Sessions that began up to here have ended. */
function endOf(issuedAt: UnixMs | undefined): UnixMs {
  return (issuedAt === undefined ? Number.MAX_SAFE_INTEGER : issuedAt + senderClockMs) as UnixMs;
}

type RecordedTime = Readonly<{ now: UnixMs; endedUpTo: UnixMs }>;

/** None is remembered of one that is older than a day: no sign-in that began before it is still under way. */
export function logoutRecorded(logoutId: SessionId, { now, endedUpTo }: RecordedTime): CardeaEvent[] {
  const until = (Math.min(now, endedUpTo) + rememberedMs) as UnixMs;
  return until <= now ? [] : [{ type: "LogoutRecorded", logoutId, until }];
}

/** Refuses the sign-ins of these people, or about these records, that are under way, as far as there is room. */
export function rememberLogouts(projection: Projection, ids: readonly UserId[], at: RecordedTime): CardeaEvent[] {
  const hasRoom = projection.tombstonesWithoutUser + ids.length <= rememberedOfSignalsMax;
  return hasRoom ? ids.flatMap((id) => logoutRecorded(personLogoutId(id), at)) : [];
}

type Ended = Readonly<{ events: readonly CardeaEvent[]; sessions: readonly SessionId[] }>;

function endedBy(projection: Projection, command: CommandOf<"recordLogout">): Ended {
  const { userId, providerSession, issuedAt } = command;
  const upTo = endOf(issuedAt);
  if (providerSession === null)
    return userId === null ? { events: [], sessions: [] } : ofPeople(projection, [userId], upTo);
  const active: ActiveSession[] = [];
  for (const id of projection.sessionsOfProvider(providerSession)) {
    const at = projection.sessionStatus(id);
    if (at.status === "active" && at.session.issuedAt <= upTo) active.push(at.session);
  }
  if (active.length > revokedAtOnceMax)
    return ofPeople(projection, [...new Set(active.map((session) => session.userId))], upTo);
  return { events: active.map(revocationOf), sessions: active.map(({ sessionId }) => sessionId) };
}

type ActiveSession = Readonly<{ sessionId: SessionId; userId: UserId; issuedAt: UnixMs }>;

function revocationOf({ sessionId, userId }: ActiveSession): CardeaEvent {
  return { type: "SessionRevoked", sessionId, userId, reason: "identity-provider" };
}

function ofPeople(projection: Projection, people: readonly UserId[], upTo: UnixMs): Ended {
  const ended = people.map((userId) => endSessionsUpTo(projection, userId, upTo));
  return { events: ended.flatMap(({ events }) => events), sessions: ended.flatMap(({ sessions }) => sessions) };
}

/** Ends the sessions of a person that began at or before a time: by one event where these are all of them. */
export function endSessionsUpTo(projection: Projection, userId: UserId, upTo: UnixMs): Ended {
  const active: ActiveSession[] = [];
  let isAll = true;
  for (const sessionId of projection.sessionsOf(userId)) {
    const at = projection.sessionStatus(sessionId);
    if (at.status !== "active") continue;
    if (at.session.issuedAt > upTo) isAll = false;
    else active.push(at.session);
  }
  if (active.length === 0) return { events: [], sessions: [] };
  const sessions = active.map(({ sessionId }) => sessionId);
  if (!isAll) return { events: active.map(revocationOf), sessions };
  return { events: [{ type: "UserSessionsRevoked", userId, upTo: null, reason: "identity-provider" }], sessions };
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
  signalRecords = [],
}: Readonly<{ userId: UserId; providerSession?: SessionId; signalRecords?: readonly UserId[] }>): readonly SessionId[] {
  const ofPerson = [userId, ...signalRecords].map(personLogoutId);
  return providerSession === undefined ? ofPerson : [providerSession, ...ofPerson];
}

/**
 * The refusal of a sign-in whose session at the provider has ended, or that began before the provider, a signal or an
 * operator ended all sessions of the person. Undefined: none.
 */
export function refuseLoggedOut(
  projection: Projection,
  command: CommandOf<"createSession">,
  { now, lost }: Pick<Tools, "now" | "lost">,
): Performed | undefined {
  const { userId, providerSession, issuedAt, signalRecords = [] } = command;
  const begunAt = beginningOf(command, lost);
  const isCut = (id: UserId): boolean =>
    begunAt !== undefined && begunAt < (projection.user(id)?.sessionsRevokedBelow ?? noPosition);
  if ([userId, ...signalRecords].some(isCut)) return loggedOut;
  const isEnded = providerSession !== undefined && isRemembered(projection, providerSession, now);
  if (isEnded) return loggedOut;
  const at = { begunAt, issuedAt, now };
  const isBefore = [userId, ...signalRecords].some((id) => isBeforeLogout(projection, personLogoutId(id), at));
  return isBefore ? loggedOut : undefined;
}

/** A sign-in that began in a lost history counts as begun before everything: the log may have other events since. */
function beginningOf(
  { begunAt, begunLink }: CommandOf<"createSession">,
  lost: Pick<LostHistory, "mayHold">,
): Position | undefined {
  return begunLink === undefined || lost.mayHold(begunLink) ? begunAt : noPosition;
}

/** Whether a sign-in began before a recorded logout. */
function isBeforeLogout(
  projection: Projection,
  logoutId: SessionId,
  {
    begunAt,
    issuedAt,
    now,
  }: Pick<CommandOf<"createSession">, "issuedAt"> & Readonly<{ begunAt: Position | undefined; now: UnixMs }>,
): boolean {
  const logout = projection.session(logoutId);
  if (logout?.status !== "revoked") return false;
  const { expiresAt, revokedAt } = logout;
  if (expiresAt !== null && expiresAt <= now) return false;
  if (begunAt !== undefined) return begunAt < revokedAt;
  // A token that was issued before, presented for the first time now. Recorded again after a loss: no time is known.
  const recordedAt = expiresAt === null ? now : expiresAt - rememberedMs;
  return issuedAt <= recordedAt + clockDifferenceMs;
}

const loggedOut = refuseCommand(
  "logged-out",
  "the identity provider, a signal or an operator has ended the session of this sign-in",
);

function isRemembered(projection: Projection, logoutId: SessionId, now: UnixMs): boolean {
  const session = projection.session(logoutId);
  return session !== undefined && (session.expiresAt === null || session.expiresAt > now);
}
