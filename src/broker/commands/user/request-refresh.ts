/**
 * Request refresh: an operator wants the identity provider to be asked about a person now. Only the leader's refresh
 * acts on it. Pure.
 */
import { logoutsFrom, parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";
import { erasedUser, unknownUser } from "./refusals.ts";

export const requestRefresh: CommandDefinition<"requestRefresh"> = {
  schema: (fields) => ({ type: "requestRefresh", userId: parseUserId(fields["userId"]) }),
  permission: ["operator"],
  access: ({ userId }) => ({ reads: [], writes: [userStream(userId)] }),
  perform(projection, { userId }, tools) {
    const user = projection.user(userId);
    if (user === undefined) return unknownUser;
    if (user.status === "erased") return erasedUser;
    const { level } = projection;
    if (level < logoutsFrom)
      return refuseCommand(
        "conflict",
        `the cluster is at level ${level}, and this needs level ${logoutsFrom}: run cardea cluster finalize`,
      );
    const live = projection.sessionsOf(userId).some((id) => projection.sessionStatus(id).status === "active");
    return live ? recordChanges([{ type: "UserRefreshRequested", userId, requestedAt: tools.now }]) : nothing;
  },
};
