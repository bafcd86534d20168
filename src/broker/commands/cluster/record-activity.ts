/**
 * Record activity: when sessions were last used on a node. Pure.
 *
 * - A time is never later than the leader's own, so no clock makes a session look used in the future. A pause is never
 *   longer than the session is old.
 * - Reports that add little are dropped: several nodes may serve one session, and a report may arrive twice.
 * - Below level 5 it is refused: each node then knows only its own requests (docs/identity.md).
 */
import {
  activityFrom,
  activityStream,
  parseSessionId,
  parseUnixMs,
  type SeenSession,
  type SessionId,
  seenAtOnceMax,
  sessionStream,
  type UnixMs,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { fieldsOf, integerOf, listIn, MalformedCommandError } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";

/** A session's time moves by at least this, so a caller cannot make it move with each request. */
export const advanceMsMin = 2_000;

export const recordActivity: CommandDefinition<"recordActivity"> = {
  schema(fields) {
    const rows = listIn(fields, "seen");
    if (rows.length > seenAtOnceMax) throw new MalformedCommandError(`seen is not a list of at most ${seenAtOnceMax}`);
    return {
      type: "recordActivity",
      seen: rows.map((row) => {
        const one = fieldsOf(row, "seen");
        return {
          sessionId: parseSessionId(one["sessionId"]),
          seenAt: parseUnixMs(one["seenAt"]),
          pauseMs: integerOf(one, "pauseMs", { min: 0, max: Number.MAX_SAFE_INTEGER }),
        };
      }),
    };
  },
  permission: ["proxy", "authorize", "authenticate"],
  access: ({ seen }) => ({ reads: seen.map(({ sessionId }) => sessionStream(sessionId)), writes: [activityStream] }),
  perform(projection, { seen }, { now }) {
    const { level } = projection;
    if (level < activityFrom)
      return refuseCommand(
        "conflict",
        `the cluster is at level ${level}, and idle lifetimes need level ${activityFrom}: run cardea cluster finalize`,
      );
    const rows = new Map<SessionId, SeenSession>();
    for (const row of seen) {
      const before = rows.get(row.sessionId) ?? projection.uses.of(row.sessionId);
      const at = projection.sessionStatus(row.sessionId);
      if (at.status !== "active" || at.session.expiresAt <= now) continue;
      const seenAt = Math.min(row.seenAt, now) as UnixMs;
      const isNews = seenAt - Math.max(before?.seenAt ?? 0, at.session.issuedAt) >= advanceMsMin;
      const pauseMs = Math.min(row.pauseMs, Math.max(0, now - at.session.issuedAt));
      if (!isNews && pauseMs <= (before?.pauseMs ?? 0)) continue;
      rows.set(row.sessionId, {
        sessionId: row.sessionId,
        seenAt: Math.max(seenAt, before?.seenAt ?? 0) as UnixMs,
        pauseMs: Math.max(pauseMs, before?.pauseMs ?? 0),
      });
    }
    if (rows.size === 0) return nothing;
    const all = [...rows.values()];
    return recordChanges([
      {
        type: "SessionsSeen",
        sessionIds: all.map(({ sessionId }) => sessionId),
        seenAt: all.map(({ seenAt }) => seenAt),
        pauseMs: all.map(({ pauseMs }) => pauseMs),
      },
    ]);
  },
};
