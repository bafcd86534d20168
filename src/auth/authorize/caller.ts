/**
 * Caller: resolves a verified session handle to a principal, from this node's projection.
 *
 * - Pure: the time and the decryption of personal data are arguments.
 * - If the credential is in doubt, the caller is anonymous, with a reason. If the state of this node is in doubt, the
 *   caller is `behind`: the proxy answers 503 and never redirects to sign-in.
 * - A principal is cached with its session object, and rebuilt when the session, the user or the groups have changed.
 *   The projection replaces these objects and never changes one in place, so comparing references is enough.
 */
import {
  type ActiveSession,
  claimsOfSession,
  type Profile,
  type Projection,
  type Sealed,
  type SessionId,
  type Stream,
  sessionStream,
  type UnixMs,
  type User,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { Principal, ResolvedCaller } from "./decision.ts";

/** The part of a session handle that matters here. Its signature and audience were verified. */
export type CallerHandle = Readonly<{
  sessionId: SessionId;
  /** The user that the handle names. */
  userId: UserId;
  /** The provider that the handle names; empty: none. */
  idpId: string;
}>;

export type CallerOptions = Readonly<{
  now: UnixMs;
  /** The identity providers of the route: a session of another one counts as none. */
  idpIds: ReadonlySet<string>;
  /** The credential arrived in a header or the query, so the caller cannot follow a redirect to sign-in. */
  credentialInHeader: boolean;
  /** Opens personal data; undefined while this node does not have the person's key. */
  open: (sealed: Sealed, userId: UserId) => Profile | undefined;
  cache?: CallerCache;
}>;

type CallerCacheEntry = Readonly<{ caller: ResolvedCaller; user: User | undefined; groups: Principal["groups"] }>;
/** Principals by session object. It holds opened personal data exactly as long as the projection holds the session. */
export class CallerCache {
  readonly #entries = new WeakMap<ActiveSession, CallerCacheEntry>();
  get(session: ActiveSession): CallerCacheEntry | undefined {
    return this.#entries.get(session);
  }
  set(session: ActiveSession, entry: CallerCacheEntry): void {
    this.#entries.set(session, entry);
  }
  delete(session: ActiveSession): void {
    this.#entries.delete(session);
  }
}

export function resolveCaller(
  projection: Pick<Projection, "sessionStatus" | "groupsOf" | "nextEndOf">,
  handle: CallerHandle | undefined,
  { now, idpIds, credentialInHeader, open, cache }: CallerOptions,
): ResolvedCaller {
  if (handle === undefined) return anonymous("no-credential", credentialInHeader);
  const found = projection.sessionStatus(handle.sessionId);
  if (found.status === "unknown") return anonymous("session-unknown", credentialInHeader);
  if (found.status === "revoked") {
    if (found.session.status === "active") cache?.delete(found.session);
    return anonymous(`session-revoked: ${found.reason}`, credentialInHeader);
  }
  const { session, user } = found;
  if (session.userId !== handle.userId) return anonymous("session-of-another-user", credentialInHeader);
  if (!idpIds.has(session.idpId) || (handle.idpId !== "" && handle.idpId !== session.idpId))
    return anonymous("identity-provider-differs", credentialInHeader);
  if (session.expiresAt <= now) return anonymous("session-expired", credentialInHeader);

  const groups = projection.groupsOf(session.userId, now);
  const cached = cache?.get(session);
  if (cached !== undefined && cached.user === user && cached.groups === groups) return cached.caller;

  const profile = open(session.profile, session.userId);
  // The session is active, so the person was not erased: the key has not arrived yet, or is being destroyed right now.
  if (profile === undefined) return { type: "behind", why: "personal-data-not-open" };
  const { userId } = session;
  const sealed = user?.profile ?? null;
  const person = sealed === null || sealed === session.profile ? profile : open(sealed, userId);
  const streams = [sessionStream(session.sessionId), userStream(userId)] as const;
  const end = projection.nextEndOf(userId, now);
  const groupsUntil = end === null ? {} : { groupsUntil: end };
  const principal: Principal = {
    session,
    user,
    userId,
    profile,
    claims: claimsOfSession(profile.claims, session.refreshedAt, person),
    groups,
    ...groupsUntil,
    streams,
  };
  const caller: ResolvedCaller = { type: "principal", principal };
  cache?.set(session, { caller, user, groups });
  return caller;
}

/** The streams of the log that can end a session: its own and its user's. */
export function streamsOf({ session, userId, streams }: Principal): readonly [Stream, Stream] {
  return streams ?? [sessionStream(session.sessionId), userStream(userId)];
}

function anonymous(why: string, credentialInHeader: boolean): ResolvedCaller {
  return { type: "anonymous", why, credentialInHeader };
}
