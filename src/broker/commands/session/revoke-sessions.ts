/**
 * Revoke sessions: ends many sessions in one batch. Pure.
 *
 * Each session gets an event of its own, in its own stream, which every build obeys. Sessions that are already revoked
 * or gone are skipped: among thousands, some always are.
 */
import { type CardeaEvent, parseSessionId, sessionStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn, parseRevocationReason } from "../fields.ts";
import { recordChanges, refuseCommand } from "../performed.ts";

export const revokeSessions: CommandDefinition<"revokeSessions"> = {
  schema: (fields) => ({
    type: "revokeSessions",
    sessionIds: listIn(fields, "sessionIds").map(parseSessionId),
    reason: parseRevocationReason(fields["reason"]),
  }),
  permission: ["authenticate", "operator"],
  isPermitted: (role, { reason }) => role !== "authenticate" || reason === "identity-provider" || reason === "sign-out",
  tightens: true,
  access: ({ sessionIds }) => ({ reads: [], writes: sessionIds.map(sessionStream) }),
  perform(projection, { sessionIds, reason }) {
    const ids = [...new Set(sessionIds)];
    if (ids.length === 0) return refuseCommand("invalid", "no session is named");
    if (!ids.some((id) => projection.session(id) !== undefined))
      return refuseCommand("not-found", "there are no such sessions");
    const events: CardeaEvent[] = [];
    for (const sessionId of ids) {
      const at = projection.sessionStatus(sessionId);
      if (at.status === "active") events.push({ type: "SessionRevoked", sessionId, userId: at.session.userId, reason });
    }
    return recordChanges(events, { vaultRemoved: ids });
  },
};
