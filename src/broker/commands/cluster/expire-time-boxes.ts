/**
 * Expire time boxes: records that memberships and suspensions have reached their ends, whatever the caller requested.
 * Pure.
 *
 * Nodes enforce the end of a membership by their own clocks before this event. A suspension ends only by it.
 */
import {
  type CardeaEvent,
  groupStream,
  hasServedSuspension,
  type Projection,
  parseGroupId,
  parseUserId,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn } from "../fields.ts";
import { recordChanges } from "../performed.ts";

/** One event stays far below the limit of a message; the sweep submits the rest again. */
const expiredAtOnceMax = 2_000;

export const expireMemberships: CommandDefinition<"expireMemberships"> = {
  schema: (fields) => ({
    type: "expireMemberships",
    groupId: parseGroupId(fields["groupId"]),
    userIds: listIn(fields, "userIds").map(parseUserId),
  }),
  permission: ["duty"],
  access: ({ groupId, userIds }) => ({ reads: [], writes: [groupStream(groupId), ...userIds.map(userStream)] }),
  perform(projection, { groupId, userIds: given }, { now }) {
    const userIds = [...new Set(given)]
      .filter((userId) => (projection.membership(userId, groupId)?.grant?.until ?? Number.POSITIVE_INFINITY) <= now)
      .slice(0, expiredAtOnceMax);
    return recordChanges(userIds.length === 0 ? [] : [{ type: "MembershipsExpired", groupId, userIds, at: now }]);
  },
};

export const expireSuspensions: CommandDefinition<"expireSuspensions"> = {
  schema: (fields) => ({ type: "expireSuspensions", userIds: listIn(fields, "userIds").map(parseUserId) }),
  permission: ["duty"],
  access: ({ userIds }) => ({ reads: [], writes: userIds.map(userStream) }),
  perform: (projection, { userIds }, { now }) =>
    recordChanges([...new Set(userIds)].flatMap((userId) => suspensionEnd(projection, userId, now))),
};

/** The event that lifts a suspension that has reached its end; empty: the person is not suspended, or still is. */
export function suspensionEnd(projection: Projection, userId: UserId, now: UnixMs): readonly CardeaEvent[] {
  return hasServedSuspension(projection.user(userId), now) ? [{ type: "SuspensionExpired", userId, at: now }] : [];
}
