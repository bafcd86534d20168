/** Revoke user sessions: ends all sessions of a person, permanently. Pure. */
import { parseUserId, userStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { parseRevocationReason } from "../fields.ts";
import { nothing, recordChanges } from "../performed.ts";
import { unknownUser } from "./refusals.ts";

export const revokeUserSessions: CommandDefinition<"revokeUserSessions"> = {
  schema: (fields) => ({
    type: "revokeUserSessions",
    userId: parseUserId(fields["userId"]),
    reason: parseRevocationReason(fields["reason"]),
  }),
  permission: ["authenticate", "operator"],
  tightens: true,
  access: ({ userId }) => ({ reads: [], writes: [userStream(userId)] }),
  perform(projection, { userId, reason }) {
    if (projection.user(userId) === undefined) return unknownUser;
    const live = projection.sessionsOf(userId).some((id) => projection.sessionStatus(id).status === "active");
    if (!live) return nothing;
    return recordChanges([{ type: "UserSessionsRevoked", userId, upTo: null, reason }], {
      vaultRemoved: projection.sessionsOf(userId),
    });
  },
};
