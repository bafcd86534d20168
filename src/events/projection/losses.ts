/** Losses: the people that lose a group by an event. Pure. */
import type { CardeaEvent } from "../catalog.ts";
import type { GroupId, UnixMs, UserId } from "../ids.ts";
import { evolveMembership, isMember, type Membership } from "./state.ts";

type Facts = Readonly<{
  membership: (userId: UserId, groupId: GroupId) => Membership | undefined;
  membersOf: (groupId: GroupId) => ReadonlySet<UserId>;
}>;

/**
 * @param facts the state before the event
 * @returns people who are no members afterwards. What is said of one person's groups does not count: a sign-in, a
 * refresh or the end of a person.
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
    default:
      return [];
  }
}
