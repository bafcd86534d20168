/** Losses: the people that lose a group by an event. Pure. */
import type { CardeaEvent } from "../catalog.ts";
import type { GroupId, UnixMs, UserId } from "../ids.ts";
import { evolveMembership, isMember, type Membership } from "./state.ts";

type Facts = Readonly<{
  membership: (userId: UserId, groupId: GroupId) => Membership | undefined;
  memberships: (userId: UserId) => ReadonlyMap<GroupId, Membership>;
  membersOf: (groupId: GroupId) => ReadonlySet<UserId>;
}>;

/**
 * @param facts the state before the event
 * @returns people who are no members afterwards. The complete groups of one person count where a directory lists them:
 * a sign-in or a refresh speaks of that person alone.
 */
export function lossesOf(facts: Facts, event: CardeaEvent, now: UnixMs): readonly UserId[] {
  const isIn = (membership: Membership | undefined): boolean => isMember(membership, now);
  switch (event.type) {
    case "GroupMembersChanged": {
      const { groupId, source } = event;
      return event.removed.filter((userId) => {
        const before = facts.membership(userId, groupId);
        return isIn(before) && !isIn(evolveMembership(before, "removed", source));
      });
    }
    case "GroupRemoved":
      return [...facts.membersOf(event.groupId)].filter((userId) => isIn(facts.membership(userId, event.groupId)));
    case "UserGroupsReplaced": {
      if (event.source !== "directory") return [];
      const wanted = new Set(event.groupIds);
      const loses = [...facts.memberships(event.userId)].some(
        ([groupId, before]) =>
          !wanted.has(groupId) && isIn(before) && !isIn(evolveMembership(before, "removed", "directory")),
      );
      return loses ? [event.userId] : [];
    }
    default:
      return [];
  }
}
