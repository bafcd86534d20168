/** Expire sessions: removes sessions that are past their own expiry, whatever the caller requested. Pure. */
import { parseSessionId, sessionStream, sweepStream } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn } from "../fields.ts";
import { recordChanges } from "../performed.ts";

/** One event stays far below the limit of a message; the sweep submits the rest again. */
const expiredAtOnceMax = 2_000;

export const expireSessions: CommandDefinition<"expireSessions"> = {
  schema: (fields) => ({ type: "expireSessions", sessionIds: listIn(fields, "sessionIds").map(parseSessionId) }),
  permission: ["duty"],
  access: ({ sessionIds }) => ({ reads: [], writes: [sweepStream, ...sessionIds.map(sessionStream)] }),
  perform(projection, command, tools) {
    const isExpired = (expiresAt: number | null | undefined) => typeof expiresAt === "number" && expiresAt <= tools.now;
    const sessionIds = [...new Set(command.sessionIds)]
      .filter((id) => isExpired(projection.session(id)?.expiresAt))
      .slice(0, expiredAtOnceMax);
    if (sessionIds.length === 0) return recordChanges([]);
    return recordChanges([{ type: "SessionsExpired", sessionIds }], { vaultRemoved: sessionIds });
  },
};
