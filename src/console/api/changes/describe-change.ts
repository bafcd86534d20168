/**
 * Describes an event of the log as a change: the key of its sentence, the values of that sentence, and the people and
 * groups that it is about. Pure: names are looked up by the caller.
 */
import {
  type CardeaEvent,
  type EventType,
  type GroupId,
  groupStream,
  type Recorded,
  type Stream,
  sessionStream,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { FinalKey, SentenceKey } from "../../text/console/changes.ts";

/** What the timeline can be narrowed to. */
export const changeAreas = ["sessions", "people", "groups", "devices", "configuration", "cluster"] as const;
export type ChangeArea = (typeof changeAreas)[number];

/** Changes of which there are many and that no one decided. The timeline counts them. */
export const foldedKinds = [
  "signIns",
  "refreshes",
  "expiries",
  "uses",
  "profiles",
  "groupLists",
  "syncs",
  "streams",
  "snapshots",
  "seals",
] as const;
export type FoldedKind = (typeof foldedKinds)[number];

export type DescribedChange = Readonly<{
  key: SentenceKey;
  area: ChangeArea;
  /** Null: each has a row of its own. */
  folds: FoldedKind | null;
  /** Of several events of one command, the one with the highest rank is the row. */
  rank: number;
  people: readonly UserId[];
  group: GroupId | null;
  /** Streams besides its own that it is about. */
  about: readonly Stream[];
  values: Readonly<{
    addedCount?: number;
    removedCount?: number;
    idpId?: string;
    node?: string;
    reason?: string;
    until?: number;
    name?: string;
    number?: number;
  }>;
  /** Why it can never be undone; null: it may be, or it is no act. */
  final: FinalKey | null;
}>;

type Parts = Partial<DescribedChange> & Pick<DescribedChange, "key" | "area">;
type Describe = Readonly<{ [Type in EventType]: (event: Extract<CardeaEvent, { type: Type }>) => Parts }>;

const revokedKeys: Readonly<Record<string, SentenceKey>> = {
  operator: "sessions-revoked",
  "sign-out": "signed-out",
  "refresh-refused": "refresh-refused",
  "identity-provider": "provider-ended",
  "session-limit": "session-limit",
  idle: "session-idle",
  reasserted: "revoked-again",
};
const heldKeys: Readonly<Record<string, SentenceKey>> = { released: "held-released", dropped: "held-dropped" };

const requestEnds = {
  withdrawn: "request-withdrawn",
  lapsed: "request-lapsed",
  expired: "access-expired",
  ended: "access-ended",
  replaced: "access-replaced",
} as const;

type More = Omit<Partial<DescribedChange>, "key" | "area" | "rank" | "folds">;
const act = (key: SentenceKey, area: ChangeArea, rank: number, more: More = {}): Parts => ({
  key,
  area,
  rank,
  ...more,
});
const frequent = (key: SentenceKey, area: ChangeArea, folds: FoldedKind, more: More = {}): Parts => ({
  key,
  area,
  folds,
  rank: frequentRanks[folds] ?? 0,
  ...more,
});
/** A sign-in also changes the profile and the groups of the person. */
const frequentRanks: Readonly<Partial<Record<FoldedKind, number>>> = { signIns: 5, groupLists: 2, profiles: 1 };
const untilOf = (until: number | undefined): { until?: number } => (until === undefined ? {} : { until });
const reasonOf = (reason: string | undefined): { reason?: string } => (reason === undefined ? {} : { reason });

const describe: Describe = {
  SessionCreated: ({ userId, idpId }) =>
    frequent("signed-in", "sessions", "signIns", { people: [userId], values: { idpId } }),
  SessionRefreshed: ({ userId }) => frequent("refreshed", "sessions", "refreshes", { people: [userId] }),
  SessionRevoked: ({ userId, reason }) =>
    act(revokedKeys[reason] ?? "sessions-revoked", "sessions", 6, { people: [userId], final: "revocation-final" }),
  LogoutRecorded: () => act("logout-recorded", "sessions", 3),
  SessionsExpired: ({ sessionIds }) =>
    frequent("expired", "sessions", "expiries", { about: sessionIds.slice(0, aboutMax).map(sessionStream) }),
  SessionsSeen: () => frequent("seen", "sessions", "uses"),
  UserUpserted: ({ userId }) => frequent("profile-changed", "people", "profiles", { people: [userId] }),
  UserSessionsRevoked: ({ userId, reason }) =>
    reason === "operator"
      ? act("all-revoked", "sessions", 7, { people: [userId], final: "revocation-final" })
      : act("all-ended", "sessions", 7, { people: [userId], final: "revocation-final", values: { reason } }),
  UserSuspended: ({ userId, reason, until }) =>
    act("suspended", "people", 9, { people: [userId], values: { reason, ...untilOf(until) } }),
  SuspensionExpired: ({ userId }) => act("suspension-ended", "people", 8, { people: [userId] }),
  UserRestored: ({ userId }) => act("restored", "people", 9, { people: [userId] }),
  UserRefreshRequested: ({ userId }) => act("refresh-requested", "people", 0, { people: [userId] }),
  UserErased: ({ userId }) => act("erased", "people", 10, { people: [userId], final: "erasure-final" }),
  SignalReceived: ({ transmitter, event, outcome }) =>
    act("signal", "people", 4, { values: { name: event, reason: `${transmitter}, ${outcome}` } }),
  GroupUpserted: ({ groupId }) => act("group-named", "groups", 2, { group: groupId }),
  GroupMembersChanged: ({ groupId, added, removed, until, reason }) => {
    const key = removed.length === 0 ? "members-added" : added.length === 0 ? "members-removed" : "members-changed";
    const counts = { addedCount: added.length, removedCount: removed.length };
    const values = { ...counts, ...untilOf(until), ...reasonOf(reason) };
    return act(key, "groups", 8, { group: groupId, people: [...added, ...removed], values });
  },
  MembershipsExpired: ({ groupId, userIds }) =>
    act("memberships-ended", "groups", 8, { group: groupId, people: userIds }),
  UserGroupsReplaced: ({ userId, groupIds }) => {
    const about = groupIds.slice(0, aboutMax).map(groupStream);
    return frequent("groups-listed", "groups", "groupLists", {
      people: [userId],
      about,
      values: { number: groupIds.length },
    });
  },
  GroupRemoved: ({ groupId }) => act("group-removed", "groups", 9, { group: groupId, final: "group-gone" }),
  MassChangeHeld: ({ added, removed, people }) =>
    act("held", "groups", 9, { people: [...added, ...removed].slice(0, aboutMax), values: { number: people } }),
  HeldChangeNarrowed: ({ withdrawn }) => act("held-narrowed", "groups", 3, { values: { number: withdrawn.length } }),
  HeldChangeEnded: ({ outcome, reason }) =>
    act(heldKeys[outcome] ?? "held-over", "groups", 10, { values: { name: outcome, reason } }),
  MassChangesAllowed: ({ source, until, reason }) =>
    act("mass-changes-allowed", "groups", 9, { values: { name: source, until, reason } }),
  AccessRequested: ({ userId, groupId, routeId }) =>
    act("access-requested", "groups", 9, { people: [userId], group: groupId, values: { name: routeId } }),
  AccessRequestDecided: ({ userId, decision, until }) =>
    act(decision === "approved" ? "access-approved" : "access-denied", "groups", 10, {
      people: [userId],
      values: untilOf(until ?? undefined),
    }),
  AccessRequestEnded: ({ userId, outcome }) => act(requestEnds[outcome], "groups", 9, { people: [userId] }),
  DirectorySyncStarted: ({ directory }) => frequent("sync-started", "groups", "syncs", { values: { name: directory } }),
  DirectorySyncCompleted: ({ directory, complete }) =>
    frequent(complete ? "sync-completed" : "sync-incomplete", "groups", "syncs", { values: { name: directory } }),
  DeviceEnrolled: ({ userId }) => act("device-enrolled", "devices", 8, { people: [userId] }),
  DeviceApproved: ({ userId }) => act("device-approved", "devices", 8, { people: [userId] }),
  DeviceRemoved: ({ userId }) => act("device-removed", "devices", 8, { people: [userId] }),
  ServiceAccountCreated: () => act("token-created", "devices", 8),
  ServiceAccountRevoked: () => act("token-revoked", "devices", 8, { final: "revocation-final" }),
  ConfigurationActivated: ({ nodeId, configHash }) =>
    act("configuration", "configuration", 8, { values: { node: nodeId, name: configHash.slice(0, 12) } }),
  EpochOpened: ({ epoch, brokerId }) => act("epoch", "cluster", 9, { values: { number: epoch, name: brokerId } }),
  TighteningReasserted: ({ subject }) => act("reasserted", "cluster", 9, { about: [subject] }),
  UpgradeFinalized: ({ level }) => act("finalized", "cluster", 9, { final: "level-final", values: { number: level } }),
  NodesRetired: ({ nodes }) =>
    act("nodes-retired", "cluster", 9, { values: { name: nodes.map(({ nodeId }) => nodeId).join(", ") } }),
  SignalStreamChanged: ({ receiver, status }) =>
    frequent("signal-stream", "cluster", "streams", { values: { name: receiver, reason: status } }),
  SnapshotTaken: ({ position }) => frequent("snapshot", "cluster", "snapshots", { values: { number: position } }),
  AuditSegmentSealed: ({ nodeId, last }) =>
    frequent("sealed", "cluster", "seals", { values: { node: nodeId, number: last } }),
};

/** Streams that one event is about, as far as a filter looks. */
const aboutMax = 1_000;

export function describeChange({ event, type }: Pick<Recorded, "event" | "type">): DescribedChange {
  const parts: Parts =
    event.type === "Unknown"
      ? { key: "unknown", area: "cluster", rank: 9, values: { name: type } }
      : (describe[event.type] as (event: CardeaEvent) => Parts)(event);
  return { folds: null, rank: 0, people: [], group: null, about: [], values: {}, final: null, ...parts };
}

/** Whether an event is about the entity of a stream. */
export function isAbout({ stream }: Pick<Recorded, "stream">, change: DescribedChange, subject: Stream): boolean {
  return (
    stream === subject ||
    (change.group !== null && groupStream(change.group) === subject) ||
    change.people.some((userId) => userStream(userId) === subject) ||
    change.about.includes(subject)
  );
}

/** Whether a word names a type of event or an area. */
export const isChangeType = (word: string): boolean =>
  Object.hasOwn(describe, word) || (changeAreas as readonly string[]).includes(word);
