/**
 * Change group members: records real changes only. A membership that the source already claims, or an exclusion that
 * already exists, changes nothing. Pure.
 */
import { isDeepStrictEqual } from "node:util";
import {
  evolveMembership,
  groupStream,
  type Projection,
  parseGroupId,
  parseUserId,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import { listIn, parseMembershipSource } from "../fields.ts";
import { type Performed, recordChanges, refuseCommand } from "../performed.ts";
import { parseTimeBox, refuseEnd, timeBoxStream } from "../time-box.ts";

export const changeGroupMembers: CommandDefinition<"changeGroupMembers"> = {
  schema: (fields) => ({
    type: "changeGroupMembers",
    groupId: parseGroupId(fields["groupId"]),
    source: parseMembershipSource(fields["source"]),
    added: listIn(fields, "added").map(parseUserId),
    removed: listIn(fields, "removed").map(parseUserId),
    ...parseTimeBox(fields),
  }),
  permission: ["authenticate", "operator"],
  /** The identity provider's memberships are all that a sign-in knows of groups. */
  isPermitted: (role, { source }) => role !== "authenticate" || source === "idp",
  access: ({ groupId, added, removed, until }) => ({
    reads: [...added, ...removed].map(userStream),
    writes: [groupStream(groupId), ...(until === undefined ? [] : [timeBoxStream])],
  }),
  holdable: {
    subject: ({ groupId }) => groupStream(groupId),
    mayTake: ({ removed }) => removed.length > 0,
    people: ({ added, removed }) => ({ added, removed }),
    withPeople: (command, people) => ({ ...command, ...people }),
    atRelease: (command, projection) => ({ ...command, ...omitGonePeople(command, projection) }),
  },
  perform(projection, command, { now }) {
    const { groupId, source, until, reason } = command;
    const refusal = until === undefined ? undefined : refuseGrant(projection, command, { until, now });
    if (refusal !== undefined) return refusal;
    const adding = new Set(command.added);
    const removing = new Set(command.removed);
    for (const userId of removing) {
      if (adding.has(userId)) return refuseCommand("invalid", "a person is both added and removed");
    }
    for (const userId of [...adding, ...removing]) {
      if (projection.user(userId) === undefined) return refuseCommand("not-found", `there is no user ${userId}`);
    }
    for (const userId of adding) {
      if (projection.user(userId)?.status === "erased") return refuseCommand("erased", `user ${userId} is erased`);
    }
    if (adding.size === 0 && projection.group(groupId) === undefined)
      return refuseCommand("not-found", "there is no such group");
    const claim = until === undefined ? {} : { grant: { until, reason: reason ?? "" } };
    const changes = (userId: UserId, change: "added" | "removed"): boolean => {
      const before = projection.membership(userId, groupId);
      return !isDeepStrictEqual(before, evolveMembership(before, change, source, claim));
    };
    const added = [...adding].filter((userId) => changes(userId, "added"));
    const removed = [...removing].filter((userId) => changes(userId, "removed"));
    if (added.length === 0 && removed.length === 0) return recordChanges([]);
    const given = { ...(until === undefined ? {} : { until }), ...(reason === undefined ? {} : { reason }) };
    return recordChanges([{ type: "GroupMembersChanged", groupId, source, added, removed, ...given }]);
  },
};

function refuseGrant(
  projection: Projection,
  { groupId, source, added, removed, reason }: CommandOf<"changeGroupMembers">,
  end: Readonly<{ until: UnixMs; now: UnixMs }>,
): Performed | undefined {
  if (source !== "operator" || removed.length > 0)
    return refuseCommand("invalid", "only an addition by an operator has an end");
  if (reason === undefined || reason.trim() === "")
    return refuseCommand("invalid", "an addition that ends by itself needs a reason");
  const newOnes = [...new Set(added)].filter((id) => projection.membership(id, groupId)?.grant === undefined);
  return refuseEnd(projection, { ...end, added: newOnes.length });
}

/** Without people who are gone, or who can no longer be added. */
export function omitGonePeople(
  { added, removed }: Readonly<{ added: readonly UserId[]; removed: readonly UserId[] }>,
  projection: Projection,
): Readonly<{ added: readonly UserId[]; removed: readonly UserId[] }> {
  const statusOf = (userId: UserId) => projection.user(userId)?.status ?? "erased";
  return {
    added: added.filter((userId) => statusOf(userId) !== "erased"),
    removed: removed.filter((userId) => projection.user(userId) !== undefined),
  };
}
