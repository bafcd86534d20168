/**
 * State: the folded state of one session, user, membership, device or service account, and the functions that fold one
 * event in. Pure: the same events give the same state on every node. Expiry is decided when read, from a `now`.
 */

import type { SessionCreated, SessionRefreshed } from "../catalog.ts";
import type { DeviceApproved, DeviceEnrolled } from "../entities/credential-events.ts";
import type { GroupMembersChanged, MembershipSource, ScimGroup } from "../entities/group-events.ts";
import type {
  Sealed,
  SuspensionExpired,
  UserErased,
  UserRestored,
  UserSessionsRevoked,
  UserSuspended,
  UserUpserted,
} from "../entities/user-events.ts";
import { unknownExpireFrom } from "../formats.ts";
import {
  type CommandId,
  type DeviceId,
  type GroupId,
  nextPosition,
  noPosition,
  type Position,
  type ServiceAccountId,
  type SessionId,
  type UnixMs,
  type UserId,
  unreachable,
} from "../ids.ts";
import type { LogoutRecorded, RevocationReason, SessionRevoked } from "../session-events.ts";

export type ActiveSession = Readonly<{
  status: "active";
  sessionId: SessionId;
  userId: UserId;
  idpId: string;
  issuedAt: UnixMs;
  expiresAt: UnixMs;
  refreshedAt: UnixMs;
  profile: Sealed;
  /** The position of its creation, which `User.sessionsRevokedBelow` is compared with. */
  createdAt: Position;
  /** The provider's own session; absent: the provider named none. */
  providerSession?: SessionId;
}>;
/**
 * A tombstone, which stays until `expiresAt`: the session's own expiry. For a session that the log never knew, it is
 * the time when any session that existed at the revocation must have expired. Null: forever (cluster level 1).
 */
export type RevokedSession = Readonly<{
  status: "revoked";
  sessionId: SessionId;
  userId: UserId | null;
  reason: RevocationReason;
  expiresAt: UnixMs | null;
  revokedAt: Position;
}>;
export type Session = ActiveSession | RevokedSession;

/** The longest lifetime of a session (`cookie_expire`), plus a day for clock differences. */
export const sessionMsMax = 366 * 24 * 3_600_000;

/** The latest expiry of an unknown session that is revoked now; null: this cluster level sets none. */
export function unknownSessionExpiry(level: number, recordedAt: UnixMs): UnixMs | null {
  return level >= unknownExpireFrom ? ((recordedAt + sessionMsMax) as UnixMs) : null;
}

/**
 * Folds one event into one session. Revocation is final: a late SessionCreated cannot undo it.
 * @param unknownEnd the expiry of the tombstone if the session is unknown
 */
export function evolveSession(
  session: Session | undefined,
  event: SessionCreated | SessionRefreshed | SessionRevoked,
  position: Position,
  unknownEnd: UnixMs | null,
): Session | undefined {
  switch (event.type) {
    case "SessionCreated":
      return (
        session ?? {
          status: "active",
          sessionId: event.sessionId,
          userId: event.userId,
          idpId: event.idpId,
          issuedAt: event.issuedAt,
          expiresAt: event.expiresAt,
          refreshedAt: event.issuedAt,
          profile: event.profile,
          createdAt: position,
          ...(event.providerSession === undefined ? {} : { providerSession: event.providerSession }),
        }
      );
    case "SessionRefreshed":
      return session?.status === "active"
        ? { ...session, profile: event.profile, refreshedAt: event.refreshedAt }
        : session;
    case "SessionRevoked":
      return session?.status === "revoked"
        ? session
        : {
            status: "revoked",
            sessionId: event.sessionId,
            userId: event.userId,
            reason: event.reason,
            expiresAt: session === undefined ? unknownEnd : session.expiresAt,
            revokedAt: position,
          };
    default:
      return unreachable(event);
  }
}

/** The tombstone of a session whose revocation is known only by its stream. */
export function createTombstone(
  before: ActiveSession | undefined,
  sessionId: SessionId,
  revokedAt: Position,
  unknownEnd: UnixMs | null,
): RevokedSession {
  const [userId, expiresAt] = before === undefined ? [null, unknownEnd] : [before.userId, before.expiresAt];
  return { status: "revoked", sessionId, userId, reason: "operator", expiresAt, revokedAt };
}

/** A recorded logout is the tombstone of an id that no session has. A later one renews it. */
export function evolveLogout(
  before: Session | undefined,
  { logoutId, until }: LogoutRecorded,
  revokedAt: Position,
): RevokedSession {
  const expiresAt =
    before === undefined ? until : before.expiresAt === null ? null : (Math.max(before.expiresAt, until) as UnixMs);
  const userId = before?.userId ?? null;
  return { status: "revoked", sessionId: logoutId, userId, reason: "identity-provider", expiresAt, revokedAt };
}

export type User = Readonly<{
  userId: UserId;
  status: "active" | "suspended" | "erased";
  profile: Sealed | null;
  /** Sessions created below this position are revoked. */
  sessionsRevokedBelow: Position;
  sessionsRevokedFor: RevocationReason | null;
  /** The end and the reason of a suspension that ends by itself; absent otherwise. Only an event lifts it. */
  suspension?: TimeBox;
}>;

/** Why a session that is not revoked by itself is revoked with the person's others; null: it is not. */
export function revokedByUser({ createdAt }: ActiveSession, user: User | undefined): string | null {
  if (user === undefined) return null;
  if (user.status !== "active") return `user-${user.status}`;
  return createdAt < user.sessionsRevokedBelow ? (user.sessionsRevokedFor ?? "operator") : null;
}

/** The end of a right or of a suspension, and the reason that an operator gave. */
export type TimeBox = Readonly<{ until: UnixMs; reason: string }>;

/** Whether a suspension is in force that ends no earlier. @param until undefined: never */
export function isSuspendedUntil(user: User | undefined, until: UnixMs | undefined): boolean {
  if (user?.status !== "suspended") return false;
  return user.suspension === undefined || (until !== undefined && until <= user.suspension.until);
}

/** Whether a suspension has reached its end, so that an event may lift it. */
export function hasServedSuspension(user: User | undefined, now: UnixMs): boolean {
  return user?.status === "suspended" && user.suspension !== undefined && user.suspension.until <= now;
}

export function newUser(userId: UserId): User {
  return {
    userId,
    status: "active",
    profile: null,
    sessionsRevokedBelow: noPosition,
    sessionsRevokedFor: null,
  };
}

/** Folds one event into one user. Erasure is final. Suspension also revokes every existing session. */
export function evolveUser(
  before: User | undefined,
  event: UserUpserted | UserSessionsRevoked | UserSuspended | SuspensionExpired | UserRestored | UserErased,
  position: Position,
): User {
  const user = before ?? newUser(event.userId);
  if (user.status === "erased") return user;
  switch (event.type) {
    case "UserUpserted":
      // The event's bytes are a view of a page, or of all that the encoder wrote meanwhile: 10 kB for each of 250.
      return { ...user, profile: new Uint8Array(event.profile) };
    case "UserSessionsRevoked":
      return cutSessions(user, event.upTo === null ? position : nextPosition(event.upTo), event.reason);
    case "UserSuspended":
      return suspendUser(cutSessions(user, position, "operator"), event);
    case "SuspensionExpired":
      return hasServedSuspension(user, event.at) ? { ...withoutSuspension(user), status: "active" } : user;
    case "UserRestored":
      return { ...withoutSuspension(user), status: "active" };
    case "UserErased":
      return { ...withoutSuspension(cutSessions(user, position, "operator")), status: "erased", profile: null };
    default:
      return unreachable(event);
  }
}

/** Of two suspensions the one with the later end counts; one without an end is never shortened. */
function suspendUser(user: User, { until, reason }: UserSuspended): User {
  if (isSuspendedUntil(user, until)) return user;
  const suspended = { ...withoutSuspension(user), status: "suspended" } as const;
  return until === undefined ? suspended : { ...suspended, suspension: { until, reason } };
}

function withoutSuspension(user: User): User {
  if (user.suspension === undefined) return user;
  const { suspension: _, ...rest } = user;
  return rest;
}

function cutSessions(user: User, below: Position, reason: RevocationReason): User {
  return below > user.sessionsRevokedBelow
    ? { ...user, sessionsRevokedBelow: below, sessionsRevokedFor: reason }
    : user;
}

/** The sources of a person's membership in a group, and whether an operator has excluded the person. */
export type Membership = Readonly<{
  sources: readonly MembershipSource[];
  excluded: boolean;
  /**
   * The end of the operator's addition; absent: it has none. Until then it overrides `excluded`, which is in force
   * again afterwards.
   */
  grant?: TimeBox;
  /** The end of the access that an approved request gave; absent: none did. An exclusion overrides it. */
  requested?: RequestedAccess;
}>;
/** The approved request behind a membership, and its end. */
export type RequestedAccess = Readonly<{ requestId: CommandId; until: UnixMs }>;
const noMembership: Membership = { sources: [], excluded: false };

/** The end of a membership that ends by itself, and why there is one; undefined: it has no end. */
export function timeBoxOf(membership: Membership | undefined): TimeBox | undefined {
  const { grant, requested } = membership ?? {};
  if (requested === undefined || (grant !== undefined && grant.until >= requested.until)) return grant;
  return { until: requested.until, reason: `access request ${requested.requestId}` };
}

export function isMember(membership: Membership | undefined, now: UnixMs): boolean {
  if (membership === undefined) return false;
  const { sources, excluded, grant, requested } = membership;
  if (grant !== undefined && now < grant.until) return true;
  if (excluded) return false;
  const withEnd = (grant === undefined ? 0 : 1) + (requested === undefined ? 0 : 1);
  return sources.length > withEnd || (requested !== undefined && now < requested.until);
}

/**
 * A removal by an operator excludes the person. Only an addition by an operator lifts that, a time-boxed one until its
 * end. The newest addition by an operator counts, whether its end is later or earlier. A removal by an operator also
 * ends what an approved request gave.
 *
 * @param claim the end of the addition: an operator's, or that of an approved request
 */
export function evolveMembership(
  before: Membership | undefined,
  change: "added" | "removed",
  source: MembershipSource,
  claim: MembershipClaim = {},
): Membership | undefined {
  const membership = before ?? noMembership;
  const others = membership.sources.filter((s) => s !== source);
  const sources = change === "added" ? [...others, source].sort() : others;
  const { excluded, ...ends } = membership;
  if (source === "request")
    return membershipOf(sources, excluded, {
      grant: ends.grant,
      requested: change === "added" ? claim.requested : undefined,
    });
  if (source !== "operator") return membershipOf(sources, excluded, ends);
  if (change === "removed") return membershipOf(withoutSource(sources, "request"), true, {});
  const { grant } = claim;
  return membershipOf(sources, grant !== undefined && excluded, { grant, requested: ends.requested });
}

/** How an addition ends by itself. */
export type MembershipClaim = Readonly<{ grant?: TimeBox | undefined; requested?: RequestedAccess | undefined }>;

/** What an event says of its additions' end. */
export function claimOf({
  until,
  reason = "",
  requestId,
}: Pick<GroupMembersChanged, "until" | "reason" | "requestId">): MembershipClaim {
  if (until === undefined) return {};
  return requestId === undefined ? { grant: { until, reason } } : { requested: { requestId, until } };
}

const withoutSource = (sources: readonly MembershipSource[], gone: MembershipSource): readonly MembershipSource[] =>
  sources.filter((source) => source !== gone);

/** Additions with an end have reached it; those with a later end, or without one, stay. */
export function expireMembership(before: Membership | undefined, at: UnixMs): Membership | undefined {
  if (before === undefined) return before;
  const [endsGrant, endsRequested] = [hasEnded(before.grant, at), hasEnded(before.requested, at)];
  if (!endsGrant && !endsRequested) return before;
  const gone = [...(endsGrant ? ["operator"] : []), ...(endsRequested ? ["request"] : [])];
  return membershipOf(
    before.sources.filter((source) => !gone.includes(source)),
    before.excluded,
    {
      grant: endsGrant ? undefined : before.grant,
      requested: endsRequested ? undefined : before.requested,
    },
  );
}

const hasEnded = (end: Readonly<{ until: UnixMs }> | undefined, at: UnixMs): boolean =>
  end !== undefined && end.until <= at;

function membershipOf(
  sources: readonly MembershipSource[],
  excluded: boolean,
  { grant, requested }: MembershipClaim,
): Membership | undefined {
  if (sources.length === 0 && !excluded) return undefined;
  return {
    sources,
    excluded,
    ...(grant === undefined ? {} : { grant }),
    ...(requested === undefined ? {} : { requested }),
  };
}

export type Device = Readonly<{
  deviceId: DeviceId;
  userId: UserId;
  typeId: string;
  enrolledAt: UnixMs;
  approvedBy: UserId | null;
  removed: boolean;
}>;

/** Removal is final. */
export function evolveDevice(before: Device | undefined, event: DeviceEnrolled | DeviceApproved): Device | undefined {
  switch (event.type) {
    case "DeviceEnrolled":
      return (
        before ?? {
          deviceId: event.deviceId,
          userId: event.userId,
          typeId: event.typeId,
          enrolledAt: event.enrolledAt,
          approvedBy: null,
          removed: false,
        }
      );
    case "DeviceApproved":
      return before === undefined || before.removed ? before : { ...before, approvedBy: event.approvedBy };
    default:
      return unreachable(event);
  }
}

/** @param userId from the event; null: it names none */
export function removeDevice(before: Device | undefined, deviceId: DeviceId, userId: UserId | null): Device {
  return {
    deviceId,
    userId: before?.userId ?? userId ?? ("" as UserId),
    typeId: before?.typeId ?? "",
    enrolledAt: before?.enrolledAt ?? (0 as UnixMs),
    approvedBy: null,
    removed: true,
  };
}

export type ServiceAccount = Readonly<{
  serviceAccountId: ServiceAccountId;
  userId: UserId;
  expiresAt: UnixMs | null;
  description: string;
  revoked: boolean;
}>;

/** @param userId from the event; null: it names none */
export function revokeServiceAccount(
  before: ServiceAccount | undefined,
  serviceAccountId: ServiceAccountId,
  userId: UserId | null,
): ServiceAccount {
  return {
    serviceAccountId,
    userId: before?.userId ?? userId ?? ("" as UserId),
    expiresAt: before?.expiresAt ?? null,
    description: before?.description ?? "",
    revoked: true,
  };
}

export type Group = Readonly<{
  groupId: GroupId;
  name: string;
  /** Absent: no SCIM client owns the group. */
  scim?: ScimGroup;
}>;
