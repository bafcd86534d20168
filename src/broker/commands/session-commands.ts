/**
 * Commands about sessions: create, refresh, revoke one or many. Pure.
 *
 * A session id is used once: whatever became of it, it is never created again. A refresh never brings anything back and
 * never makes one person another.
 */
import {
  type CardeaEvent,
  type CreateSession,
  type GroupId,
  type KeepTokens,
  type Profile,
  type Projection,
  type ProviderTokens,
  type RefreshSession,
  type RevokeSession,
  type RevokeSessions,
  type Sealed,
  type SessionId,
  type StartRefresh,
  sessionStream,
  type User,
  type UserId,
  type VaultedTokens,
} from "../../events/index.ts";
import type { VaultEntry } from "../../replication/index.ts";
import { changed, nothing, type Performed, refused, type Tools } from "./performed.ts";
import { openProfile, sameProfile, sameSubject, sealerFor } from "./profile-seal.ts";
import { sealTokens } from "./vault.ts";

const revokedAtOnceMax = 256;

export function createSession(projection: Projection, command: CreateSession, tools: Tools): Performed {
  const { sessionId, userId, profile } = command;
  const user = projection.user(userId);
  const barred = refuseUser(user);
  if (barred !== undefined) return barred;
  const stream = sessionStream(sessionId);
  if (projection.session(sessionId) !== undefined || tools.versionOf(stream) > 0) {
    return refused("conflict", "a session of this id exists or has existed");
  }
  if (command.expiresAt <= tools.now) return refused("invalid", "the session would be over before it begins");
  const sealer = sealerFor(userId, tools);
  const known = openProfile(user?.profile, sealer.person);
  if (known !== undefined && !sameSubject(known, profile)) return refused("forbidden", "the user is somebody else");
  const { idpId, issuedAt, expiresAt } = command;
  const sealed = sealedAs(user, known, profile) ?? sealer.seal(profile);
  const events: CardeaEvent[] = [
    ...(sealed === user?.profile ? [] : [upserted(userId, sealed)]),
    { type: "SessionCreated", sessionId, userId, idpId, issuedAt, expiresAt, profile: sealed },
    ...replaceGroups(projection, userId, command.groupIds),
  ];
  const outOfRoom = oldestAbove(projection, command, tools);
  for (const old of outOfRoom) events.push({ type: "SessionRevoked", sessionId: old, userId, reason: "session-limit" });
  return changed(events, {
    newKeys: sealer.newKeys,
    vault: [vaultEntry(sessionId, obtained(command.tokens, tools), tools)],
    vaultRemoved: outOfRoom,
  });
}

export function refreshSession(projection: Projection, command: RefreshSession, tools: Tools): Performed {
  const { sessionId, profile, refreshedAt } = command;
  const session = projection.session(sessionId);
  if (session === undefined) return refused("not-found", "there is no such session");
  if (session.status === "revoked") return refused("conflict", "the session is revoked");
  const { userId } = session;
  const barred = refuseUser(projection.user(userId));
  if (barred !== undefined) return barred;
  if (projection.sessionStatus(sessionId).status !== "active") return refused("conflict", "the session is revoked");
  if (session.expiresAt <= tools.now) return refused("conflict", "the session has expired");
  if (command.tokenVersion !== undefined && tools.versionOf(sessionStream(sessionId)) !== command.tokenVersion)
    return refused("conflict", changedMeanwhile);
  const sealer = sealerFor(userId, tools);
  const before = openProfile(session.profile, sealer.person);
  if (before !== undefined && !sameSubject(before, profile)) {
    return refused("forbidden", "the identity provider answered for somebody else");
  }
  const user = projection.user(userId);
  const known = openProfile(user?.profile, sealer.person);
  const sealed = sealedAs(user, known, profile) ?? sealer.seal(profile);
  const events: CardeaEvent[] = [
    { type: "SessionRefreshed", sessionId, userId, profile: sealed, refreshedAt },
    ...(sealed === user?.profile ? [] : [upserted(userId, sealed)]),
    ...replaceGroups(projection, userId, command.groupIds),
  ];
  return changed(events, {
    newKeys: sealer.newKeys,
    vault: [vaultEntry(sessionId, obtained(command.tokens, tools), tools)],
  });
}

const changedMeanwhile = "the session has changed since its tokens were read";

/** Of all who read one vault entry, the log accepts one intent: the entry's version is that of the session's stream, and the intent raises it. */
export function startRefresh(projection: Projection, command: StartRefresh, tools: Tools): Performed {
  const { tokens, obtainedIn, tokenVersion, deadline } = command;
  const presentation = { tokenVersion, epoch: tools.epoch, deadline };
  return replaceTokens(projection, command, { tools, entry: { tokens, obtainedIn, presentation } });
}

export function keepTokens(projection: Projection, command: KeepTokens, tools: Tools): Performed {
  const { tokens, obtainedIn } = command;
  return replaceTokens(projection, command, { tools, entry: { tokens, obtainedIn, presentation: null } });
}

/**
 * Writes a vault entry behind an event that changes nothing: the session's own profile and time again. Builds that do not know intents
 * read it as a refresh without news, so that no level is needed.
 */
function replaceTokens(
  projection: Projection,
  { sessionId, tokenVersion }: Readonly<{ sessionId: SessionId; tokenVersion: number }>,
  { tools, entry }: Readonly<{ tools: Tools; entry: Omit<VaultedTokens, "version"> }>,
): Performed {
  const session = projection.session(sessionId);
  if (session === undefined) return refused("not-found", "there is no such session");
  if (session.status === "revoked" || projection.sessionStatus(sessionId).status !== "active")
    return refused("conflict", "the session is revoked");
  if (session.expiresAt <= tools.now) return refused("conflict", "the session has expired");
  if (tools.versionOf(sessionStream(sessionId)) !== tokenVersion) return refused("conflict", changedMeanwhile);
  const { userId, profile, refreshedAt } = session;
  return changed([{ type: "SessionRefreshed", sessionId, userId, profile, refreshedAt }], {
    vault: [vaultEntry(sessionId, entry, tools)],
  });
}

export function revokeSession(projection: Projection, command: RevokeSession): Performed {
  const { sessionId, reason } = command;
  const session = projection.session(sessionId);
  if (session === undefined) return refused("not-found", "there is no such session");
  if (session.status === "revoked" || projection.sessionStatus(sessionId).status === "revoked") return nothing;
  return changed([{ type: "SessionRevoked", sessionId, userId: session.userId, reason }], {
    vaultRemoved: [sessionId],
  });
}

/**
 * One event for each session, in one batch: each stands in its own stream, so that a build that does not know the command's
 * successor still obeys it. What is revoked or gone already is passed over: among thousands, some always are.
 */
export function revokeSessions(projection: Projection, { sessionIds, reason }: RevokeSessions): Performed {
  const ids = [...new Set(sessionIds)];
  if (ids.length === 0) return refused("invalid", "no session is named");
  if (!ids.some((id) => projection.session(id) !== undefined))
    return refused("not-found", "there are no such sessions");
  const events: CardeaEvent[] = [];
  for (const sessionId of ids) {
    const at = projection.sessionStatus(sessionId);
    if (at.status === "active") events.push({ type: "SessionRevoked", sessionId, userId: at.session.userId, reason });
  }
  return changed(events, { vaultRemoved: ids });
}

function refuseUser(user: User | undefined): Performed | undefined {
  if (user?.status === "suspended") return refused("suspended", "the user is suspended");
  if (user?.status === "erased") return refused("erased", "the user is erased");
  return undefined;
}

/** The bytes in which the user's own profile is sealed already, when it says the same: copies of the log keep them once. */
function sealedAs(user: User | undefined, known: Profile | undefined, profile: Profile): Sealed | undefined {
  return sameProfile(known, profile) ? (user?.profile ?? undefined) : undefined;
}

function upserted(userId: UserId, profile: Sealed): CardeaEvent {
  return { type: "UserUpserted", userId, profile };
}

/** What the provider says of the person's groups replaces what it said before, when it says something else. */
function replaceGroups(projection: Projection, userId: UserId, claimed: readonly GroupId[] | null): CardeaEvent[] {
  if (claimed === null) return [];
  const wanted = new Set(claimed);
  const held = groupsSaidBy(projection, userId);
  const same = wanted.size === held.length && held.every((groupId) => wanted.has(groupId));
  return same ? [] : [{ type: "UserGroupsReplaced", userId, source: "idp", groupIds: [...wanted] }];
}

export function groupsSaidBy(projection: Projection, userId: UserId): readonly GroupId[] {
  return [...projection.memberships(userId)]
    .filter(([, { sources }]) => sources.includes("idp"))
    .map(([groupId]) => groupId);
}

/** The sessions that make room for a new one, oldest first. */
function oldestAbove(projection: Projection, command: CreateSession, tools: Tools): SessionId[] {
  const live: Readonly<{ sessionId: SessionId; createdAt: number }>[] = [];
  for (const id of projection.sessionsOf(command.userId)) {
    const at = projection.sessionStatus(id);
    if (at.status === "active" && at.session.expiresAt > tools.now) live.push(at.session);
  }
  const surplus = live.length + 1 - command.maxSessionsPerUser;
  if (surplus <= 0) return [];
  return live
    .sort((a, b) => a.createdAt - b.createdAt)
    .slice(0, Math.min(surplus, revokedAtOnceMax)) // a limit that was lowered far is reached over several sign-ins
    .map(({ sessionId }) => sessionId);
}

function obtained(tokens: ProviderTokens, { epoch }: Tools): Omit<VaultedTokens, "version"> {
  return { tokens, obtainedIn: epoch, presentation: null };
}

function vaultEntry(sessionId: SessionId, entry: Omit<VaultedTokens, "version">, tools: Tools): VaultEntry {
  const version = tools.versionOf(sessionStream(sessionId)) + 1;
  return sealTokens({ ...entry, version }, { sessionId, vaultKey: tools.vaultKey, nonce: tools.random(12) });
}
