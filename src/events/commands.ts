/**
 * Commands: requests to change the log, which a broker may refuse. Their counterpart is the event.
 *
 * - Commands carry personal data and tokens in clear, because only a broker holds the keys to seal them. They travel
 *   authenticated, over loopback or TLS, and are never logged or stored.
 * - The caller chooses the command id and repeats it in retries. A broker answers a repeated id with its first answer.
 */

import type { AccessRequestCommand } from "./access/access-request.ts";
import type { Recorded } from "./catalog.ts";
import type { ConfigBody } from "./configuration-body.ts";
import { endedSessionHash } from "./derived-ids.ts";
import type { MembershipSource } from "./entities/group-events.ts";
import type {
  AnnounceEnds,
  CompleteDirectoryPerson,
  CompleteDirectorySync,
  CorrelateUser,
  CreateScimToken,
  EndProvisionedUser,
  RequestDirectoryPerson,
  RequestDirectorySync,
  RevokeScimToken,
  StartDirectorySync,
  WriteProvisionedGroup,
  WriteProvisionedUser,
} from "./entities/provisioning-commands.ts";
import type {
  CommandId,
  ConfigHash,
  Epoch,
  Fact,
  GroupId,
  Hash,
  Incarnation,
  NodeId,
  Position,
  SessionId,
  UnixMs,
  UserId,
} from "./ids.ts";
import type { Link, NeededLink } from "./link.ts";
import type { Claims, Profile } from "./profile.ts";
import type { RevocationReason, SeenSession } from "./session-events.ts";
import type { SignalAction, SignalStreamState } from "./signal-records.ts";
import { type Stream, sessionStream } from "./streams.ts";

/** The tokens of the identity provider. They are stored sealed in the vault, never in the log. */
export type ProviderTokens = Readonly<{
  accessToken: string | null;
  refreshToken: string | null;
  idToken: string | null;
  accessTokenExpiresAt: UnixMs | null;
}>;

/** A session's refresh token may have been sent to its identity provider. Recorded before the request is sent. */
export type Presentation = Readonly<{
  /** The vault version that held the token when the leader recorded the intent. */
  tokenVersion: number;
  epoch: Epoch;
  /** The wall-clock time after which the leader of that epoch no longer waits for the response. */
  deadline: UnixMs;
}>;

/** A session's entry in the vault. */
export type VaultedTokens = Readonly<{
  /** The version of the session's stream that wrote the entry. */
  version: number;
  tokens: ProviderTokens;
  /** The epoch in which the provider's response was recorded; null: an older build wrote the entry. */
  obtainedIn: Epoch | null;
  /** Null: no leader has sent the refresh token. */
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
    /** Groups that the provider claims (source `idp`); null: `groups_from_claim` is not set. */
    groupIds: readonly GroupId[] | null;
    /** Beyond this number the oldest sessions are revoked. */
    maxSessionsPerUser: number;
    /** The provisioned people that this profile correlates with; absent: no SCIM client is configured. */
    provisioned?: readonly UserId[];
    /** The provider's own session (`providerSessionId`); absent: the ID token names none. */
    providerSession?: SessionId;
    /** A profile without a name keeps the name that is known of the person. Absent: it has none then. */
    keepsName?: true;
    /** The position that the authenticate host had applied when the sign-in began; absent: `issuedAt` is compared. */
    begunAt?: Position;
    /** The link at `begunAt`; absent: an older build began the sign-in. */
    begunLink?: NeededLink;
    /** The records of signals about this profile, one per transmitter and identifier; absent: there are none. */
    signalRecords?: readonly UserId[];
  }
>;
/** The claims and tokens of a refresh replace all the old ones. */
export type RefreshSession = Fact<
  "refreshSession",
  {
    sessionId: SessionId;
    profile: Profile;
    tokens: ProviderTokens;
    groupIds: readonly GroupId[] | null;
    refreshedAt: UnixMs;
    /** The version that the session's stream must still have, or the command is refused; absent: any version. */
    tokenVersion?: number;
    /** As in `CreateSession`. */
    provisioned?: readonly UserId[];
    signalRecords?: readonly UserId[];
    keepsName?: true;
  }
>;
/**
 * The intent to send a session's refresh token. The leader submits it before the request; it is refused unless the
 * leader read the newest vault entry. So at most one leader sends a token: docs/adr/0037-refresh-exactly-once.md.
 */
export type StartRefresh = Fact<
  "startRefresh",
  { sessionId: SessionId; tokens: ProviderTokens; tokenVersion: number; obtainedIn: Epoch | null; deadline: UnixMs }
>;
/**
 * Ends a recorded intent by replacing the tokens: with the provider's new ones, or with the old ones if they were
 * provably not used. The claims stay.
 */
export type KeepTokens = Fact<
  "keepTokens",
  {
    sessionId: SessionId;
    tokens: ProviderTokens;
    /** The version of the vault entry that the intent wrote. */
    tokenVersion: number;
    obtainedIn: Epoch | null;
  }
>;
export type RevokeSession = Fact<"revokeSession", { sessionId: SessionId; reason: RevocationReason }>;
/** Several sessions in one command, one batch and one receipt. Ids of sessions that are gone are skipped. */
export type RevokeSessions = Fact<"revokeSessions", { sessionIds: readonly SessionId[]; reason: RevocationReason }>;
/** All sessions that the user has when the command runs, in one event. */
export type RevokeUserSessions = Fact<"revokeUserSessions", { userId: UserId; reason: RevocationReason }>;
/**
 * What an identity provider says of its own session. Ends the sessions that began in it; without it, all sessions of
 * the person. At least one of the two is named.
 */
export type RecordLogout = Fact<
  "recordLogout",
  {
    /** The provider's own session (`providerSessionId`); null: all of the person's. */
    providerSession: SessionId | null;
    userId: UserId | null;
    /** Whether sign-ins that belong to it are refused from now on: only if the provider's signature says so. */
    remembered: boolean;
    /** The provider's time of the logout: later sessions are others, and stay. Absent: it states none. */
    issuedAt?: UnixMs;
  }
>;
/** `until` absent: the suspension has no end. */
export type SuspendUser = Fact<"suspendUser", { userId: UserId; reason: string; until?: UnixMs }>;
/** The leader asks the identity provider about the person's sessions now, not only when they are due. */
export type RequestRefresh = Fact<"requestRefresh", { userId: UserId }>;
export type RestoreUser = Fact<"restoreUser", { userId: UserId }>;
export type EraseUser = Fact<"eraseUser", { userId: UserId }>;
/** `until`: only for additions by an operator, and with a reason. */
export type ChangeGroupMembers = Fact<
  "changeGroupMembers",
  {
    groupId: GroupId;
    source: MembershipSource;
    added: readonly UserId[];
    removed: readonly UserId[];
    until?: UnixMs;
    reason?: string;
  }
>;
export type RemoveGroup = Fact<"removeGroup", { groupId: GroupId }>;
/** `version`: of the held change that the operator has seen. */
export type ReleaseHeldChange = Fact<
  "releaseHeldChange",
  {
    heldId: CommandId;
    version: number;
    reason: string;
    /** Until when its source may make further mass changes; null: it may not. */
    allowUntil: UnixMs | null;
  }
>;
/** The source gets the same refusal if it repeats the change. */
export type DropHeldChange = Fact<"dropHeldChange", { heldId: CommandId; version: number; reason: string }>;
/** Mass changes of a source are not held until a time; a time that has passed ends that. */
export type AllowMassChanges = Fact<"allowMassChanges", { source: string; until: UnixMs; reason: string }>;
/** A duty of the leader. */
export type ExpireHeldChanges = Fact<"expireHeldChanges", { heldIds: readonly CommandId[] }>;
/**
 * What a verified security event token of a transmitter of Shared Signals means here. A repeated token has the same
 * command id, so it is performed once.
 */
/** `groups`: what one of the claims means for the groups of the provider; null: none of them is about groups. */
export type SignalClaims = Readonly<{
  values: Claims;
  groups: Readonly<{ claim: string; groupIds: readonly GroupId[] }> | null;
}>;

export type ReceiveSignal = Fact<
  "receiveSignal",
  {
    transmitter: string;
    event: string;
    action: SignalAction;
    /** The record of the subject. */
    recordId: UserId;
    /**
     * Users that the subject names by itself; ids that the log does not know are skipped. Empty: only
     * the nodes that serve sign-ins find out who matches, from the record.
     */
    people: readonly UserId[];
    /** Sessions of the identity provider (`providerSessionId`) that the subject names; empty: none. */
    sessions: readonly SessionId[];
    /** `session`: it is only the `sessions`, and names no person. `unmatched`: nothing can follow from it. */
    subject: "matched" | "session" | "unmatched";
    /** What the token says of its own stream; null: it is about a person. */
    stream: SignalStreamState | null;
    /** With `replace-claims`; absent: the token names none that may be replaced, so a new sign-in is required. */
    claims?: SignalClaims;
    issuedAt: UnixMs;
    occurredAt: UnixMs;
  }
>;
/** The expiry sweep, which is a duty of the leader. */
export type ExpireSessions = Fact<"expireSessions", { sessionIds: readonly SessionId[] }>;
/** When sessions were last used on a node. Sent by nodes that permit requests. */
export type RecordActivity = Fact<"recordActivity", { seen: readonly SeenSession[] }>;
/** Bounds a report, and so an event, to about 60 KB. */
export const seenAtOnceMax = 1_000;
/** Ends those of the sessions that began and were last used at or before a time. A duty of the leader. */
export type EndIdleSessions = Fact<"endIdleSessions", { sessionIds: readonly SessionId[]; unusedSince: UnixMs }>;
/** The sweep of memberships of a group, and of suspensions, that have reached their ends. A duty of the leader. */
export type ExpireMemberships = Fact<"expireMemberships", { groupId: GroupId; userIds: readonly UserId[] }>;
export type ExpireSuspensions = Fact<"expireSuspensions", { userIds: readonly UserId[] }>;
export type ActivateConfiguration = Fact<
  "activateConfiguration",
  {
    nodeId: NodeId;
    configHash: ConfigHash;
    /** The configuration that has this hash; absent: the node does not send it with this command. */
    body?: ConfigBody;
  }
>;

/** A tightening event that a node has applied and the log no longer holds. */
export type LostTightening = Readonly<{
  /** Its link in the lost history. */
  link: Link;
  stream: Stream;
  type: string;
  /** The user whose credential it was; null: the event does not say. */
  userId: UserId | null;
  recordedAt: UnixMs;
  /** The end of a suspension; absent: it has none. */
  until?: UnixMs;
}>;
/**
 * The part of a lost suffix that a node still knows, to be recorded again. Each event is recorded once, however many
 * nodes report it: it runs under a command id that follows from its hash, whatever the id of this command.
 */
export type ReassertTightenings = Fact<"reassertTightenings", { events: readonly LostTightening[] }>;

/**
 * A revocation that a region accepted by itself while it was cut off, in the envelope that its broker signed
 * (replication/wire/local-revocation.ts). The log records it under the command id that it was accepted with.
 */
export type MergeRevocation = Fact<"mergeRevocation", { envelope: Uint8Array }>;

/**
 * The root of the audit records of a boot, in the envelope that the node signed (replication/wire/audit-seal.ts). The
 * command id follows from the envelope.
 */
export type SealAuditSegment = Fact<"sealAuditSegment", { envelope: Uint8Array }>;

/** The sending broker holds a complete, signed snapshot on disk. A duty of the leader. */
export type RecordSnapshot = Fact<"recordSnapshot", { position: Position; manifestHash: Hash }>;

/** Raises the cluster to a level. Older builds may not be able to read what is written then; there is no way back. */
export type FinalizeUpgrade = Fact<"finalizeUpgrade", { level: number }>;

/** Bounds the event. A region with more nodes takes several commands. */
export const retiredAtOnceMax = 200;

/** Takes absent nodes, or all of a region, off the list of admitted nodes. Refused for a node that is present. */
export type RetireNodes = Fact<"retireNodes", { nodes: readonly NodeId[]; region: string | null }>;

/** From this level on the log may record streams of signals. */
export const signalStreamsFrom = 5;

export const isSignalReceiverName = (name: string): boolean => /^[a-z0-9][a-z0-9.-]{0,39}$/.test(name);

/** Bound of what is kept for one receiver of Shared Signals (characters). */
export const signalStreamCharsMax = 256 * 1_024;

/**
 * Replaces what is kept for a receiver of Shared Signals. The record is sealed into the vault; the log has only what
 * operators may see. docs/adr/0047
 */
export type WriteSignalStream = Fact<
  "writeSignalStream",
  {
    receiver: string;
    /** The version that the receiver's stream must still have, or the command is refused; 0: there is none. */
    expected: number;
    record: string;
    streamId: string | null;
    status: "enabled" | "paused" | "disabled" | "none";
    delivered: Position;
  }
>;

/** The record of a receiver as brokers keep it. */
export type StoredSignalStream = Readonly<{
  /** The version of the receiver's stream that wrote it. */
  version: number;
  record: string;
  /** True while it is sealed under the shared secret that is being replaced. */
  outdated: boolean;
}>;

export type Command =
  | CreateSession
  | RefreshSession
  | StartRefresh
  | KeepTokens
  | RevokeSession
  | RevokeSessions
  | RevokeUserSessions
  | RecordLogout
  | SuspendUser
  | RestoreUser
  | RequestRefresh
  | EraseUser
  | ChangeGroupMembers
  | RemoveGroup
  | WriteProvisionedUser
  | EndProvisionedUser
  | AnnounceEnds
  | WriteProvisionedGroup
  | CorrelateUser
  | RequestDirectorySync
  | RequestDirectoryPerson
  | CompleteDirectoryPerson
  | StartDirectorySync
  | CompleteDirectorySync
  | CreateScimToken
  | RevokeScimToken
  | ReleaseHeldChange
  | DropHeldChange
  | AllowMassChanges
  | ExpireHeldChanges
  | AccessRequestCommand
  | ReceiveSignal
  | ExpireSessions
  | RecordActivity
  | EndIdleSessions
  | ExpireMemberships
  | ExpireSuspensions
  | ActivateConfiguration
  | RecordSnapshot
  | FinalizeUpgrade
  | RetireNodes
  | WriteSignalStream
  | ReassertTightenings
  | MergeRevocation
  | SealAuditSegment;

/** The report of an event that this node has applied and the log has lost. */
export function toLostTightening({ epoch, position, hash, stream, type, recordedAt, event }: Recorded): LostTightening {
  const userId = "userId" in event ? event.userId : null;
  const until = event.type === "UserSuspended" && event.until !== undefined ? { until: event.until } : {};
  return { link: { epoch, position, hash }, stream, type, userId, recordedAt, ...until };
}

/**
 * A session that a lost event about its user had ended, as a lost event of its own. If the log does not know the
 * session, only its own revocation keeps it from being created again after all events about the user.
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

export type RefusalCode =
  | "not-found"
  | "conflict"
  | "suspended"
  | "erased"
  | "forbidden"
  | "invalid"
  /** The identity provider has ended the session that the sign-in belongs to. */
  | "logged-out"
  /** The change waits for an operator (mass-change.ts); without `heldId` it does not, because too many wait. */
  | "held"
  /** An operator has dropped the same change. */
  | "dropped";

export type CommandResult =
  | Fact<
      "done",
      {
        commandId: CommandId;
        /** Link of the command's last event, or, if nothing changed, the head at which it was decided. */
        link: Link;
        /** That of the link's epoch. Absent: not known, or the leader is of an older version. */
        incarnation?: Incarnation | undefined;
        changed: boolean;
      }
    >
  | Fact<"refused", { commandId: CommandId; code: RefusalCode; message: string; heldId?: CommandId | undefined }>
  /** No leader, the store is down, or the outcome is unknown: retry with the same command id. */
  | Fact<
      "unavailable",
      {
        commandId: CommandId;
        message: string;
        retryAfterMs: number;
        /** Absent: a retry may soon succeed. */
        code?: UnavailableCode | undefined;
        /** `none`: the command was certainly not accepted. Absent: unknown. */
        outcome?: CommandOutcome | undefined;
      }
    >;

/** `home-unreachable`: this region is cut off from its home region, so every retry fails until that ends. */
export type UnavailableCode = "home-unreachable";
export type CommandOutcome = "none" | "unknown";
