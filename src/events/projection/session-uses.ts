/**
 * Session uses: when the sessions of a projection were last used, as nodes have reported it. Pure.
 *
 * The times are beside the session objects, so a report changes no object that decisions cache.
 */

import { isTokenSession } from "../derived-ids.ts";
import type { SessionId, UnixMs, UserId } from "../ids.ts";
import type { SeenSession, SessionsSeen } from "../session-events.ts";
import { latestUse, type SessionUse } from "../session-index/seen-times.ts";
import type { SessionIndex } from "../session-index/session-index.ts";
import type { Session, User } from "./state.ts";

type Parts = Readonly<{
  sessions: SessionIndex;
  userOf: (userId: UserId) => User | undefined;
  /** Changes the digest. */
  replace: (kind: string, before: object | undefined, after: object | undefined) => void;
  /** Called before the use of a session changes. */
  preserve: (session: Session) => void;
}>;

export class SessionUses {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Undefined: the log knows nothing of it. */
  of(sessionId: SessionId): SessionUse | undefined {
    return this.#parts.sessions.useOf(sessionId);
  }

  evolve({ sessionIds, seenAt, pauseMs }: SessionsSeen): void {
    for (const [at, sessionId] of sessionIds.entries())
      this.#put({ sessionId, seenAt: seenAt[at] ?? (0 as UnixMs), pauseMs: pauseMs[at] ?? 0 });
  }

  /** Both numbers only grow, so the order of reports does not matter. */
  #put({ sessionId, seenAt, pauseMs }: SeenSession): void {
    const { sessions, replace, preserve } = this.#parts;
    const session = sessions.get(sessionId);
    if (session?.status !== "active") return;
    const before = sessions.useOf(sessionId);
    const use = latestUse(before, { seenAt, pauseMs });
    if (use === before) return;
    preserve(session);
    replace("use", formOf(sessionId, before), formOf(sessionId, use));
    sessions.setUse(sessionId, use);
  }

  /** Called before the session is revoked or removed. */
  forget(sessionId: SessionId): void {
    this.#parts.replace("use", formOf(sessionId, this.#parts.sessions.useOf(sessionId)), undefined);
  }

  /** For `recomputedDigest`. */
  *forms(): Generator<object | undefined> {
    const { sessions } = this.#parts;
    for (const { sessionId } of sessions.values()) yield formOf(sessionId, sessions.useOf(sessionId));
  }

  /** Sessions of sign-ins that began and were last used at or before a time, for the sweep. */
  unused(since: (idpId: string) => number, limit: number): SessionId[] {
    return this.#parts.sessions.unused(
      since,
      limit,
      (session) => !isTokenSession(session.sessionId) && session.status === "active" && !this.#isCut(session),
    );
  }

  /** Revoked, although only by an event about its user. */
  #isCut({ userId, createdAt }: Extract<Session, { status: "active" }>): boolean {
    const user = this.#parts.userOf(userId);
    return user !== undefined && (user.status !== "active" || createdAt < user.sessionsRevokedBelow);
  }
}

function formOf(sessionId: SessionId, use: SessionUse | undefined): object | undefined {
  return use === undefined ? undefined : { sessionId, seenAt: use.seenAt, pauseMs: use.pauseMs };
}
