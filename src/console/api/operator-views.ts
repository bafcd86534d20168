/** Operator views: sessions, users and groups of the projection as JSON, with personal data opened. Pure. */
import type { IdleGate } from "../../auth/index.ts";
import {
  type ActiveSession,
  type GroupId,
  isMember,
  isProvisioned,
  isSignalRecord,
  isTokenSession,
  type Profile,
  type Session,
  sessionStream,
  type TimeBox,
  timeBoxOf,
  type UnixMs,
  type User,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { Replica } from "../../replication/index.ts";

export type SessionView = Readonly<{
  id: string;
  status: "active" | "revoked" | "expired";
  reason: string | null;
  /** `token`: it is derived from a bearer token, not from a sign-in. */
  kind: "sign-in" | "token";
  userId: string | null;
  email: string;
  name: string;
  idpId: string | null;
  /** The name of the identity provider in the configuration; null: this process has no such client. */
  provider: string | null;
  issuedAt: string | null;
  refreshedAt: string | null;
  expiresAt: string | null;
  /** The last known use; null: it is not tracked. */
  lastSeenAt: string | null;
  /** Who knows it. `sign-in`: no use since then is known. Null: it is not tracked. */
  lastSeenBy: "sign-in" | "log" | "this-node" | null;
  /** When the session ends because it is not used; null: no idle lifetime of all routes applies to it. */
  idleAt: string | null;
}>;
export type UserView = Readonly<{
  id: string;
  status: string;
  subject: string;
  email: string;
  /** Whether the provider has verified the e-mail; only then may it name the person to grant rights. */
  emailVerified: boolean;
  name: string;
  groups: readonly string[];
  sessions: number;
  /** The active session that was last used; null: there is none. */
  lastSession: Pick<SessionView, "id" | "lastSeenAt" | "lastSeenBy" | "idleAt" | "expiresAt"> | null;
  /** The end of a suspension that ends by itself, and its reason; null: none. */
  suspension: TimeBoxView | null;
  /** Additions by an operator that end by themselves, also those that have ended and wait for the sweep. */
  grants: readonly (TimeBoxView & Readonly<{ group: string }>)[];
  /** One for each client at an identity provider with a live session. */
  providers: readonly UserProviderView[];
}>;
/** What an identity provider's client last said of a person, over their live sessions. */
export type UserProviderView = Readonly<{
  idpId: string;
  /** The name in the configuration; null: this process has no such client. */
  name: string | null;
  sessions: number;
  /** When it last confirmed a session. */
  confirmedAt: string;
  /** The latest time of the next refresh, if the session has a refresh token; null: no such client. */
  dueBy: string | null;
  /** The groups that it claims. */
  groups: readonly string[];
}>;
/** The configured clients at identity providers, as an explanation needs them. */
export type KnownProviders = Readonly<{ nameOf: (idpId: string) => string | null; refreshEveryMs: number }>;
export type TimeBoxView = Readonly<{ until: string; reason: string }>;
export type MemberView = Readonly<{
  userId: string;
  email: string;
  name: string;
  member: boolean;
  sources: readonly string[];
  excluded: boolean;
  /** The end of an operator's addition or of requested access, and its reason; null: it has none. */
  grant: TimeBoxView | null;
}>;
export type GroupView = Readonly<{ id: string; name: string; members: readonly MemberView[] }>;

const iso = (at: UnixMs | null): string | null => (at === null ? null : new Date(at).toISOString());

/** What the views read beside the projection. */
export type ViewParts = Readonly<{ now: UnixMs; idle: Pick<IdleGate, "describe">; known: KnownProviders }>;

export function describeSession(replica: Replica, session: Session, { now, idle, known }: ViewParts): SessionView {
  const reason = whyRevoked(replica, session);
  const use = session.status === "active" && reason === null ? idle.describe(session, now) : null;
  const isIdle = use !== null && use.idleAt !== null && use.idleAt <= now;
  const expired = isIdle || (session.expiresAt !== null && session.expiresAt <= now);
  const profile = session.userId === null ? undefined : profileOfUser(replica, session.userId);
  return {
    id: session.sessionId,
    kind: isTokenSession(session.sessionId) ? "token" : "sign-in",
    status: reason !== null ? "revoked" : expired ? "expired" : "active",
    reason: isIdle ? "idle" : reason,
    userId: session.userId,
    email: profile?.email ?? "",
    name: profile?.name ?? "",
    idpId: session.status === "active" ? session.idpId : null,
    provider: session.status === "active" ? known.nameOf(session.idpId) : null,
    issuedAt: session.status === "active" ? iso(session.issuedAt) : null,
    refreshedAt: session.status === "active" ? iso(session.refreshedAt) : null,
    expiresAt: iso(session.expiresAt),
    lastSeenAt: iso(use?.seenAt ?? null),
    lastSeenBy: use === null || use.seenAt === null ? null : use.seenBy,
    idleAt: iso(use?.idleAt === 0 ? now : (use?.idleAt ?? null)),
  };
}

/**
 * Null: not revoked. A revocation that a failover lost, or that only this region has, stays in force on this node until
 * the log has it.
 */
function whyRevoked(replica: Replica, session: Session): string | null {
  const standing = replica.projection.statusOf(session);
  if (standing.status === "revoked") return standing.reason;
  const streams = [sessionStream(session.sessionId), ...(session.userId === null ? [] : [userStream(session.userId)])];
  if (streams.some((stream) => replica.isDeniedByRegion(stream))) return "revoked-by-region";
  return streams.some((stream) => replica.isDeniedLocally(stream)) ? "reasserted" : null;
}

const boxView = (box: TimeBox | undefined): TimeBoxView | null =>
  box === undefined ? null : { until: new Date(box.until).toISOString(), reason: box.reason };

export function describeUser(replica: Replica, user: User, { now, idle, known }: ViewParts): UserView {
  const profile = profileOfUser(replica, user.userId);
  return {
    id: user.userId,
    status: user.status,
    subject: profile?.subject ?? "",
    email: profile?.email ?? "",
    emailVerified: profile?.emailVerified ?? false,
    name: profile?.name ?? "",
    groups: user.status === "erased" ? [] : [...replica.projection.groupsOf(user.userId, now)].sort(),
    sessions: replica.projection
      .sessionsOf(user.userId)
      .flatMap((id) => replica.projection.session(id) ?? [])
      .filter((session) => replica.projection.statusOf(session).status === "active").length,
    lastSession: lastSessionOf(replica, user.userId, { now, idle, known }),
    suspension: boxView(user.suspension),
    grants: user.status === "erased" ? [] : grantsOf(replica, user.userId),
    providers: user.status === "erased" ? [] : providersOf(replica, user.userId, { now, known }),
  };
}

function lastSessionOf(replica: Replica, userId: UserId, parts: ViewParts): UserView["lastSession"] {
  const { projection } = replica;
  const views = projection.sessionsOf(userId).flatMap((id) => {
    const session = projection.session(id);
    const view = session?.status === "active" ? describeSession(replica, session, parts) : undefined;
    return view?.status === "active" ? [view] : [];
  });
  const usedAt = ({ lastSeenAt, issuedAt }: SessionView): string => lastSeenAt ?? issuedAt ?? "";
  const [last] = views.sort((a, b) => (usedAt(a) < usedAt(b) ? 1 : -1));
  if (last === undefined) return null;
  const { id, lastSeenAt, lastSeenBy, idleAt, expiresAt } = last;
  return { id, lastSeenAt, lastSeenBy, idleAt, expiresAt };
}

function providersOf(
  { projection }: Replica,
  userId: UserId,
  { now, known }: Readonly<{ now: UnixMs; known: KnownProviders }>,
): readonly UserProviderView[] {
  const groups = [...projection.memberships(userId)].filter(([, { sources }]) => sources.includes("idp"));
  const byClient = new Map<string, ActiveSession[]>();
  for (const id of projection.sessionsOf(userId)) {
    const session = projection.session(id);
    if (session?.status !== "active" || session.expiresAt <= now) continue;
    if (projection.statusOf(session).status !== "active") continue;
    byClient.set(session.idpId, [...(byClient.get(session.idpId) ?? []), session]);
  }
  return [...byClient].map(([idpId, sessions]) => {
    const name = known.nameOf(idpId);
    const oldest = Math.min(...sessions.map(({ refreshedAt }) => refreshedAt));
    return {
      idpId,
      name,
      sessions: sessions.length,
      confirmedAt: new Date(Math.max(...sessions.map(({ refreshedAt }) => refreshedAt))).toISOString(),
      dueBy: name === null ? null : new Date(oldest + known.refreshEveryMs).toISOString(),
      groups: groups.map(([group]) => group).sort(),
    };
  });
}

function grantsOf({ projection }: Replica, userId: UserId): UserView["grants"] {
  const grants: UserView["grants"][number][] = [];
  for (const [group, membership] of projection.memberships(userId)) {
    const box = boxView(timeBoxOf(membership));
    if (box !== null) grants.push({ group, ...box });
  }
  return grants.sort((a, b) => (a.until < b.until ? -1 : 1));
}

export function describeMember(
  replica: Replica,
  userId: UserId,
  { groupId, now }: Readonly<{ groupId: GroupId; now: UnixMs }>,
): MemberView {
  const membership = replica.projection.membership(userId, groupId);
  const profile = profileOfUser(replica, userId);
  return {
    userId,
    email: profile?.email ?? "",
    name: profile?.name ?? "",
    member: isMember(membership, now),
    sources: membership?.sources ?? [],
    excluded: membership?.excluded ?? false,
    grant: boxView(timeBoxOf(membership)),
  };
}

/**
 * Finds users by exact id, subject or e-mail. An id always wins.
 * @param emails `verified` to grant rights: an unverified e-mail can be claimed by anyone
 */
export function findUsers(replica: Replica, name: string, emails: "any" | "verified"): readonly UserId[] {
  return findUsersNamed(replica, [name], emails).get(name) ?? [];
}

/**
 * As `findUsers`, for several names. An id is looked up; the profiles of all users are opened once for all the others.
 * @returns the users of each name
 */
export function findUsersNamed(
  replica: Replica,
  names: readonly string[],
  emails: "any" | "verified",
): ReadonlyMap<string, readonly UserId[]> {
  const found = new Map<string, UserId[]>();
  const searched = new Map<string, UserId[]>();
  for (const name of names) {
    const ids: UserId[] = [];
    const known = name === "" ? undefined : replica.projection.user(name as UserId);
    if (known !== undefined) ids.push(known.userId);
    else if (name !== "") searched.set(name, ids);
    found.set(name, ids);
  }
  if (searched.size === 0) return found;
  for (const { userId } of replica.projection.users()) {
    const profile = profileOfUser(replica, userId);
    if (profile === undefined || isProvisioned(profile) || isSignalRecord(userId)) continue;
    const email = emails === "any" || profile.emailVerified ? profile.email : "";
    for (const name of new Set([profile.subject, email])) searched.get(name)?.push(userId);
  }
  return found;
}

/** @param names one name, which may have a comma, or a list separated by commas: at most `max` are looked up */
export function findListedUsers(replica: Replica, names: string, max: number): readonly UserId[] {
  const all = names.includes(",") ? [names, ...names.split(",").slice(0, max)] : [names];
  const found = findUsersNamed(replica, all, "any");
  const whole = found.get(names) ?? [];
  return whole.length > 0 ? whole : [...new Set([...found.values()].flat())];
}

/** A record of a SCIM client or of a transmitter of signals is a user beside the person who signs in. */
export function isRecord(replica: Replica, userId: UserId): boolean {
  if (isSignalRecord(userId)) return true;
  const profile = profileOfUser(replica, userId);
  return profile !== undefined && isProvisioned(profile);
}

export function profileOfUser(replica: Replica, userId: UserId): Profile | undefined {
  const sealed = replica.projection.user(userId)?.profile;
  return sealed === undefined || sealed === null ? undefined : replica.open(sealed, userId);
}
