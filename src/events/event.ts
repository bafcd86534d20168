/**
 * What can happen: every kind of event, its stream and its effect.
 *
 * Facts in the past tense. No event holds a secret, a token or personal data in clear: names, e-mails and claims are
 * `Sealed` under a per-person key that lives outside the log (src/events/seal.ts). Group ids are the directory's own
 * ids or claim values and name no person.
 *
 * The effect travels outside the body so that an old node can obey a new kind of revocation it cannot read:
 *   tightens  a final fact about a credential or person: applied by stream alone, never undone
 *   neutral   no decision can change: may be skipped by a node that does not know the type
 *   either    everything else: a node that cannot read it stops being fresh
 */
import type {
  BootId,
  BrokerId,
  CommandId,
  ConfigHash,
  DeviceId,
  Epoch,
  EventId,
  Fact,
  GroupId,
  Hash,
  Incarnation,
  NodeId,
  Position,
  ServiceAccountId,
  SessionId,
  UnixMs,
  UserId,
} from "./ids.ts";

/** Ciphertext of personal data: key id, nonce, AES-256-GCM text and tag, as made by `seal`. */
export type Sealed = Uint8Array;

export type Effect = "tightens" | "neutral" | "either";

/** Who says that a user is a member of a group. `idp` counts only with `groups_from_claim`. */
export type MembershipSource = "directory" | "scim" | "operator" | "idp";
export type RevocationReason =
  | "operator"
  | "sign-out"
  | "refresh-refused"
  | "identity-provider"
  | "session-limit"
  | "reasserted";

// --- sessions
export type SessionCreated = Fact<
  "SessionCreated",
  {
    sessionId: SessionId;
    userId: UserId;
    /** Which identity provider signed the person in (src/config: the route's provider id). */
    idpId: string;
    issuedAt: UnixMs;
    expiresAt: UnixMs;
    /** A sealed `Profile`: subject, e-mail, name, claims. */
    profile: Sealed;
  }
>;
/** New claims from the identity provider. They replace the old ones whole; the expiry never moves. */
export type SessionRefreshed = Fact<
  "SessionRefreshed",
  { sessionId: SessionId; userId: UserId; profile: Sealed; refreshedAt: UnixMs }
>;
export type SessionRevoked = Fact<"SessionRevoked", { sessionId: SessionId; userId: UserId; reason: RevocationReason }>;
/** The sweep: these ids are past their own expiry and leave the projection. Nothing leaves it by a clock. */
export type SessionsExpired = Fact<"SessionsExpired", { sessionIds: readonly SessionId[] }>;

// --- users
export type UserUpserted = Fact<"UserUpserted", { userId: UserId; profile: Sealed }>;
/** Revokes every session of the user created below `upTo`; null means below this event's own position. */
export type UserSessionsRevoked = Fact<
  "UserSessionsRevoked",
  { userId: UserId; upTo: Position | null; reason: RevocationReason }
>;
/** Also revokes the sessions that exist: a later restore brings back the person, not the old sessions. */
export type UserSuspended = Fact<"UserSuspended", { userId: UserId; reason: string }>;
export type UserRestored = Fact<"UserRestored", { userId: UserId }>;
/** The person's key is destroyed in the same transaction. */
export type UserErased = Fact<"UserErased", { userId: UserId }>;

// --- groups
export type GroupUpserted = Fact<"GroupUpserted", { groupId: GroupId; name: string }>;
/**
 * An operator's removal excludes the person whatever other sources say, until an operator adds them again;
 * any other source's removal only withdraws that source's own claim.
 */
export type GroupMembersChanged = Fact<
  "GroupMembersChanged",
  { groupId: GroupId; source: MembershipSource; added: readonly UserId[]; removed: readonly UserId[] }
>;
/**
 * What one identity provider says of one user's groups, whole: replaces everything the same source said before.
 * Emitted at sign-in and refresh where `groups_from_claim` is set.
 */
export type UserGroupsReplaced = Fact<
  "UserGroupsReplaced",
  { userId: UserId; source: MembershipSource; groupIds: readonly GroupId[] }
>;
export type GroupRemoved = Fact<"GroupRemoved", { groupId: GroupId }>;
export type DirectorySyncStarted = Fact<"DirectorySyncStarted", { directory: string; syncId: string }>;
export type DirectorySyncCompleted = Fact<
  "DirectorySyncCompleted",
  { directory: string; syncId: string; complete: boolean }
>;

// --- devices and service accounts
export type DeviceEnrolled = Fact<
  "DeviceEnrolled",
  { deviceId: DeviceId; userId: UserId; typeId: string; enrolledAt: UnixMs }
>;
export type DeviceApproved = Fact<"DeviceApproved", { deviceId: DeviceId; userId: UserId; approvedBy: UserId }>;
export type DeviceRemoved = Fact<"DeviceRemoved", { deviceId: DeviceId; userId: UserId }>;
export type ServiceAccountCreated = Fact<
  "ServiceAccountCreated",
  { serviceAccountId: ServiceAccountId; userId: UserId; expiresAt: UnixMs | null; description: string }
>;
export type ServiceAccountRevoked = Fact<
  "ServiceAccountRevoked",
  { serviceAccountId: ServiceAccountId; userId: UserId; reason: RevocationReason }
>;

// --- cluster
export type ConfigurationActivated = Fact<"ConfigurationActivated", { nodeId: NodeId; configHash: ConfigHash }>;
/** The first event of each epoch. `publicKey` is the broker's raw Ed25519 key for the epoch, base64url. */
export type EpochOpened = Fact<
  "EpochOpened",
  { epoch: Epoch; incarnation: Incarnation; brokerId: BrokerId; publicKey: string }
>;
/**
 * A tightening event that the log had lost (a failover without its last suffix, a restore), and that this build knows only by
 * its effect: the subject of its stream is denied for good. Those that it knows are recorded again under their own type.
 */
export type TighteningReasserted = Fact<"TighteningReasserted", { subject: Stream; of: string; lost: Hash }>;
/**
 * From here on the cluster is at this level (formats.ts): newer formats may be written, and builds that cannot read them get no lease.
 * Never lowered: there is no way back to such a build.
 */
export type UpgradeFinalized = Fact<"UpgradeFinalized", { level: number }>;
export type SnapshotTaken = Fact<"SnapshotTaken", { position: Position; manifestHash: Hash }>;
export type AuditSegmentSealed = Fact<
  "AuditSegmentSealed",
  { nodeId: NodeId; bootId: BootId; first: number; last: number; root: Hash }
>;

export type SessionEvent = SessionCreated | SessionRefreshed | SessionRevoked | SessionsExpired;
export type UserEvent = UserUpserted | UserSessionsRevoked | UserSuspended | UserRestored | UserErased;
export type GroupEvent =
  | GroupUpserted
  | GroupMembersChanged
  | UserGroupsReplaced
  | GroupRemoved
  | DirectorySyncStarted
  | DirectorySyncCompleted;
export type CredentialEvent =
  | DeviceEnrolled
  | DeviceApproved
  | DeviceRemoved
  | ServiceAccountCreated
  | ServiceAccountRevoked;
export type ClusterEvent =
  | ConfigurationActivated
  | EpochOpened
  | TighteningReasserted
  | UpgradeFinalized
  | SnapshotTaken
  | AuditSegmentSealed;
export type CardeaEvent = SessionEvent | UserEvent | GroupEvent | CredentialEvent | ClusterEvent;
export type EventType = CardeaEvent["type"];

// --- streams

export type StreamKind = "session" | "user" | "group" | "device" | "service-account" | "configuration" | "cluster";
/**
 * The events of one entity, `kind:id`. No kind contains a colon, so two entities never share a stream whatever their
 * ids look like. Streams also name the facts that a decision read.
 */
export type Stream = `${StreamKind}:${string}`;

export const sessionStream = (id: SessionId): Stream => `session:${id}`;
export const userStream = (id: UserId): Stream => `user:${id}`;
export const groupStream = (id: GroupId): Stream => `group:${id}`;
export const deviceStream = (id: DeviceId): Stream => `device:${id}`;
export const serviceAccountStream = (id: ServiceAccountId): Stream => `service-account:${id}`;
export const configurationStream = (id: NodeId): Stream => `configuration:${id}`;
export const clusterStream: Stream = "cluster:log";
/** Expiry sweeps and directory syncs concern many entities at once. */
export const sweepStream: Stream = "cluster:sweep";

/** Splits a stream at its first colon. */
export function parseStream(stream: Stream): Readonly<{ kind: StreamKind; id: string }> {
  const colon = stream.indexOf(":");
  return { kind: stream.slice(0, colon) as StreamKind, id: stream.slice(colon + 1) };
}

/** The stream an event belongs to. */
export function streamOf(event: CardeaEvent): Stream {
  switch (event.type) {
    case "SessionCreated":
    case "SessionRefreshed":
    case "SessionRevoked":
      return sessionStream(event.sessionId);
    case "UserUpserted":
    case "UserSessionsRevoked":
    case "UserSuspended":
    case "UserRestored":
    case "UserErased":
    case "UserGroupsReplaced":
      return userStream(event.userId);
    case "GroupUpserted":
    case "GroupMembersChanged":
    case "GroupRemoved":
      return groupStream(event.groupId);
    case "DeviceEnrolled":
    case "DeviceApproved":
    case "DeviceRemoved":
      return deviceStream(event.deviceId);
    case "ServiceAccountCreated":
    case "ServiceAccountRevoked":
      return serviceAccountStream(event.serviceAccountId);
    case "ConfigurationActivated":
      return configurationStream(event.nodeId);
    case "TighteningReasserted":
      return event.subject;
    case "SessionsExpired":
    case "DirectorySyncStarted":
    case "DirectorySyncCompleted":
      return sweepStream;
    case "EpochOpened":
    case "UpgradeFinalized":
    case "SnapshotTaken":
    case "AuditSegmentSealed":
      return clusterStream;
  }
}

/** The effect of each type, declared once; the log stores it with the event. */
export const effects: Readonly<Record<EventType, Effect>> = {
  SessionCreated: "either",
  SessionRefreshed: "either",
  SessionRevoked: "tightens",
  SessionsExpired: "neutral",
  UserUpserted: "either",
  UserSessionsRevoked: "tightens",
  UserSuspended: "tightens",
  UserRestored: "either",
  UserErased: "tightens",
  GroupUpserted: "neutral",
  GroupMembersChanged: "either",
  UserGroupsReplaced: "either",
  GroupRemoved: "either",
  DirectorySyncStarted: "neutral",
  DirectorySyncCompleted: "neutral",
  DeviceEnrolled: "either",
  DeviceApproved: "either",
  DeviceRemoved: "tightens",
  ServiceAccountCreated: "either",
  ServiceAccountRevoked: "tightens",
  ConfigurationActivated: "neutral",
  EpochOpened: "neutral",
  TighteningReasserted: "tightens",
  UpgradeFinalized: "either",
  SnapshotTaken: "neutral",
  AuditSegmentSealed: "neutral",
};

/** An event of a type or version this build does not know, kept with its effect so that it can still be obeyed or refused. */
export type UnknownEvent = Fact<"Unknown", { name: string }>;

/** An event with all that the log added. `hash` covers everything before it too. */
export type Recorded = Readonly<{
  epoch: Epoch;
  position: Position;
  hash: Hash;
  eventId: EventId;
  stream: Stream;
  /** Counts 1, 2, 3 … within the stream. */
  version: number;
  type: string;
  /** The version of the body's shape as it was written; `event` has the newest shape (formats.ts). */
  schemaVersion: number;
  effect: Effect;
  recordedAt: UnixMs;
  /** Who caused it: `user:<id>`, `operator:<id>`, `service:<name>`, `system`. Ids only, never e-mails. */
  actor: string;
  /** The command that caused it, null for events the log itself makes. */
  cause: CommandId | null;
  event: CardeaEvent | UnknownEvent;
}>;
