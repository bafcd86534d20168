/** Erase user: destroys the key of a person's data. Erasure is final. Pure. */
import { parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { nothing, recordChanges } from "../performed.ts";
import { unknownUser } from "./refusals.ts";

export const eraseUser: CommandDefinition<"eraseUser"> = {
  schema: (fields) => ({ type: "eraseUser", userId: parseUserId(fields["userId"]) }),
  permission: ["operator"],
  tightens: true,
  access: ({ userId }) => ({ reads: [], writes: [userStream(userId)] }),
  perform(projection, { userId }) {
    const user = projection.user(userId);
    if (user === undefined) return unknownUser;
    if (user.status === "erased") return nothing;
    return recordChanges([{ type: "UserErased", userId }], {
      erasedKeys: [userId],
      vaultRemoved: projection.sessionsOf(userId),
    });
  },
};
