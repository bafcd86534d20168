/** Session events: the ends of sessions, and their use. Only types; they are part of the catalog (catalog.ts). */
import type { Fact, SessionId, UnixMs, UserId } from "./ids.ts";

export type RevocationReason =
  | "operator"
  | "sign-out"
  | "refresh-refused"
  | "identity-provider"
  | "session-limit"
  | "idle"
  | "reasserted";

export type SessionRevoked = Fact<"SessionRevoked", { sessionId: SessionId; userId: UserId; reason: RevocationReason }>;
/**
 * The identity provider has ended a session of its own, or all sessions of a person. `logoutId` is derived from the
 * session or the person (derived-ids.ts). Until the given time, sign-ins that belong to it are refused.
 */
export type LogoutRecorded = Fact<"LogoutRecorded", { logoutId: SessionId; until: UnixMs }>;
/**
 * The sweep: these sessions and recorded logouts have expired and leave the projection. No clock removes anything from
 * it.
 */
export type SessionsExpired = Fact<"SessionsExpired", { sessionIds: readonly SessionId[] }>;
/** When a session was last used, as far as nodes have reported it. Older reports change nothing. */
export type SeenSession = Readonly<{
  sessionId: SessionId;
  /** The time of a permitted request, at most the leader's time of the report. */
  seenAt: UnixMs;
  /** The longest time between two permitted requests, or the sign-in and the first one (ms). */
  pauseMs: number;
}>;
/**
 * Sessions were in use. Nodes report this coarsely and in batches: docs/adr/0053. The fields of each session's report
 * (`SeenSession`) are at the same index of three lists.
 */
export type SessionsSeen = Fact<
  "SessionsSeen",
  { sessionIds: readonly SessionId[]; seenAt: readonly UnixMs[]; pauseMs: readonly number[] }
>;

export type LaterSessionEvent = SessionRevoked | LogoutRecorded | SessionsExpired | SessionsSeen;
