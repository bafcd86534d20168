/**
 * What can be asked: wishes that a broker may refuse, the counterpart of events.
 *
 * Commands carry personal data and tokens in clear, because only a broker holds the keys to seal them; they travel over
 * loopback or TLS, authenticated, and are never logged or stored. Each has a command id made by the caller and kept over
 * retries; the broker answers a repeated id with the first answer.
 */

import { type MembershipSource, type Recorded, type RevocationReason, type Stream, sessionStream } from "./catalog.ts";
import { endedSessionHash } from "./codec/codec.ts";
import type { ConfigBody } from "./configuration-body.ts";
import type {
  CommandId,
  ConfigHash,
  Epoch,
  Fact,
  GroupId,
  Hash,
  NodeId,
  Position,
  SessionId,
  UnixMs,
  UserId,
} from "./ids.ts";
import type { Link } from "./link.ts";
import type { Profile } from "./profile.ts";

/** What the identity provider gave us; kept sealed in the vault, never in the log. */
export type ProviderTokens = Readonly<{
  accessToken: string | null;
  refreshToken: string | null;
  idToken: string | null;
  accessTokenExpiresAt: UnixMs | null;
}>;

/** That a session's refresh token may have been sent to its identity provider. Recorded before the request leaves. */
export type Presentation = Readonly<{
  /** The vault version that held the token when the leader recorded the intent. */
  tokenVersion: number;
  epoch: Epoch;
  /** Wall-clock time after which the leader of that epoch no longer waits for the answer. */
  deadline: UnixMs;
}>;

/** A session's entry in the vault. */
export type VaultedTokens = Readonly<{
  /** The version of the session's stream that wrote the entry. */
  version: number;
  tokens: ProviderTokens;
  /** The epoch in which the provider's answer was recorded. Null: an older build wrote the entry. */
  obtainedIn: Epoch | null;
  /** Null: no leader has presented the refresh token. */
  presentation: Presentation | null;
}>;

export type CreateSession = Fact<
  "createSession",
  {
    sessionId: SessionId;
    userId: UserId;
    idpId: string;
    issuedAt: UnixMs;
    expiresAt: UnixMs;
    profile: Profile;
    tokens: ProviderTokens;
    /** Memberships the provider claims (source `idp`); null where `groups_from_claim` is not set. */
    groupIds: readonly GroupId[] | null;
    /** The oldest sessions above this many are revoked. */
    maxSessionsPerUser: number;
  }
>;
/** Claims and tokens of a refresh; they replace the old ones whole. */
export type RefreshSession = Fact<
  "refreshSession",
  {
    sessionId: SessionId;
    profile: Profile;
    tokens: ProviderTokens;
    groupIds: readonly GroupId[] | null;
    refreshedAt: UnixMs;
    /** Refused unless the session's stream still has this version. Absent: an unconditional refresh. */
    tokenVersion?: number;
  }
>;
/**
 * The intent to present a session's refresh token: submitted by the leader before the request, and refused unless the vault entry that
 * it read is the newest. So at most one leader presents a token. See docs/adr/0037-refresh-exactly-once.md.
 */
export type StartRefresh = Fact<
  "startRefresh",
  { sessionId: SessionId; tokens: ProviderTokens; tokenVersion: number; obtainedIn: Epoch | null; deadline: UnixMs }
>;
/**
 * Replaces the tokens behind a recorded intent and ends it: with the provider's new tokens, or with the old ones when they were
 * provably not used. The claims stay.
 */
export type KeepTokens = Fact<
  "keepTokens",
  {
    sessionId: SessionId;
    tokens: ProviderTokens;
    /** The version that the intent wrote. */
    tokenVersion: number;
    obtainedIn: Epoch | null;
  }
>;
export type RevokeSession = Fact<"revokeSession", { sessionId: SessionId; reason: RevocationReason }>;
/** Many at once: one command, one batch, one receipt. Those that are not there any more change nothing. */
export type RevokeSessions = Fact<"revokeSessions", { sessionIds: readonly SessionId[]; reason: RevocationReason }>;
/** All sessions of a user that exist when the command is carried out: one event, whatever their number. */
export type RevokeUserSessions = Fact<"revokeUserSessions", { userId: UserId; reason: RevocationReason }>;
export type SuspendUser = Fact<"suspendUser", { userId: UserId; reason: string }>;
export type RestoreUser = Fact<"restoreUser", { userId: UserId }>;
export type EraseUser = Fact<"eraseUser", { userId: UserId }>;
export type ChangeGroupMembers = Fact<
  "changeGroupMembers",
  { groupId: GroupId; source: MembershipSource; added: readonly UserId[]; removed: readonly UserId[] }
>;
export type RemoveGroup = Fact<"removeGroup", { groupId: GroupId }>;
/** The expiry sweep, a duty of the leader. */
export type ExpireSessions = Fact<"expireSessions", { sessionIds: readonly SessionId[] }>;
export type ActivateConfiguration = Fact<
  "activateConfiguration",
  {
    nodeId: NodeId;
    configHash: ConfigHash;
    /** What the hash stands for; absent: not offered with this command. */
    body?: ConfigBody;
  }
>;

/** A tightening event that a copy of the log has applied and the log no longer holds. */
export type LostTightening = Readonly<{
  /** Where it stood in the lost history. */
  link: Link;
  stream: Stream;
  type: string;
  /** Whose credential it was, where the event said so. */
  userId: UserId | null;
  recordedAt: UnixMs;
}>;
/**
 * What a node holds of a lost suffix, so that it is recorded again: once, whoever reports it and however often. Asked with any
 * command id; each event is carried out under an id of its own that follows from its hash.
 */
export type ReassertTightenings = Fact<"reassertTightenings", { events: readonly LostTightening[] }>;

/** A snapshot exists, signed and whole, on the disk of the broker that says so: a duty of the leader. */
export type RecordSnapshot = Fact<"recordSnapshot", { position: Position; manifestHash: Hash }>;

/** The cluster takes a level: what is written from then on may be unreadable to older builds. There is no way back. */
export type FinalizeUpgrade = Fact<"finalizeUpgrade", { level: number }>;

export type Command =
  | CreateSession
  | RefreshSession
  | StartRefresh
  | KeepTokens
  | RevokeSession
  | RevokeSessions
  | RevokeUserSessions
  | SuspendUser
  | RestoreUser
  | EraseUser
  | ChangeGroupMembers
  | RemoveGroup
  | ExpireSessions
  | ActivateConfiguration
  | RecordSnapshot
  | FinalizeUpgrade
  | ReassertTightenings;

/** How a node names an event that it holds and the log has lost. */
export function toLostTightening({ epoch, position, hash, stream, type, recordedAt, event }: Recorded): LostTightening {
  const userId = "userId" in event ? event.userId : null;
  return { link: { epoch, position, hash }, stream, type, userId, recordedAt };
}

/**
 * One session that a lost event about its person had ended, as a loss of its own. Where the log does not know the session, nothing but
 * its own revocation keeps it from being created once more, behind everything that is said of the person.
 */
export function toLostSession(
  { link, recordedAt }: LostTightening,
  { sessionId, userId }: Readonly<{ sessionId: SessionId; userId: UserId }>,
): LostTightening {
  const hash = endedSessionHash(link.hash, sessionId);
  return { link: { ...link, hash }, stream: sessionStream(sessionId), type: "SessionRevoked", userId, recordedAt };
}

export type CommandRequest = Readonly<{
  commandId: CommandId;
  /** `user:<id>`, `operator:<id>`, `service:<name>`, `system`. */
  actor: string;
  command: Command;
}>;

export type RefusalCode = "not-found" | "conflict" | "suspended" | "erased" | "forbidden" | "invalid";

export type CommandResult =
  /** `link` is that of the command's last event; where nothing had to change, that of the head it was decided at. */
  | Fact<"done", { commandId: CommandId; link: Link; changed: boolean }>
  | Fact<"refused", { commandId: CommandId; code: RefusalCode; message: string }>
  /** No leader, store down, or outcome unknown: ask again with the same command id. */
  | Fact<"unavailable", { commandId: CommandId; message: string; retryAfterMs: number }>;
