/**
 * Revoke user sessions: ends all sessions of a person, permanently. Pure.
 *
 * A sign-in that began before is refused (record-logout.ts), so the command is recorded also where no session is live.
 */
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
    const user = projection.user(userId);
    if (user === undefined) return unknownUser;
    const live = projection.sessionsOf(userId).some((id) => projection.sessionStatus(id).status === "active");
    if (!live && user.status !== "active") return nothing; // the state of the person refuses every sign-in
    return recordChanges([{ type: "UserSessionsRevoked", userId, upTo: null, reason }], {
      vaultRemoved: projection.sessionsOf(userId),
    });
  },
};
