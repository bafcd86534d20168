/**
 * End idle sessions: ends those that began and were last used at or before a time, whatever the caller requested. Pure.
 *
 * Nodes refuse an idle session by their own clocks before this event. It is decided at the head, behind every report
 * that the leader has accepted, so a session that is in use again stays.
 */
import {
  activityFrom,
  activityStream,
  type CardeaEvent,
  parseSessionId,
  parseUnixMs,
  sessionStream,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn } from "../fields.ts";
import { nothing, recordChanges } from "../performed.ts";

/** Each is an event of its own. */
const endedAtOnceMax = 256;

export const endIdleSessions: CommandDefinition<"endIdleSessions"> = {
  schema: (fields) => ({
    type: "endIdleSessions",
    sessionIds: listIn(fields, "sessionIds").map(parseSessionId),
    unusedSince: parseUnixMs(fields["unusedSince"]),
  }),
  permission: ["duty"],
  access: ({ sessionIds }) => ({ reads: [activityStream], writes: sessionIds.map(sessionStream) }),
  perform(projection, { sessionIds, unusedSince }) {
    if (projection.level < activityFrom) return nothing;
    const events: CardeaEvent[] = [];
    for (const sessionId of new Set(sessionIds)) {
      const at = projection.sessionStatus(sessionId);
      if (at.status !== "active" || events.length >= endedAtOnceMax) continue;
      const usedAt = Math.max(at.session.issuedAt, projection.uses.of(sessionId)?.seenAt ?? 0);
      if (usedAt > unusedSince) continue;
      events.push({ type: "SessionRevoked", sessionId, userId: at.session.userId, reason: "idle" });
    }
    const ended = events.flatMap((event) => ("sessionId" in event ? [event.sessionId] : []));
    return events.length === 0 ? nothing : recordChanges(events, { vaultRemoved: ended });
  },
};
