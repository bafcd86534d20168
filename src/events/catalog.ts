/**
 * Event catalog: every type of event that the log records, and per type its stream, its effect, its formats and its
 * description.
 *
 * - Events are facts in the past tense, and `catalog` is the one list of them. A new type is a type here and an entry
 *   there; every switch that has to know it then stops the build.
 * - No event holds a secret, a token or personal data in clear. Names, e-mails and claims are `Sealed` under a
 *   per-person key that lives outside the log (src/events/seal.ts). Group ids are the directory's own ids or claim
 *   values and name no person.
 * - The log stores the effect beside the body, so that an old node obeys a new kind of revocation it cannot read.
 */
import { type AccessRequestEvent, accessRequestsFrom } from "./access/access-request.ts";
import type {
  AuditSegmentSealed,
  ConfigurationActivated,
  EpochOpened,
  NodesRetired,
  SignalStreamChanged,
  SnapshotTaken,
  TighteningReasserted,
  UpgradeFinalized,
} from "./cluster-events.ts";
import { type Format, withFieldsAt, withMoreFields } from "./event-format.ts";
import type {
  CommandId,
  DeviceId,
  Epoch,
  EventId,
  Fact,
  GroupId,
  Hash,
  Position,
  ServiceAccountId,
  SessionId,
  UnixMs,
  UserId,
} from "./ids.ts";
import type { HeldChangeEnded, HeldChangeNarrowed, MassChangeHeld, MassChangesAllowed } from "./mass-change.ts";
import type { LaterSessionEvent, RevocationReason } from "./session-events.ts";
import type { SignalAction, SignalOutcome } from "./signal-records.ts";
import {
  accessRequestStream,
  activityStream,
  auditStream,
  clusterStream,
  configurationStream,
  deviceStream,
  groupStream,
  heldStream,
  type Stream,
  serviceAccountStream,
  sessionStream,
  signalStream,
  sweepStream,
  userStream,
} from "./streams.ts";

/** Encrypted personal data, as `seal` writes it: key id, nonce, AES-256-GCM ciphertext and tag. */
export type Sealed = Uint8Array;

/**
 * - `tightens`: a final fact about a credential or person. A node that cannot read it denies the stream's subject.
 * - `neutral`: changes no decision. A node that cannot read it skips it.
 * - `either`: anything else. A node that cannot read it is no longer fresh.
 */
export type Effect = "tightens" | "neutral" | "either";

/** The source of a membership. `idp` is used only with `groups_from_claim`, `request` only with `requestId`. */
export type MembershipSource = "directory" | "scim" | "operator" | "idp" | "request";

// --- sessions
export type SessionCreated = Fact<
  "SessionCreated",
  {
    sessionId: SessionId;
    userId: UserId;
    /** The identity provider that signed the person in (src/config); "" is the default one. */
    idpId: string;
    issuedAt: UnixMs;
    expiresAt: UnixMs;
    /** A sealed `Profile`: subject, e-mail, name, claims. */
    profile: Sealed;
    /** The provider's own session (`providerSessionId`); absent: the provider names none. */
    providerSession?: SessionId;
  }
>;
/** New claims from the identity provider replace all the old ones. The expiry never moves. */
export type SessionRefreshed = Fact<
  "SessionRefreshed",
  { sessionId: SessionId; userId: UserId; profile: Sealed; refreshedAt: UnixMs }
>;

// --- users
export type UserUpserted = Fact<"UserUpserted", { userId: UserId; profile: Sealed }>;
/** Revokes every session of the user that was created at or below `upTo`; null: below this event's own position. */
export type UserSessionsRevoked = Fact<
  "UserSessionsRevoked",
  { userId: UserId; upTo: Position | null; reason: RevocationReason }
>;
/**
 * Also revokes the existing sessions. A later restore readmits the person but not those sessions.
 * `until` absent: the suspension has no end. A later event never brings the end of a suspension forward.
 */
export type UserSuspended = Fact<"UserSuspended", { userId: UserId; reason: string; until?: UnixMs }>;
/** The sweep: a suspension has reached its end. `at`: the leader's time. It ends none whose end is later. */
export type SuspensionExpired = Fact<"SuspensionExpired", { userId: UserId; at: UnixMs }>;
/** An operator wants the leader to ask the identity provider about the person now. It changes no state. */
export type UserRefreshRequested = Fact<"UserRefreshRequested", { userId: UserId; requestedAt: UnixMs }>;
export type UserRestored = Fact<"UserRestored", { userId: UserId }>;
/** The same transaction destroys the person's key. */
export type UserErased = Fact<"UserErased", { userId: UserId }>;
/**
 * A transmitter of Shared Signals has said something about a subject. What follows from it is in events of its own, of
 * the same command.
 */
export type SignalReceived = Fact<
  "SignalReceived",
  {
    /** The record of the subject (signal-records.ts). */
    userId: UserId;
    /** A name in `signal_transmitters`. */
    transmitter: string;
    /** The name of the event, or its URI. */
    event: string;
    action: SignalAction;
    outcome: SignalOutcome;
    /** By the clock of the transmitter. */
    issuedAt: UnixMs;
    occurredAt: UnixMs;
  }
>;

// --- groups
/** The SCIM group behind a group: its client, and what the client says of it besides its members. */
export type ScimGroup = Readonly<{
  client: string;
  /** The id of the SCIM resource, random. */
  id: string;
  externalId: string | null;
  /** 1, 2, 3 …: the resource's ETag. */
  version: number;
  createdAt: UnixMs;
  changedAt: UnixMs;
}>;
/** `scim` absent: no SCIM client owns the group. */
export type GroupUpserted = Fact<"GroupUpserted", { groupId: GroupId; name: string; scim?: ScimGroup }>;
/**
 * A removal by an operator excludes the person, whatever other sources say, until an operator adds them again.
 * A removal by any other source only withdraws that source's own claim.
 *
 * `until`: the end of what this source claims for the added people; absent: none. Only an operator and an approved
 * request set it. `requestId`: the approved access request, with the source `request` alone.
 */
export type GroupMembersChanged = Fact<
  "GroupMembersChanged",
  {
    groupId: GroupId;
    source: MembershipSource;
    added: readonly UserId[];
    removed: readonly UserId[];
    until?: UnixMs;
    reason?: string;
    requestId?: CommandId;
  }
>;
/**
 * The sweep: time-boxed memberships of a group have reached their ends. `at`: the leader's time. It ends none whose end
 * is later. Nodes have enforced the ends before, by their own clocks.
 */
export type MembershipsExpired = Fact<
  "MembershipsExpired",
  { groupId: GroupId; userIds: readonly UserId[]; at: UnixMs }
>;
/**
 * The complete groups of one user according to one source. Replaces everything this source said before.
 * Recorded at sign-in and refresh where `groups_from_claim` is set.
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

export type SessionEvent = SessionCreated | SessionRefreshed | LaterSessionEvent;
export type UserEvent =
  | UserUpserted
  | UserSessionsRevoked
  | UserSuspended
  | SuspensionExpired
  | UserRestored
  | UserRefreshRequested
  | UserErased
  | SignalReceived;
export type GroupEvent =
  | GroupUpserted
  | GroupMembersChanged
  | MembershipsExpired
  | UserGroupsReplaced
  | GroupRemoved
  | MassChangeHeld
  | HeldChangeNarrowed
  | HeldChangeEnded
  | MassChangesAllowed
  | AccessRequestEvent
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
  | NodesRetired
  | SignalStreamChanged
  | SnapshotTaken
  | AuditSegmentSealed;
export type CardeaEvent = SessionEvent | UserEvent | GroupEvent | CredentialEvent | ClusterEvent;
export type EventType = CardeaEvent["type"];

// --- the catalog

/** The fact that an explanation is about. `user`: the stream of the person behind a membership; null: none is known. */
export type DescribedFact = Readonly<{ fact: string; user: string | null }>;

type EventOf<Type extends EventType> = {
  [Each in Type]: Readonly<{ type: Each }> & Extract<CardeaEvent, { type: Each }>;
}[Type];

type Entry<Type extends EventType> = Readonly<{
  stream: (event: EventOf<Type>) => Stream;
  effect: Effect;
  /** Versions 1, 2, 3 … of the body. Never change one: a new shape is a new version (formats.ts). */
  formats: readonly Format[];
  /** In plain words and without personal data: ids, sources and reasons. */
  describe: (event: EventOf<Type>, about: DescribedFact) => string;
}>;

const sinceLevel1: readonly Format[] = [{ level: 1 }];
const sinceLevel3: readonly Format[] = [{ level: 3 }];
const sinceLevel5: readonly Format[] = [{ level: 5 }];
const sinceAccessRequests: readonly Format[] = [{ level: accessRequestsFrom }];
const timeText = (at: UnixMs): string => Temporal.Instant.fromEpochMilliseconds(at).toString();
const endText = (until: UnixMs | undefined): string => (until === undefined ? "" : ` until ${timeText(until)}`);
const bySession = ({ sessionId }: Readonly<{ sessionId: SessionId }>): Stream => sessionStream(sessionId);
const byUser = ({ userId }: Readonly<{ userId: UserId }>): Stream => userStream(userId);
const byGroup = ({ groupId }: Readonly<{ groupId: GroupId }>): Stream => groupStream(groupId);
const byDevice = ({ deviceId }: Readonly<{ deviceId: DeviceId }>): Stream => deviceStream(deviceId);
const byServiceAccount = ({ serviceAccountId }: Readonly<{ serviceAccountId: ServiceAccountId }>): Stream =>
  serviceAccountStream(serviceAccountId);
const inSweep = (): Stream => sweepStream;
const inActivity = (): Stream => activityStream;
const inHeld = (): Stream => heldStream;
const inAccessRequests = (): Stream => accessRequestStream;
const inCluster = (): Stream => clusterStream;
/** For events that no decision depends on. */
const byType = ({ type }: Readonly<{ type: EventType }>): string => type;

export const catalog: Readonly<{ [Type in EventType]: Entry<Type> }> = {
  SessionCreated: {
    stream: bySession,
    effect: "either",
    formats: [
      { level: 1 },
      {
        level: 5,
        up: (body) => body,
        down: (body) => ("providerSession" in body ? null : body),
      },
    ],
    describe: ({ idpId }) => `signed in, by provider ${idpId === "" ? "(default)" : idpId}`,
  },
  SessionRefreshed: {
    stream: bySession,
    effect: "either",
    formats: sinceLevel1,
    describe: () => "the identity provider confirmed the session again, and its claims replaced the old ones",
  },
  SessionRevoked: {
    stream: bySession,
    effect: "tightens",
    formats: sinceLevel1,
    describe: ({ reason }) => `revoked: ${reason}`,
  },
  LogoutRecorded: {
    stream: ({ logoutId }) => sessionStream(logoutId),
    effect: "tightens",
    formats: sinceLevel5,
    describe: () => "the identity provider ended its session",
  },
  SessionsExpired: {
    stream: inSweep,
    effect: "neutral",
    formats: sinceLevel1,
    describe: () => "expired",
  },
  SessionsSeen: {
    stream: inActivity,
    effect: "either",
    formats: sinceLevel5,
    describe: () => "in use",
  },
  UserUpserted: {
    stream: byUser,
    effect: "either",
    formats: sinceLevel1,
    describe: () => "the profile of the person was replaced",
  },
  UserSessionsRevoked: {
    stream: byUser,
    effect: "tightens",
    formats: sinceLevel1,
    describe: ({ reason }) => `all sessions of the person revoked: ${reason}`,
  },
  UserSuspended: {
    stream: byUser,
    effect: "tightens",
    formats: withFieldsAt(5, "until"),
    describe: ({ reason, until }) => `suspended${endText(until)}: ${reason}`,
  },
  SuspensionExpired: {
    stream: byUser,
    effect: "either",
    formats: sinceLevel5,
    describe: ({ at }) => `the suspension ended by itself, swept at ${timeText(at)}`,
  },
  UserRestored: {
    stream: byUser,
    effect: "either",
    formats: sinceLevel1,
    describe: () => "restored",
  },
  UserRefreshRequested: {
    stream: byUser,
    effect: "neutral",
    formats: sinceLevel5,
    describe: byType,
  },
  UserErased: {
    stream: byUser,
    effect: "tightens",
    formats: sinceLevel1,
    describe: () => "erased",
  },
  SignalReceived: {
    stream: byUser,
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ transmitter, event, outcome }) => `signal ${event} from transmitter ${transmitter}: ${outcome}`,
  },
  GroupUpserted: {
    stream: byGroup,
    effect: "neutral",
    formats: [
      { level: 1 },
      {
        level: 4,
        up: (body) => body,
        down: (body) => ("scim" in body ? null : body),
      },
    ],
    describe: ({ scim }) => (scim === undefined ? "renamed" : `named by SCIM client ${scim.client}`),
  },
  GroupMembersChanged: {
    stream: byGroup,
    effect: "either",
    formats: [...withFieldsAt(5, "until", "reason"), withMoreFields(accessRequestsFrom, "requestId")],
    describe: ({ added, source, until, reason, requestId }, { user }) => {
      const why = reason === undefined ? "" : `: ${reason}`;
      const by = requestId === undefined ? source : `access request ${requestId}`;
      return added.some((id) => userStream(id) === user)
        ? `added to the group by ${by}${endText(until)}${why}`
        : `removed from the group by ${by}${why}`;
    },
  },
  MembershipsExpired: {
    stream: byGroup,
    effect: "either",
    formats: sinceLevel5,
    describe: ({ at }) => `the time-boxed membership ended by itself, swept at ${timeText(at)}`,
  },
  UserGroupsReplaced: {
    stream: byUser,
    effect: "either",
    formats: sinceLevel1,
    describe: ({ groupIds, source }, { fact }) =>
      `${source} listed all groups of the person, ${groupIds.some((id) => groupStream(id) === fact) ? "this one among them" : "without this one"}`,
  },
  GroupRemoved: {
    stream: byGroup,
    effect: "either",
    formats: sinceLevel1,
    describe: () => "the group was removed, with every membership",
  },
  MassChangeHeld: {
    stream: inHeld,
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ heldId, people }) => `held as ${heldId}, because ${people} people would lose a group or their access`,
  },
  HeldChangeNarrowed: {
    stream: inHeld,
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ heldId, withdrawn }) => `held change ${heldId} no longer concerns ${withdrawn.length} people`,
  },
  HeldChangeEnded: {
    stream: inHeld,
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ heldId, outcome }) => `held change ${heldId} was ${outcome}`,
  },
  MassChangesAllowed: {
    stream: inHeld,
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ source }) => `an operator allowed mass changes of ${source}`,
  },
  AccessRequested: {
    stream: inAccessRequests,
    effect: "neutral",
    formats: sinceAccessRequests,
    describe: ({ requestId, routeId }) => `access request ${requestId} for route ${routeId}`,
  },
  AccessRequestDecided: {
    stream: inAccessRequests,
    effect: "neutral",
    formats: sinceAccessRequests,
    describe: ({ requestId, decision, until }) =>
      `access request ${requestId} was ${decision}${endText(until ?? undefined)}`,
  },
  AccessRequestEnded: {
    stream: inAccessRequests,
    effect: "neutral",
    formats: sinceAccessRequests,
    describe: ({ requestId, outcome }) => `access request ${requestId}: ${outcome}`,
  },
  DirectorySyncStarted: {
    stream: inSweep,
    effect: "neutral",
    formats: sinceLevel1,
    describe: byType,
  },
  DirectorySyncCompleted: {
    stream: inSweep,
    effect: "neutral",
    formats: sinceLevel1,
    describe: byType,
  },
  DeviceEnrolled: {
    stream: byDevice,
    effect: "either",
    formats: sinceLevel1,
    describe: ({ typeId }) => `enrolled, of type ${typeId}`,
  },
  DeviceApproved: {
    stream: byDevice,
    effect: "either",
    formats: sinceLevel1,
    describe: ({ approvedBy }) => `approved by user ${approvedBy}`,
  },
  DeviceRemoved: {
    stream: byDevice,
    effect: "tightens",
    formats: sinceLevel1,
    describe: () => "removed",
  },
  ServiceAccountCreated: {
    stream: byServiceAccount,
    effect: "either",
    formats: sinceLevel1,
    describe: () => "created",
  },
  ServiceAccountRevoked: {
    stream: byServiceAccount,
    effect: "tightens",
    formats: sinceLevel1,
    describe: ({ reason }) => `revoked: ${reason}`,
  },
  ConfigurationActivated: {
    stream: ({ nodeId }) => configurationStream(nodeId),
    effect: "neutral",
    formats: sinceLevel1,
    describe: ({ configHash, nodeId }) => `configuration ${configHash} came into force on node ${nodeId}`,
  },
  EpochOpened: {
    stream: inCluster,
    effect: "neutral",
    formats: sinceLevel1,
    describe: byType,
  },
  TighteningReasserted: {
    stream: ({ subject }) => subject,
    effect: "tightens",
    formats: sinceLevel1,
    describe: ({ of }) => `${of}, once lost from the log, was recorded again`,
  },
  UpgradeFinalized: {
    stream: inCluster,
    effect: "either",
    formats: sinceLevel1,
    describe: byType,
  },
  NodesRetired: {
    stream: inCluster,
    effect: "neutral",
    formats: sinceLevel3,
    describe: ({ nodes }) => `retired nodes: ${nodes.map(({ nodeId }) => nodeId).join(", ")}`,
  },
  SignalStreamChanged: {
    stream: ({ receiver }) => signalStream(receiver),
    effect: "neutral",
    formats: sinceLevel5,
    describe: ({ receiver, status, delivered }) =>
      `the signal stream of receiver ${receiver} is ${status}, delivered up to position ${delivered}`,
  },
  SnapshotTaken: {
    stream: inCluster,
    effect: "neutral",
    formats: sinceLevel1,
    describe: byType,
  },
  AuditSegmentSealed: {
    stream: ({ seal }) => (seal === undefined ? clusterStream : auditStream),
    effect: "neutral",
    formats: withFieldsAt(6, "final", "seal"),
    describe: byType,
  },
};

/** The stream an event belongs to. */
export function streamOf<Type extends EventType>(event: EventOf<Type>): Stream {
  return catalog[event.type].stream(event);
}

/** The log stores it with the event. */
export function effectOf(type: EventType): Effect {
  return catalog[type].effect;
}

/** What an event said about a fact, in plain words and without personal data. */
export function describeEvent<Type extends EventType>(event: EventOf<Type>, about: DescribedFact): string {
  return catalog[event.type].describe(event, about);
}

/** An event of a type or version that this build does not know. Its effect says what to do about it. */
export type UnknownEvent = Fact<"Unknown", { name: string }>;

/** An event and everything the log added to it. `hash` also covers all events before it. */
export type Recorded = Readonly<{
  epoch: Epoch;
  position: Position;
  hash: Hash;
  eventId: EventId;
  stream: Stream;
  /** 1, 2, 3 … within the stream. */
  version: number;
  type: string;
  /** The version in which the body was written. `event` always has the newest shape (formats.ts). */
  schemaVersion: number;
  effect: Effect;
  recordedAt: UnixMs;
  /** The cause: `user:<id>`, `operator:<id>`, `service:<name>` or `system`. Ids only, never e-mail addresses. */
  actor: string;
  /** The command that caused it; null: an event of the log itself. */
  cause: CommandId | null;
  event: CardeaEvent | UnknownEvent;
}>;
