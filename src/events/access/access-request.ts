/**
 * Access request: a person asks for a route for a time, and an approver decides. Its events, commands and bounds. Pure.
 *
 * - An approval gives a membership of the source `request` with an end, in the same transaction. At most one approved
 *   request of a person counts in a group: a newer approval replaces it.
 * - The person's reason and the approver's note are sealed under the person's key, so an erasure destroys both.
 * - Nothing leaves the projection by a clock: what has reached its end is ended by an event.
 *
 * Why so: docs/adr/0070-access-requests-are-events.md.
 */
import type { CommandId, Fact, GroupId, SessionId, UnixMs, UserId } from "../ids.ts";

/** The cluster level from which access can be requested. */
export const accessRequestsFrom = 7;

/** Requests that wait or are in force, of the whole cluster. */
export const openRequestsMax = 5_000;
/** Requests that were denied or have ended, the newest ones. The log keeps the events of all. */
export const endedRequestsMax = 1_000;
/** Requests of one person that wait. */
export const waitingByPersonMax = 10;
/** Requests of one person within a day, whatever became of them. */
export const requestedByPersonMax = 30;
/** Requests about one route that wait, so that no route takes the room of another. */
export const waitingByRouteMax = 500;
/** Characters of a reason or a note: at most 900 bytes each. */
export const requestWordsMax = 300;
/** A request without a decision ends after this time. */
export const undecidedMsMax = 7 * 24 * 3_600_000;
/** The shortest and the longest time for which access is given. */
export const accessMsMin = 60_000;
export const accessMsMax = 90 * 24 * 3_600_000;

/** `until` is set with `approved` alone. */
export type AccessRequestStatus =
  | "pending"
  | "approved"
  | "denied"
  /** By the person, before a decision. */
  | "withdrawn"
  /** No decision came in time. */
  | "lapsed"
  /** The access has reached its end. */
  | "expired"
  /** The person, an approver or an operator has ended the access early. */
  | "ended"
  /** A later request of the person for the same group was approved. */
  | "replaced"
  /** An operator took the person out of the group, or removed the group. */
  | "removed";

export type AccessRequest = Readonly<{
  requestId: CommandId;
  userId: UserId;
  routeId: string;
  groupId: GroupId;
  /** What the person asks for. */
  durationMs: number;
  /** The person's reason, sealed; null: none was given. */
  reason: Uint8Array | null;
  /** The request id of the refusal that the person met; null: they asked from the portal. */
  refusal: string | null;
  requestedAt: UnixMs;
  /** When it ends without a decision. */
  expiresAt: UnixMs;
  status: AccessRequestStatus;
  /** The actor of the decision; null: there is none yet. */
  decidedBy: string | null;
  decidedAt: UnixMs | null;
  /** The approver's words, sealed; null: there are none. */
  note: Uint8Array | null;
  /** The end of the access; null: it was not approved. */
  until: UnixMs | null;
  /** The actor that ended it; null: it has not ended, or by itself. */
  endedBy: string | null;
  endedAt: UnixMs | null;
}>;

export type AccessRequested = Fact<
  "AccessRequested",
  Pick<
    AccessRequest,
    "requestId" | "userId" | "routeId" | "groupId" | "durationMs" | "reason" | "refusal" | "expiresAt"
  >
>;
/** `until`: with `approved`; the membership is in the `GroupMembersChanged` beside it. */
export type AccessRequestDecided = Fact<
  "AccessRequestDecided",
  {
    requestId: CommandId;
    userId: UserId;
    decision: "approved" | "denied";
    until: UnixMs | null;
    note: Uint8Array | null;
  }
>;
export type AccessRequestEnded = Fact<
  "AccessRequestEnded",
  {
    requestId: CommandId;
    userId: UserId;
    outcome: Exclude<AccessRequestStatus, "pending" | "approved" | "denied" | "removed">;
  }
>;
export type AccessRequestEvent = AccessRequested | AccessRequestDecided | AccessRequestEnded;

/** Whether it waits or is in force as far as the log says. */
export const isOpenRequest = ({ status }: Pick<AccessRequest, "status">): boolean =>
  status === "pending" || status === "approved";

// --- commands

/** A person asks for a route that refuses them. Repeated for a route with a request that waits, it changes nothing. */
export type RequestAccess = Fact<
  "requestAccess",
  {
    /** Also the id of the command. */
    requestId: CommandId;
    userId: UserId;
    /** The person's own session, which must be in force. */
    sessionId: SessionId;
    routeId: string;
    groupId: GroupId;
    durationMs: number;
    reason: string;
    refusal: string | null;
  }
>;

/**
 * Who decides or ends a request. The leader checks it at the head.
 *
 * - `operator`: any request. `userId` null: an operator's token, which stands for no person.
 * - `named`: the configuration of the sender names the person. `group`: it names a group, of which they are a member.
 * - `requester`: the person who asked, who can only end the request.
 */
export type AccessDecider =
  | Fact<"operator", { userId: UserId | null }>
  | Fact<"named", { userId: UserId; sessionId: SessionId }>
  | Fact<"group", { userId: UserId; sessionId: SessionId; groupId: GroupId }>
  | Fact<"requester", { userId: UserId; sessionId: SessionId }>;

/** `until`: with `approved`; null otherwise. */
export type DecideAccessRequest = Fact<
  "decideAccessRequest",
  {
    requestId: CommandId;
    by: AccessDecider;
    decision: "approved" | "denied";
    until: UnixMs | null;
    note: string;
  }
>;
/** Withdraws a request that waits, or ends the access that was given. */
export type EndAccessRequest = Fact<"endAccessRequest", { requestId: CommandId; by: AccessDecider }>;
/** The sweep of requests that had no decision in time, and of access that has reached its end. A duty of the leader. */
export type ExpireAccessRequests = Fact<"expireAccessRequests", { requestIds: readonly CommandId[] }>;
export type AccessRequestCommand = RequestAccess | DecideAccessRequest | EndAccessRequest | ExpireAccessRequests;
