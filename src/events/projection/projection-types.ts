/**
 * Projection types: the results of a projection, its tables, and its error. Pure.
 */
import { CodedError } from "../coded-error.ts";
import type { DeviceId, GroupId, Position, ServiceAccountId, UserId } from "../ids.ts";
import type { LoadableSessionIndex } from "../session-index/session-index.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { AuditSeals } from "./audit-seals.ts";
import type { EndIndex } from "./end-index.ts";
import type { MassChanges } from "./mass-changes.ts";
import type { Memberships } from "./memberships.ts";
import type { ActiveSession, Device, Group, ServiceAccount, Session, User } from "./state.ts";

/** The status of a session id, apart from expiry. */
export type SessionStatus =
  | Readonly<{ status: "active"; session: ActiveSession; user: User | undefined }>
  | Readonly<{ status: "revoked"; session: Session; reason: string }>
  | Readonly<{ status: "unknown" }>;

export class OutOfOrderError extends CodedError<"ERR_EVENTS_OUT_OF_ORDER"> {
  override readonly code = "ERR_EVENTS_OUT_OF_ORDER";
  constructor(applied: Position, position: Position) {
    super(`event ${position} was applied after ${applied}`);
  }
}

export type ProjectionCounts = Readonly<{ sessions: number; users: number; groups: number }>;

/** The tables that a loader fills, each entity once. */
export type ProjectionTables = Readonly<{
  sessions: LoadableSessionIndex;
  users: Map<UserId, User>;
  suspensions: EndIndex<UserId>;
  groups: Map<GroupId, Group>;
  memberships: Memberships;
  devices: Map<DeviceId, Device>;
  serviceAccounts: Map<ServiceAccountId, ServiceAccount>;
  massChanges: MassChanges;
  auditSeals: AuditSeals;
  accessRequests: AccessRequests;
}>;
