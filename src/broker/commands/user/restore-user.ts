/** Restore user: lifts a suspension. It brings back the person, not the old sessions. Pure. */
import { parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { nothing, recordChanges } from "../performed.ts";
import { erasedUser, unknownUser } from "./refusals.ts";

export const restoreUser: CommandDefinition<"restoreUser"> = {
  schema: (fields) => ({ type: "restoreUser", userId: parseUserId(fields["userId"]) }),
  permission: ["operator"],
  access: ({ userId }) => ({ reads: [], writes: [userStream(userId)] }),
  perform(projection, { userId }) {
    switch (projection.user(userId)?.status) {
      case undefined:
        return unknownUser;
      case "erased":
        return erasedUser;
      case "active":
        return nothing;
      case "suspended":
        return recordChanges([{ type: "UserRestored", userId }]);
    }
  },
};
