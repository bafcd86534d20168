/** Session parts: what the commands about sessions share. Pure. */
import {
  type CardeaEvent,
  type GroupId,
  hasServedSuspension,
  type Profile,
  type Projection,
  type ProviderTokens,
  parseUserId,
  type Sealed,
  type SessionId,
  sessionStream,
  type UnixMs,
  type User,
  type UserId,
  userStream,
  type VaultedTokens,
} from "../../../events/index.ts";
import type { VaultEntry } from "../../../replication/log/index.ts";
import type { Access } from "../access.ts";
import { type Fields, listIn, MalformedCommandError } from "../fields.ts";
import { type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { sameProfile } from "../profile-seal.ts";
import { sealTokens } from "../vault.ts";

export const tokensChanged = "the session has changed since its tokens were read";

export function tokenAccess({ sessionId }: Readonly<{ sessionId: SessionId }>, projection: Projection): Access {
  const userId = projection.session(sessionId)?.userId ?? undefined;
  return { reads: userId === undefined ? [] : [userStream(userId)], writes: [sessionStream(sessionId)] };
}

/**
 * Writes a vault entry behind an event that changes nothing: the session's own profile and time again. Builds that do
 * not know intents read it as a refresh without news, so no level is needed.
 */
export function replaceTokens(
  projection: Projection,
  { sessionId, tokenVersion }: Readonly<{ sessionId: SessionId; tokenVersion: number }>,
  { tools, entry }: Readonly<{ tools: Tools; entry: Omit<VaultedTokens, "version"> }>,
): Performed {
  const session = projection.session(sessionId);
  if (session === undefined) return refuseCommand("not-found", "there is no such session");
  if (session.status === "revoked" || projection.sessionStatus(sessionId).status !== "active")
    return refuseCommand("conflict", "the session is revoked");
  if (session.expiresAt <= tools.now) return refuseCommand("conflict", "the session has expired");
  if (tools.versionOf(sessionStream(sessionId)) !== tokenVersion) return refuseCommand("conflict", tokensChanged);
  const { userId, profile, refreshedAt } = session;
  return recordChanges([{ type: "SessionRefreshed", sessionId, userId, profile, refreshedAt }], {
    vault: [vaultEntry(sessionId, entry, tools)],
  });
}

/** A suspension that has reached its end does not bar the person: the same command records that it ended. */
export function refuseUser(user: User | undefined, now: UnixMs): Performed | undefined {
  if (user?.status === "suspended" && !hasServedSuspension(user, now))
    return refuseCommand("suspended", "the user is suspended");
  if (user?.status === "erased") return refuseCommand("erased", "the user is erased");
  return undefined;
}

/** One per transmitter and identifier of a person. */
const signalRecordsMax = 64;

export function parseSignalRecords(fields: Fields): Readonly<{ signalRecords?: readonly UserId[] }> {
  if (fields["signalRecords"] === undefined) return {};
  const signalRecords = listIn(fields, "signalRecords").map(parseUserId);
  if (signalRecords.length > signalRecordsMax) throw new MalformedCommandError("too many records of signals");
  return { signalRecords };
}

/**
 * A transmitter of Shared Signals has disabled the account. The leader looks at its head, so every later sign-in is
 * refused, whatever the sender has read.
 */
export function refuseDisabled(
  projection: Projection,
  signalRecords: readonly UserId[] | undefined,
): Performed | undefined {
  const isDisabled = signalRecords?.some((id) => projection.user(id)?.status === "suspended") === true;
  return isDisabled
    ? refuseCommand("suspended", "a transmitter of signals says that the account is disabled")
    : undefined;
}

/** The bytes in which the user's own profile is sealed, if it says the same: copies of the log keep them once. */
export function reusableSeal(user: User | undefined, known: Profile | undefined, profile: Profile): Sealed | undefined {
  return sameProfile(known, profile) ? (user?.profile ?? undefined) : undefined;
}

export function profileUpsert(userId: UserId, profile: Sealed): CardeaEvent {
  return { type: "UserUpserted", userId, profile };
}

/** A source that says all groups of a person at once. */
export type ReplacedSource = "idp" | "scim" | "directory";

/** A source's groups for the person replace those that it claimed before, if they differ. */
export function replaceGroups(
  projection: Projection,
  userId: UserId,
  claimed: readonly GroupId[] | null,
  source: ReplacedSource = "idp",
): CardeaEvent[] {
  if (claimed === null) return [];
  const wanted = new Set(claimed);
  const held = groupsFrom(source, projection, userId);
  const same = wanted.size === held.length && held.every((groupId) => wanted.has(groupId));
  return same ? [] : [{ type: "UserGroupsReplaced", userId, source, groupIds: [...wanted] }];
}

/** The groups that the identity provider claims for a person. */
export function providerGroupsOf(projection: Projection, userId: UserId): readonly GroupId[] {
  return groupsFrom("idp", projection, userId);
}

/** The groups that a source claims for a person. */
export function groupsFrom(source: ReplacedSource, projection: Projection, userId: UserId): readonly GroupId[] {
  return [...projection.memberships(userId)]
    .filter(([, { sources }]) => sources.includes(source))
    .map(([groupId]) => groupId);
}

export function obtainedNow(tokens: ProviderTokens, { epoch }: Tools): Omit<VaultedTokens, "version"> {
  return { tokens, obtainedIn: epoch, presentation: null };
}

export function vaultEntry(sessionId: SessionId, entry: Omit<VaultedTokens, "version">, tools: Tools): VaultEntry {
  const version = tools.versionOf(sessionStream(sessionId)) + 1;
  return sealTokens({ ...entry, version }, { sessionId, vaultKey: tools.vaultKey, nonce: tools.random(12) });
}
