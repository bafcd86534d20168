/** What an event said, in plain words and without personal data: ids, sources and reasons. Pure. */
import { type CardeaEvent, unreachable, userStream } from "../events/index.ts";

/** @param about a fact as a trace names it, and the stream of the person whose it is */
export function sayEvent(event: CardeaEvent, about: Readonly<{ fact: string; user: string | null }>): string {
  switch (event.type) {
    case "SessionCreated":
      return `signed in, by provider ${event.idpId === "" ? "(default)" : event.idpId}`;
    case "SessionRefreshed":
      return "the identity provider was asked again, and its claims took the place of the old ones";
    case "SessionRevoked":
      return `revoked: ${event.reason}`;
    case "SessionsExpired":
      return "expired";
    case "UserUpserted":
      return "what is known of the person was written anew";
    case "UserSessionsRevoked":
      return `all sessions of the person revoked: ${event.reason}`;
    case "UserSuspended":
      return `suspended: ${event.reason}`;
    case "UserRestored":
      return "restored";
    case "UserErased":
      return "erased";
    case "GroupUpserted":
      return "named anew";
    case "GroupMembersChanged": {
      const added = event.added.some((id) => userStream(id) === about.user);
      return added ? `put into the group by ${event.source}` : `taken out of the group by ${event.source}`;
    }
    case "UserGroupsReplaced": {
      const named = event.groupIds.some((id) => `group:${id}` === about.fact);
      return `${event.source} named all groups of the person, this one ${named ? "among them" : "not among them"}`;
    }
    case "GroupRemoved":
      return "the group was removed, with every membership";
    case "DeviceEnrolled":
      return `enrolled, of type ${event.typeId}`;
    case "DeviceApproved":
      return `approved by user ${event.approvedBy}`;
    case "DeviceRemoved":
      return "removed";
    case "ServiceAccountCreated":
      return "created";
    case "ServiceAccountRevoked":
      return `revoked: ${event.reason}`;
    case "ConfigurationActivated":
      return `configuration ${event.configHash} came into force on node ${event.nodeId}`;
    case "TighteningReasserted":
      return `${event.of}, lost from the log once, was recorded again`;
    case "DirectorySyncStarted":
    case "DirectorySyncCompleted":
    case "EpochOpened":
    case "UpgradeFinalized":
    case "SnapshotTaken":
    case "AuditSegmentSealed":
      return event.type;
    default:
      return unreachable(event);
  }
}
