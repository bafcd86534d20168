/** Suspend user: bars a person from signing in, and ends all sessions. Pure. */
import { parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { textOf } from "../fields.ts";
import { nothing, recordChanges } from "../performed.ts";
import { erasedUser, unknownUser } from "./refusals.ts";

export const suspendUser: CommandDefinition<"suspendUser"> = {
  schema: (fields) => ({
    type: "suspendUser",
    userId: parseUserId(fields["userId"]),
    reason: textOf(fields, "reason"),
  }),
  permission: ["operator"],
  tightens: true,
  access: ({ userId }) => ({ reads: [], writes: [userStream(userId)] }),
  perform(projection, { userId, reason }) {
    switch (projection.user(userId)?.status) {
      case undefined:
        return unknownUser;
      case "erased":
        return erasedUser;
      case "suspended":
        return nothing;
      case "active":
        return recordChanges([{ type: "UserSuspended", userId, reason }], {
          vaultRemoved: projection.sessionsOf(userId),
        });
    }
  },
};
