/**
 * Signals: what an event of the log means for receivers of Shared Signals (CAEP 1.0, RISC 1.0). Pure.
 *
 * - The list for an event depends on the event alone, so the number of a signal in it never changes.
 * - The end of a session by time is no revocation and is not reported.
 * - Reasons are fixed texts: an operator's own text could name a person.
 */
import type { SentSignal } from "../../../config/index.ts";
import {
  type CardeaEvent,
  type GroupId,
  parseStream,
  type Recorded,
  type RevocationReason,
  type SessionId,
  type UserId,
} from "../../../events/index.ts";

type Entity = "admin" | "user" | "policy" | "system";

export type Signal = Readonly<{
  name: SentSignal;
  /** Null: the event concerns a group. */
  userId: UserId | null;
  /** Null: every session of the person. */
  sessionId: SessionId | null;
  /** The group that has changed; null: none, or not known. */
  groupId: GroupId | null;
  /** Set where the claims of the person may have changed: other than groups. */
  isAboutClaims?: true;
  initiatedBy: Entity;
  reason: string;
  /** Members of the event beside those of every event; `claims` of token-claims-change are added when it is built. */
  more: Readonly<Record<string, string>>;
}>;

type Cause = Readonly<{ initiatedBy: Entity; reason: string }>;

const causes: Readonly<Partial<Record<RevocationReason, Cause>>> = {
  operator: { initiatedBy: "admin", reason: "An administrator ended the session." },
  "sign-out": { initiatedBy: "user", reason: "The person signed out." },
  "refresh-refused": { initiatedBy: "system", reason: "The identity provider refused to refresh the session." },
  "identity-provider": { initiatedBy: "system", reason: "The identity provider or directory ended the session." },
  "session-limit": { initiatedBy: "policy", reason: "The oldest session ended because the person has too many." },
  idle: { initiatedBy: "policy", reason: "The session ended because it was not used." },
  reasserted: { initiatedBy: "system", reason: "A revocation that had been lost was recorded again." },
};
const otherCause: Cause = { initiatedBy: "system", reason: "The session was revoked." };
const suspended = "The account was suspended.";
const erased = "The account was erased.";

export function signalsOf({ event, actor, version }: Pick<Recorded, "event" | "actor" | "version">): readonly Signal[] {
  const by = initiatorOf(actor);
  switch (event.type) {
    case "SessionRevoked":
      return [revoked(event, event.sessionId, causes[event.reason] ?? otherCause)];
    case "UserSessionsRevoked":
      return [revoked(event, null, causes[event.reason] ?? otherCause)];
    case "UserSuspended":
      return [
        revoked(event, null, { initiatedBy: by, reason: suspended }),
        account("account-disabled", event, { initiatedBy: by, reason: suspended }),
      ];
    case "UserUpserted":
      return version === 1 ? [] : [claimsChanged(event.userId, by)]; // at first there is no change
    case "UserRestored":
      return [account("account-enabled", event, { initiatedBy: by, reason: "The account was restored." })];
    case "SuspensionExpired":
      return [account("account-enabled", event, { initiatedBy: "policy", reason: "The suspension has ended." })];
    case "UserErased":
      return [
        revoked(event, null, { initiatedBy: by, reason: erased }),
        account("account-purged", event, { initiatedBy: by, reason: erased }),
      ];
    case "GroupMembersChanged":
      return [...event.added, ...event.removed].map((userId) => groupsChanged(userId, event.groupId, by));
    case "MembershipsExpired":
      return event.userIds.map((userId) => groupsChanged(userId, event.groupId, "policy"));
    case "UserGroupsReplaced":
      return [groupsChanged(event.userId, null, by)];
    case "GroupRemoved":
      return [groupsChanged(null, event.groupId, by)];
    case "DeviceEnrolled":
    case "DeviceRemoved":
      return [credentialChanged(event, by)];
    case "TighteningReasserted":
      return reasserted(event);
    default:
      return [];
  }
}

function revoked({ userId }: Readonly<{ userId: UserId | null }>, sessionId: SessionId | null, cause: Cause): Signal {
  return { name: "session-revoked", userId, sessionId, groupId: null, more: {}, ...cause };
}

function account(
  name: "account-disabled" | "account-enabled" | "account-purged",
  { userId }: Readonly<{ userId: UserId }>,
  cause: Cause,
): Signal {
  return { name, userId, sessionId: null, groupId: null, more: {}, ...cause };
}

function groupsChanged(userId: UserId | null, groupId: GroupId | null, initiatedBy: Entity): Signal {
  const reason = userId === null ? "A group was removed." : "The groups of the person changed.";
  return { name: "token-claims-change", userId, sessionId: null, groupId, initiatedBy, reason, more: {} };
}

function claimsChanged(userId: UserId, initiatedBy: Entity): Signal {
  const reason = "The profile of the person changed.";
  const name = "token-claims-change";
  return { name, userId, sessionId: null, groupId: null, isAboutClaims: true, initiatedBy, reason, more: {} };
}

function credentialChanged(
  event: Extract<CardeaEvent, { type: "DeviceEnrolled" | "DeviceRemoved" }>,
  by: Entity,
): Signal {
  const isNew = event.type === "DeviceEnrolled";
  const platform = isNew && event.typeId === "enclave_only";
  return {
    name: "credential-change",
    userId: event.userId,
    sessionId: null,
    groupId: null,
    initiatedBy: by,
    reason: isNew ? "A device was enrolled." : "A device was removed.",
    more: { credential_type: platform ? "fido2-platform" : "fido2-roaming", change_type: isNew ? "create" : "revoke" },
  };
}

/** A denial of an unknown kind that was recorded again denies the subject of its stream. */
function reasserted({ subject }: Extract<CardeaEvent, { type: "TighteningReasserted" }>): readonly Signal[] {
  const of = parseStream(subject);
  const cause = causes.reasserted ?? otherCause;
  if (of.kind === "session") return [revoked({ userId: null }, of.id, cause)];
  return of.kind === "user" ? [revoked({ userId: of.id }, null, cause)] : [];
}

function initiatorOf(actor: string): Entity {
  if (actor.startsWith("operator:")) return "admin";
  return actor.startsWith("user:") ? "user" : "system";
}
