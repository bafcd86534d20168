/**
 * Capture: a copy-on-write view of a projection at one link, read piece by piece while events are folded in. Pure.
 *
 * - Nothing is copied at the start. Before the projection changes an entity for the first time, it calls `preserve`;
 *   the capture then yields the preserved entity instead of the live one. The projection pays one lookup per change.
 * - Entities come in no particular order. Some may come twice, and are then equal.
 */
import type { AccessRequest } from "../access/access-request.ts";
import type { DeviceId, GroupId, ServiceAccountId, SessionId, UserId } from "../ids.ts";
import type { Link } from "../link.ts";
import type { SessionUse } from "../session-index/seen-times.ts";
import type { AuditSealRow } from "./audit-seals.ts";
import type { MassChangeRow } from "./mass-changes.ts";
import type { Device, Group, Membership, ServiceAccount, Session, User } from "./state.ts";

export type CapturedEntity =
  | Readonly<{ kind: "group"; entity: Group }>
  | Readonly<{ kind: "user"; entity: User }>
  | Readonly<{ kind: "memberships"; userId: UserId; entity: ReadonlyMap<GroupId, Membership> }>
  /** `use` undefined: nothing is known of it. */
  | Readonly<{ kind: "session"; entity: Session; use: SessionUse | undefined }>
  | Readonly<{ kind: "device"; entity: Device }>
  | Readonly<{ kind: "service-account"; entity: ServiceAccount }>;
export type EntityKind = CapturedEntity["kind"];

/** The parts of the projection that a capture reads. */
export type LiveEntities = Readonly<{
  groups: () => Iterable<Group>;
  users: () => Iterable<User>;
  people: () => Iterable<UserId>;
  membershipsOf: (userId: UserId) => ReadonlyMap<GroupId, Membership>;
  sessions: () => Iterable<Session>;
  useOf: (sessionId: SessionId) => SessionUse | undefined;
  devices: () => Iterable<Device>;
  serviceAccounts: () => Iterable<ServiceAccount>;
}>;

/** The order of the kinds. Groups come first because memberships name them. */
const kinds = ["group", "user", "memberships", "device", "service-account", "session"] as const;

export class ProjectionCapture {
  /** The newest event in it. */
  readonly link: Link;
  readonly digest: string;
  /** Few and small, so they are copied at the start, in their order. */
  readonly massChanges: readonly MassChangeRow[];
  readonly auditSeals: readonly AuditSealRow[];
  readonly accessRequests: readonly AccessRequest[];
  readonly #preserved = new Map<EntityKind, Map<string, CapturedEntity | undefined>>(
    kinds.map((kind) => [kind, new Map()]),
  );
  readonly #entities: Generator<CapturedEntity>;
  readonly #onDone: () => void;
  #isDone = false;

  constructor(
    at: Readonly<{
      link: Link;
      digest: string;
      massChanges: readonly MassChangeRow[];
      auditSeals: readonly AuditSealRow[];
      accessRequests: readonly AccessRequest[];
    }>,
    live: LiveEntities,
    onOver: () => void,
  ) {
    this.link = at.link;
    this.digest = at.digest;
    this.massChanges = at.massChanges;
    this.auditSeals = at.auditSeals;
    this.accessRequests = at.accessRequests;
    this.#onDone = onOver;
    this.#entities = this.#all(live);
  }

  /** No more entities follow. */
  get over(): boolean {
    return this.#isDone;
  }
  /** Entities that have changed since the capture began. */
  get preservedCount(): number {
    let count = 0;
    for (const kept of this.#preserved.values()) count += kept.size;
    return count;
  }

  /** Called before an entity changes. @param before returns its current form; undefined: it does not exist yet */
  preserve(kind: EntityKind, id: string, before: () => CapturedEntity | undefined): void {
    const kept = this.#preserved.get(kind);
    if (kept !== undefined && !kept.has(id)) kept.set(id, before());
  }

  /** The next entities. Fewer than `limit`: those were the last. */
  next(limit: number): CapturedEntity[] {
    const some: CapturedEntity[] = [];
    while (some.length < limit) {
      const { value, done } = this.#entities.next();
      if (done === true) {
        this.end();
        break;
      }
      some.push(value);
    }
    return some;
  }

  /** Releases everything, even if not all of it was read. */
  end(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    for (const kept of this.#preserved.values()) kept.clear();
    this.#onDone();
  }

  *#all(live: LiveEntities): Generator<CapturedEntity> {
    for (const kind of kinds) {
      const kept = this.#preserved.get(kind);
      for (const captured of liveOf(kind, live)) if (kept?.has(idOf(captured)) !== true) yield captured;
      for (const captured of kept?.values() ?? []) if (captured !== undefined) yield captured;
    }
  }
}

export function idOf(captured: CapturedEntity): string {
  switch (captured.kind) {
    case "group":
      return captured.entity.groupId satisfies GroupId;
    case "user":
      return captured.entity.userId;
    case "memberships":
      return captured.userId;
    case "session":
      return captured.entity.sessionId satisfies SessionId;
    case "device":
      return captured.entity.deviceId satisfies DeviceId;
    case "service-account":
      return captured.entity.serviceAccountId satisfies ServiceAccountId;
  }
}

function* liveOf(kind: EntityKind, live: LiveEntities): Generator<CapturedEntity> {
  switch (kind) {
    case "group":
      for (const entity of live.groups()) yield { kind, entity };
      return;
    case "user":
      for (const entity of live.users()) yield { kind, entity };
      return;
    case "memberships":
      for (const userId of live.people()) yield { kind, userId, entity: live.membershipsOf(userId) };
      return;
    case "session":
      for (const entity of live.sessions()) yield { kind, entity, use: live.useOf(entity.sessionId) };
      return;
    case "device":
      for (const entity of live.devices()) yield { kind, entity };
      return;
    case "service-account":
      for (const entity of live.serviceAccounts()) yield { kind, entity };
  }
}
