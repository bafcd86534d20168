/**
 * Projection types: what a projection answers and what it is filled with. Types, and the one error it knows. Pure.
 */
import { CodedError } from "../coded-error.ts";
import type { DeviceId, GroupId, Position, ServiceAccountId, UserId } from "../ids.ts";
import type { LoadableSessionIndex } from "../session-index/session-index.ts";
import type { Memberships } from "./memberships.ts";
import type { ActiveSession, Device, Group, ServiceAccount, Session, User } from "./state.ts";

/** What a session id stands for right now, expiry aside. */
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

/** Where a loader puts entities, each once. */
export type ProjectionTables = Readonly<{
  sessions: LoadableSessionIndex;
  users: Map<UserId, User>;
  groups: Map<GroupId, Group>;
  memberships: Memberships;
  devices: Map<DeviceId, Device>;
  serviceAccounts: Map<ServiceAccountId, ServiceAccount>;
}>;
