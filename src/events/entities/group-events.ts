/**
 * Group events: groups, their members, and syncs of directories. Only types; they are part of the catalog (catalog.ts).
 */
import type { CommandId, Fact, GroupId, UnixMs, UserId } from "../ids.ts";

/** The source of a membership. `idp` is used only with `groups_from_claim`, `request` only with `requestId`. */
export type MembershipSource = "directory" | "scim" | "operator" | "idp" | "request";

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
