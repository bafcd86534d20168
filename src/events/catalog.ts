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
import type { CredentialEvent } from "./entities/credential-events.ts";
import type {
  DirectorySyncCompleted,
  DirectorySyncStarted,
  GroupMembersChanged,
  GroupRemoved,
  GroupUpserted,
  MembershipsExpired,
  UserGroupsReplaced,
} from "./entities/group-events.ts";
import type {
  Sealed,
  SignalReceived,
  SuspensionExpired,
  UserErased,
  UserRefreshRequested,
  UserRestored,
  UserSessionsRevoked,
  UserSuspended,
  UserUpserted,
} from "./entities/user-events.ts";
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
import type { LaterSessionEvent } from "./session-events.ts";
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

/**
 * - `tightens`: a final fact about a credential or person. A node that cannot read it denies the stream's subject.
 * - `neutral`: changes no decision. A node that cannot read it skips it.
 * - `either`: anything else. A node that cannot read it is no longer fresh.
 */
export type Effect = "tightens" | "neutral" | "either";

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
