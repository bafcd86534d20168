/**
 * Commands about one group: change members, remove. Pure. Only real changes are recorded; a membership that a source already
 * claims, or an exclusion that already stands, changes nothing.
 */
import { isDeepStrictEqual } from "node:util";
import {
  type ChangeGroupMembers,
  evolveMembership,
  type Projection,
  type RemoveGroup,
  type UserId,
} from "../../events/index.ts";
import { changed, type Performed, refused } from "./performed.ts";

export function changeGroupMembers(projection: Projection, command: ChangeGroupMembers): Performed {
  const { groupId, source } = command;
  const adding = new Set(command.added);
  const removing = new Set(command.removed);
  for (const userId of removing) {
    if (adding.has(userId)) return refused("invalid", "a person is both added and removed");
  }
  for (const userId of [...adding, ...removing]) {
    if (projection.user(userId) === undefined) return refused("not-found", `there is no user ${userId}`);
  }
  for (const userId of adding) {
    if (projection.user(userId)?.status === "erased") return refused("erased", `user ${userId} is erased`);
  }
  if (adding.size === 0 && projection.group(groupId) === undefined)
    return refused("not-found", "there is no such group");
  const changes = (userId: UserId, change: "added" | "removed"): boolean => {
    const before = projection.membership(userId, groupId);
    return !isDeepStrictEqual(before, evolveMembership(before, change, source));
  };
  const added = [...adding].filter((userId) => changes(userId, "added"));
  const removed = [...removing].filter((userId) => changes(userId, "removed"));
  if (added.length === 0 && removed.length === 0) return changed([]);
  return changed([{ type: "GroupMembersChanged", groupId, source, added, removed }]);
}

export function removeGroup(projection: Projection, { groupId }: RemoveGroup): Performed {
  if (projection.group(groupId) === undefined) return refused("not-found", "there is no such group");
  return changed([{ type: "GroupRemoved", groupId }]);
}
