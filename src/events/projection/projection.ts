/**
 * Projection: the state folded from events 1…N, and its digest.
 *
 * - Synchronous, without I/O. Only `apply` changes it, one event at a time and in order; anything else throws.
 * - Two projections at one link are equal and have the same digest. It is the sum (mod 2^256) of the SHA-256 hashes of
 *   all entities in canonical form and is updated with each event, so comparing nodes costs nothing.
 * - An unknown event that `tightens` denies its stream's subject, a `neutral` one is skipped, and one that is `either`
 *   sets `degraded`: the node is then no longer fresh.
 * - After any unknown event the projection is a *guess*, because a build that knows the event may fold it differently.
 *   A guess is never saved, and a newer build folds these events again.
 */

import type { CardeaEvent, Recorded } from "../catalog.ts";
import { linkOf } from "../codec/codec.ts";
import type { GroupMembersChanged, MembershipSource } from "../entities/group-events.ts";
import { firstLevel } from "../formats.ts";
import {
  type DeviceId,
  type GroupId,
  type Position,
  type ServiceAccountId,
  type SessionId,
  type UnixMs,
  type UserId,
  unreachable,
} from "../ids.ts";
import { genesis, type Link } from "../link.ts";
import { massChangeFrom, sourceOf } from "../mass-change.ts";
import { CompactSessionIndex } from "../session-index/compact-session-index.ts";
import type { LoadableSessionIndex } from "../session-index/session-index.ts";
import { groupStream, parseStream, type Stream, sessionStream, userStream } from "../streams.ts";
import { AccessRequests } from "./access-requests.ts";
import { AuditSeals } from "./audit-seals.ts";
import { ProjectionCapture } from "./capture.ts";
import { Credentials } from "./credentials.ts";
import { DigestSum } from "./digest-sum.ts";
import { EndIndex } from "./end-index.ts";
import { lossesOf } from "./losses.ts";
import { MassChanges } from "./mass-changes.ts";
import { Memberships } from "./memberships.ts";
import {
  OutOfOrderError,
  type ProjectionCounts,
  type ProjectionTables,
  type SessionStatus,
} from "./projection-types.ts";
import { RefreshRequests } from "./refresh-requests.ts";
import { SessionUses } from "./session-uses.ts";
import {
  claimOf,
  createTombstone,
  type Device,
  evolveLogout,
  evolveMembership,
  evolveSession,
  evolveUser,
  expireMembership,
  type Group,
  type Membership,
  newUser,
  revokedByUser,
  type ServiceAccount,
  type Session,
  type User,
  unknownSessionExpiry,
} from "./state.ts";

type EventOrigin = Pick<Recorded, "position" | "recordedAt" | "actor">;
type BesideEvent = Extract<CardeaEvent, { type: "SessionsSeen" | "UserRefreshRequested" | "AuditSegmentSealed" }>;
/** The level's form in the digest. The first level has none, so that the digest of an empty projection is 0. */
const levelForm = (level: number): object | undefined => (level === firstLevel ? undefined : { level });

export class Projection {
  #applied: Link = genesis;
  #degraded: string | undefined;
  #guessed: string | undefined;
  #level = firstLevel;
  readonly #digest = new DigestSum();
  readonly #sessions: LoadableSessionIndex = new CompactSessionIndex();
  readonly #users = new Map<UserId, User>();
  readonly #uses = new SessionUses({
    sessions: this.#sessions,
    userOf: (id) => this.#users.get(id),
    replace: (kind, before, after) => this.#digest.replace(kind, before, after),
    preserve: (session) => this.#preserveSession(session.sessionId, session),
  });
  readonly #groups = new Map<GroupId, Group>();
  readonly #memberships = new Memberships();
  /** People whose suspensions end by themselves, with the ends. */
  readonly #suspensions = new EndIndex<UserId>();
  readonly #credentials = new Credentials({
    replace: (kind, before, after) => this.#digest.replace(kind, before, after),
    preserve: (kind, id, before) => this.#capture?.preserve(kind, id, before),
  });
  readonly #massChanges = new MassChanges((kind, before, after) => this.#digest.replace(kind, before, after));
  readonly #auditSeals = new AuditSeals((kind, before, after) => this.#digest.replace(kind, before, after));
  readonly #accessRequests = new AccessRequests((kind, before, after) => this.#digest.replace(kind, before, after));
  readonly #refreshRequests = new RefreshRequests();
  #capture: ProjectionCapture | undefined;

  /** The link of the newest event folded in. */
  get applied(): Link {
    return this.#applied;
  }
  /** The type of an unreadable event that could change decisions; undefined: none. */
  get degraded(): string | undefined {
    return this.#degraded;
  }
  /** The type of the first unreadable event, whatever its effect; undefined: none. A guess must not be saved. */
  get guessed(): string | undefined {
    return this.#guessed;
  }
  /** The cluster's level (formats.ts) after the newest event folded in. */
  get level(): number {
    return this.#level;
  }
  get counts(): ProjectionCounts {
    return { sessions: this.#sessions.size, users: this.#users.size, groups: this.#groups.size };
  }

  /** 64 hexadecimal digits, equal on all nodes at the same link. */
  digest(): string {
    return this.#digest.text();
  }

  /** For a recently requested session, the same session object until it changes. */
  sessionStatus(id: SessionId): SessionStatus {
    const session = this.#sessions.cachedSession(id);
    return session === undefined ? { status: "unknown" } : this.statusOf(session);
  }

  /** As `sessionStatus`, of a session that the caller holds: lists read many that no request needs. */
  statusOf(session: Session): Exclude<SessionStatus, { status: "unknown" }> {
    if (session.status === "revoked") return { status: "revoked", session, reason: session.reason };
    const user = this.#users.get(session.userId);
    const reason = revokedByUser(session, user);
    return reason === null ? { status: "active", session, user } : { status: "revoked", session, reason };
  }

  session(id: SessionId): Session | undefined {
    return this.#sessions.get(id);
  }
  sessions(): IterableIterator<Session> {
    return this.#sessions.values();
  }
  sessionsOf(userId: UserId): readonly SessionId[] {
    return this.#sessions.ofUser(userId);
  }
  /** The active sessions that began in a session of their identity provider (`providerSessionId`). */
  sessionsOfProvider(providerSession: SessionId): readonly SessionId[] {
    return this.#sessions.ofProviderSession(providerSession);
  }
  /** Tombstones that name no person: recorded logouts, and revoked sessions that the log never knew. */
  get tombstonesWithoutUser(): number {
    return this.#sessions.withoutUser;
  }
  user(id: UserId): User | undefined {
    return this.#users.get(id);
  }
  users(): IterableIterator<User> {
    return this.#users.values();
  }
  group(id: GroupId): Group | undefined {
    return this.#groups.get(id);
  }
  groups(): IterableIterator<Group> {
    return this.#groups.values();
  }
  membership(userId: UserId, groupId: GroupId): Membership | undefined {
    return this.#memberships.get(userId, groupId);
  }
  memberships(userId: UserId): ReadonlyMap<GroupId, Membership> {
    return this.#memberships.of(userId);
  }
  /** Everyone with a record in the group, also excluded people; see `membership`. */
  membersOf(groupId: GroupId): ReadonlySet<UserId> {
    return this.#memberships.peopleIn(groupId);
  }
  /** As `membersOf`, one after the other: see `Memberships.eachIn`. */
  eachMember(groupId: GroupId): IterableIterator<UserId> {
    return this.#memberships.eachIn(groupId);
  }
  /**
   * The effective groups of a person at a time. For recently requested people, the same set object until it changes.
   */
  groupsOf(userId: UserId, now: UnixMs): ReadonlySet<GroupId> {
    return this.#memberships.groupsOf(userId, now);
  }
  /** The next time at which a membership of the person ends by itself; null: none does. */
  nextEndOf(userId: UserId, now: UnixMs): UnixMs | null {
    return this.#memberships.nextEndOf(userId, now);
  }
  device(id: DeviceId): Device | undefined {
    return this.#credentials.devices.get(id);
  }
  devices(): IterableIterator<Device> {
    return this.#credentials.devices.values();
  }
  devicesOf(userId: UserId): readonly Device[] {
    return [...this.#credentials.devices.values()].filter((d) => d.userId === userId && !d.removed);
  }
  serviceAccount(id: ServiceAccountId): ServiceAccount | undefined {
    return this.#credentials.serviceAccounts.get(id);
  }
  serviceAccounts(): IterableIterator<ServiceAccount> {
    return this.#credentials.serviceAccounts.values();
  }

  /** What is held of mass changes, and who lost a group by which source (mass-change.ts). */
  get massChanges(): MassChanges {
    return this.#massChanges;
  }
  /** Up to where audit records are sealed. */
  get auditSeals(): AuditSeals {
    return this.#auditSeals;
  }
  /** Requests for access that wait, are in force, or ended not long ago. */
  get accessRequests(): AccessRequests {
    return this.#accessRequests;
  }
  /** How many people have a membership. */
  get peopleInGroups(): number {
    return this.#memberships.size;
  }

  /** Operators' requests to ask the identity provider about a person now, for the leader's refresh. */
  get refreshRequests(): RefreshRequests {
    return this.#refreshRequests;
  }

  /** When sessions were last used, as far as the log knows. */
  get uses(): SessionUses {
    return this.#uses;
  }

  /** Expired sessions, for the sweep. */
  expired(now: UnixMs, limit: number): SessionId[] {
    return this.#sessions.expired(now, limit);
  }

  /** The number of time-boxed memberships and suspensions. */
  get timeBoxes(): number {
    return this.#memberships.timeBoxes + this.#suspensions.size;
  }
  /** Time-boxed memberships that have ended, for the sweep: at most `limit` people of one group. Null: none. */
  expiredMemberships(now: UnixMs, limit: number): Readonly<{ groupId: GroupId; userIds: readonly UserId[] }> | null {
    return this.#memberships.expired(now, limit);
  }
  /** People whose suspensions have ended, for the sweep. */
  expiredSuspensions(now: UnixMs, limit: number): readonly UserId[] {
    return this.#suspensions.ended(now, limit);
  }

  /**
   * Starts a capture of the current state, while the projection continues to change. A new capture ends the previous
   * one.
   */
  capture(): ProjectionCapture {
    this.#capture?.end();
    const at = {
      link: this.#applied,
      digest: this.digest(),
      massChanges: [...this.#massChanges.rows()],
      auditSeals: [...this.#auditSeals.rows()],
      accessRequests: [...this.#accessRequests.rows()],
    };
    const capture = new ProjectionCapture(
      at,
      {
        groups: () => this.#groups.values(),
        users: () => this.#users.values(),
        people: () => this.#memberships.people(),
        membershipsOf: (userId) => this.#memberships.of(userId),
        sessions: () => this.#sessions.values(),
        useOf: (id) => this.#uses.of(id),
        devices: () => this.#credentials.devices.values(),
        serviceAccounts: () => this.#credentials.serviceAccounts.values(),
      },
      () => {
        if (this.#capture === capture) this.#capture = undefined;
      },
    );
    this.#capture = capture;
    return capture;
  }

  /**
   * A projection at a link, with tables for the caller to fill from a capture before the projection is used. The caller
   * has verified the origin of the digest.
   */
  static load(
    at: Readonly<{ link: Link; digest: string; level: number }>,
  ): Readonly<{ projection: Projection; places: ProjectionTables }> {
    const projection = new Projection();
    projection.#applied = at.link;
    projection.#level = at.level;
    projection.#digest.set(at.digest);
    const places = {
      sessions: projection.#sessions,
      users: projection.#users,
      suspensions: projection.#suspensions,
      groups: projection.#groups,
      memberships: projection.#memberships,
      devices: projection.#credentials.devices,
      serviceAccounts: projection.#credentials.serviceAccounts,
      massChanges: projection.#massChanges,
      auditSeals: projection.#auditSeals,
      accessRequests: projection.#accessRequests,
    };
    return { projection, places };
  }

  /** The digest computed from all entities, as a check. Takes a second for half a million entities. */
  recomputedDigest(): string {
    const sum = new DigestSum();
    sum.replace("level", undefined, levelForm(this.#level));
    const all = { session: this.#sessions, user: this.#users, group: this.#groups, device: this.#credentials.devices };
    for (const [kind, entities] of Object.entries({ ...all, "service-account": this.#credentials.serviceAccounts }))
      for (const entity of entities.values()) sum.replace(kind, undefined, entity);
    for (const form of this.#uses.forms()) sum.replace("use", undefined, form);
    for (const userId of this.#memberships.people())
      for (const [groupId, membership] of this.#memberships.of(userId))
        sum.replace("membership", undefined, { userId, groupId, ...membership });
    for (const [kind, form] of this.#massChanges.forms()) sum.replace(kind, undefined, form);
    for (const [kind, form] of this.#auditSeals.forms()) sum.replace(kind, undefined, form);
    for (const [kind, form] of this.#accessRequests.forms()) sum.replace(kind, undefined, form);
    return sum.text();
  }

  /**
   * Folds the next event in.
   * @returns the changed streams: facts that decisions may have read
   * @throws OutOfOrderError unless the event directly follows `applied`
   */
  apply(recorded: Recorded): readonly Stream[] {
    if (recorded.position !== this.#applied.position + 1) {
      throw new OutOfOrderError(this.#applied.position, recorded.position);
    }
    const { event } = recorded;
    const touched = event.type === "Unknown" ? this.#applyUnknown(recorded) : this.#fold(event, recorded);
    this.#applied = linkOf(recorded);
    return touched;
  }

  #fold(event: CardeaEvent, at: EventOrigin): readonly Stream[] {
    const { position } = at;
    const unknownEnd = unknownSessionExpiry(this.#level, at.recordedAt);
    this.#countLosses(event, at);
    switch (event.type) {
      case "SessionCreated":
      case "SessionRefreshed":
      case "SessionRevoked":
        this.#putSession(
          event.sessionId,
          evolveSession(this.#sessions.get(event.sessionId), event, position, unknownEnd),
        );
        return [sessionStream(event.sessionId)];
      case "LogoutRecorded":
        this.#putSession(event.logoutId, evolveLogout(this.#sessions.get(event.logoutId), event, position));
        return [sessionStream(event.logoutId)];
      case "SessionsExpired":
        for (const id of event.sessionIds) this.#putSession(id, undefined);
        return event.sessionIds.map(sessionStream);
      case "UserUpserted":
      case "UserSessionsRevoked":
      case "UserSuspended":
      case "SuspensionExpired":
      case "UserRestored":
      case "UserErased":
        return this.#changeUser(event, position);
      case "GroupUpserted":
        this.#putGroup(event.groupId, {
          groupId: event.groupId,
          name: event.name,
          ...(event.scim === undefined ? {} : { scim: event.scim }),
        });
        return [groupStream(event.groupId)];
      case "GroupMembersChanged":
        return this.#changeMembers(event, at);
      case "MembershipsExpired":
        for (const userId of event.userIds) {
          const before = this.#memberships.get(userId, event.groupId);
          this.#putMembership(userId, event.groupId, { before, after: expireMembership(before, event.at) });
        }
        return [groupStream(event.groupId), ...event.userIds.map(userStream)];
      case "UserGroupsReplaced":
        this.#replaceGroups(event.userId, event.source, new Set(event.groupIds));
        return [userStream(event.userId)];
      case "GroupRemoved":
        return this.#removeGroup(event.groupId, at);
      case "DeviceEnrolled":
      case "DeviceApproved":
      case "DeviceRemoved":
      case "ServiceAccountCreated":
      case "ServiceAccountRevoked":
        return this.#credentials.evolve(event);
      case "TighteningReasserted":
        return this.#deny(event.subject, at);
      case "UpgradeFinalized":
        this.#raiseLevel(event.level, at);
        return [];
      case "SessionsSeen":
      case "MassChangeHeld":
      case "HeldChangeNarrowed":
      case "HeldChangeEnded":
      case "MassChangesAllowed":
      case "UserRefreshRequested":
      case "AuditSegmentSealed":
        this.#foldBeside(event, at);
        return [];
      case "AccessRequested":
      case "AccessRequestDecided":
      case "AccessRequestEnded":
        this.#accessRequests.evolve(event, at);
        return [];
      case "DirectorySyncStarted":
      case "DirectorySyncCompleted":
      case "ConfigurationActivated":
      case "EpochOpened":
      case "NodesRetired":
      case "SignalReceived":
      case "SignalStreamChanged":
      case "SnapshotTaken":
        return [];
      default:
        return unreachable(event);
    }
  }

  /** What no permit depends on: none of it turns one into a denial. */
  #foldBeside(event: BesideEvent | Parameters<MassChanges["evolve"]>[0], at: EventOrigin): void {
    if (event.type === "SessionsSeen") this.#uses.evolve(event);
    else if (event.type === "AuditSegmentSealed") this.#auditSeals.evolve(event);
    else if (event.type === "UserRefreshRequested") this.#refreshRequests.add(event, at.position);
    else this.#massChanges.evolve(event, at);
  }

  #countLosses(event: CardeaEvent, at: EventOrigin): void {
    const source = this.#level < massChangeFrom ? null : sourceOf(at.actor);
    if (source !== null) this.#massChanges.recordLosses(source, lossesOf(this, event, at.recordedAt), at);
  }

  #raiseLevel(level: number, { recordedAt }: EventOrigin): void {
    if (level <= this.#level) return;
    this.#digest.replace("level", levelForm(this.#level), levelForm(level));
    this.#level = level;
    const expiresAt = unknownSessionExpiry(level, recordedAt);
    for (const id of expiresAt === null ? [] : this.#sessions.endless()) {
      const session = this.#sessions.get(id);
      if (session?.status === "revoked") this.#putSession(id, { ...session, expiresAt });
    }
  }

  #applyUnknown(recorded: Recorded): readonly Stream[] {
    this.#guessed ??= recorded.type;
    if (recorded.effect === "neutral") return [];
    if (recorded.effect === "either") {
      this.#degraded = recorded.type;
      return [];
    }
    return this.#deny(recorded.stream, recorded);
  }

  /** Denies a stream's subject for good, whatever the event was called. */
  #deny(stream: Stream, { position, recordedAt }: EventOrigin): readonly Stream[] {
    const { kind, id } = parseStream(stream);
    if (kind === "session") {
      const before = this.#sessions.get(id);
      const until = unknownSessionExpiry(this.#level, recordedAt);
      if (before?.status !== "revoked") this.#putSession(id, createTombstone(before, id, position, until));
    } else if (kind === "user") {
      this.#putUser(
        evolveUser(this.#users.get(id), { type: "UserSuspended", userId: id, reason: "unknown event" }, position),
      );
    } else if (kind === "device") {
      this.#credentials.denyDevice(id, null);
    } else if (kind === "service-account") {
      this.#credentials.denyServiceAccount(id, null);
    } else {
      this.#degraded = stream; // a final fact about a kind of subject that this build does not know
    }
    return [stream];
  }

  // --- writers: each replaces the old form in the digest by the new one

  #putSession(id: SessionId, session: Session | undefined): void {
    const before = this.#sessions.get(id);
    if (before === session) return;
    this.#preserveSession(id, before);
    this.#digest.replaceSession(before, session);
    if (session?.status !== "active") this.#uses.forget(id);
    if (session === undefined) this.#sessions.delete(id);
    else this.#sessions.set(session);
  }

  #preserveSession(id: SessionId, entity: Session | undefined): void {
    this.#capture?.preserve("session", id, () => entity && { kind: "session", entity, use: this.#uses.of(id) });
  }

  #putUser(user: User): void {
    const before = this.#users.get(user.userId);
    if (before === user) return;
    this.#capture?.preserve("user", user.userId, () => before && { kind: "user", entity: before });
    this.#digest.replace("user", before, user);
    this.#users.set(user.userId, user);
    this.#suspensions.set(user.userId, user.suspension?.until);
    // Principals with opened personal data are kept by session object.
    if (user.status === "erased") for (const id of this.#sessions.ofUser(user.userId)) this.#sessions.forgetCached(id);
  }

  #putGroup(id: GroupId, group: Group | undefined): void {
    const before = this.#groups.get(id);
    this.#capture?.preserve("group", id, () => before && { kind: "group", entity: before });
    this.#digest.replaceGroup(before, group);
    if (group === undefined) this.#groups.delete(id);
    else this.#groups.set(id, group);
  }

  #changeMembers(event: GroupMembersChanged, at: EventOrigin): readonly Stream[] {
    const { groupId, source, added, removed } = event;
    const claim = claimOf(event);
    for (const userId of added) {
      const before = this.#memberships.get(userId, groupId);
      this.#putMembership(userId, groupId, { before, after: evolveMembership(before, "added", source, claim) });
    }
    for (const userId of removed) {
      this.#withdraw(userId, groupId, source);
      if (source === "operator") this.#accessRequests.remove(userId, groupId, at);
    }
    return [groupStream(groupId), ...[...added, ...removed].map(userStream)];
  }

  #putMembership(
    userId: UserId,
    groupId: GroupId,
    { before, after }: Readonly<{ before: Membership | undefined; after: Membership | undefined }>,
  ): void {
    this.#capture?.preserve("memberships", userId, () => {
      const entity = this.#memberships.of(userId);
      return entity.size === 0 ? undefined : { kind: "memberships", userId, entity };
    });
    this.#digest.replaceMembership(userId, groupId, { before, after });
    this.#memberships.put(userId, groupId, after);
    if (after === undefined) return;
    if (!this.#users.has(userId)) this.#putUser(newUser(userId));
    if (!this.#groups.has(groupId)) this.#putGroup(groupId, { groupId, name: groupId });
  }

  #replaceGroups(userId: UserId, source: MembershipSource, wanted: ReadonlySet<GroupId>): void {
    const held = this.memberships(userId);
    for (const [groupId, membership] of held)
      if (membership.sources.includes(source) && !wanted.has(groupId)) this.#withdraw(userId, groupId, source);
    for (const groupId of wanted) {
      const before = held.get(groupId);
      if (before?.sources.includes(source) !== true)
        this.#putMembership(userId, groupId, { before, after: evolveMembership(before, "added", source) });
    }
  }

  #changeUser(event: Parameters<typeof evolveUser>[1], position: Position): readonly Stream[] {
    const { userId } = event;
    this.#putUser(evolveUser(this.#users.get(userId), event, position));
    if (event.type !== "UserErased") return [userStream(userId)];
    this.#accessRequests.forget(userId);
    for (const [groupId, { requested }] of this.memberships(userId))
      if (requested !== undefined) this.#withdraw(userId, groupId, "request");
    return [userStream(userId)];
  }

  /** Ends what a source says of a membership. */
  #withdraw(userId: UserId, groupId: GroupId, source: MembershipSource): void {
    const before = this.#memberships.get(userId, groupId);
    this.#putMembership(userId, groupId, { before, after: evolveMembership(before, "removed", source) });
  }

  #removeGroup(groupId: GroupId, at: EventOrigin): readonly Stream[] {
    const members = [...this.membersOf(groupId)];
    for (const userId of members) {
      this.#putMembership(userId, groupId, { before: this.#memberships.get(userId, groupId), after: undefined });
      this.#accessRequests.remove(userId, groupId, at);
    }
    this.#putGroup(groupId, undefined);
    return [groupStream(groupId), ...members.map(userStream)];
  }
}
