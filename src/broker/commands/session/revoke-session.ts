/** Revoke session: ends one session. Pure. */
import { parseSessionId, sessionStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { parseRevocationReason } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";

export const revokeSession: CommandDefinition<"revokeSession"> = {
  schema: (fields) => ({
    type: "revokeSession",
    sessionId: parseSessionId(fields["sessionId"]),
    reason: parseRevocationReason(fields["reason"]),
  }),
  permission: ["authenticate", "operator", "duty"],
  tightens: true,
  access: ({ sessionId }) => ({ reads: [], writes: [sessionStream(sessionId)] }),
  perform(projection, { sessionId, reason }) {
    const session = projection.session(sessionId);
    if (session === undefined) return refuseCommand("not-found", "there is no such session");
    if (session.status === "revoked" || projection.sessionStatus(sessionId).status === "revoked") return nothing;
    return recordChanges([{ type: "SessionRevoked", sessionId, userId: session.userId, reason }], {
      vaultRemoved: [sessionId],
    });
  },
};
