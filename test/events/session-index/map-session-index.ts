/** A session index on a plain map, as the reference for the compact one. */
import type { Session, SessionId, SessionUse, UnixMs, UserId } from "../../../src/events/index.ts";
import type { SessionIndex } from "../../../src/events/session-index/session-index.ts";

export class MapSessionIndex implements SessionIndex {
  readonly #byId = new Map<SessionId, Session>();
  readonly #uses = new Map<SessionId, SessionUse>();
  readonly #byUser = new Map<UserId, Set<SessionId>>();

  get size(): number {
    return this.#byId.size;
  }
  get(id: SessionId): Session | undefined {
    return this.#byId.get(id);
  }
  cachedSession(id: SessionId): Session | undefined {
    return this.#byId.get(id);
  }
  forgetCached(): void {} // it makes no objects of its own

  set(session: Session): void {
    if (this.#byId.get(session.sessionId)?.userId !== session.userId) this.delete(session.sessionId);
    this.#byId.set(session.sessionId, session);
    if (session.status !== "active") this.#uses.delete(session.sessionId);
    if (session.userId === null) return;
    const ofUser = this.#byUser.get(session.userId);
    if (ofUser === undefined) this.#byUser.set(session.userId, new Set([session.sessionId]));
    else ofUser.add(session.sessionId);
  }
  delete(id: SessionId): void {
    const session = this.#byId.get(id);
    if (session === undefined) return;
    this.#byId.delete(id);
    this.#uses.delete(id);
    if (session.userId === null) return;
    const ofUser = this.#byUser.get(session.userId);
    ofUser?.delete(id);
    if (ofUser?.size === 0) this.#byUser.delete(session.userId);
  }
  ofUser(userId: UserId): readonly SessionId[] {
    return [...(this.#byUser.get(userId) ?? [])];
  }
  ofProviderSession(id: SessionId): readonly SessionId[] {
    return [...this.#byId.values()]
      .filter((session) => session.status === "active" && session.providerSession === id)
      .map(({ sessionId }) => sessionId);
  }
  get withoutUser(): number {
    return [...this.#byId.values()].filter(({ userId }) => userId === null).length;
  }
  useOf(id: SessionId): SessionUse | undefined {
    return this.#uses.get(id);
  }
  setUse(id: SessionId, use: SessionUse): void {
    if (this.#byId.get(id)?.status === "active") this.#uses.set(id, use);
  }
  unused(since: (idpId: string) => number, limit: number, counts: (session: Session) => boolean): SessionId[] {
    return [...this.#byId.values()]
      .filter((session) => {
        if (session.status !== "active") return false;
        const usedAt = Math.max(session.issuedAt, this.#uses.get(session.sessionId)?.seenAt ?? 0);
        return usedAt <= since(session.idpId) && counts(session);
      })
      .slice(0, limit)
      .map(({ sessionId }) => sessionId);
  }
  values(): IterableIterator<Session> {
    return this.#byId.values();
  }
  expired(now: UnixMs, limit: number): SessionId[] {
    const expired = [...this.#byId.values()].filter(({ expiresAt }) => expiresAt !== null && expiresAt <= now);
    return expired.slice(0, limit).map(({ sessionId }) => sessionId);
  }
  endless(): SessionId[] {
    return [...this.#byId.values()].filter(({ expiresAt }) => expiresAt === null).map(({ sessionId }) => sessionId);
  }
}
