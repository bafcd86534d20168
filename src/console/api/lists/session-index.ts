/**
 * Session index: the sessions of the projection by sign-in and by end.
 *
 * Its entries are hints: each is compared with the projection when it is read, and a session that has ended leaves by
 * being found wrong. Revoked sessions, which keep no sign-in, come first, by the position of their revocation.
 */
import { parseStream, type Session, type SessionId } from "../../../events/index.ts";
import { type IndexParts, KeptIndex } from "./kept-index.ts";
import { OrderedIds, type Place } from "./ordered-ids.ts";

export type SessionOrder = "issued" | "expires";

/** Before every time. */
const revokedBase = -1e15;
const endless = 9e15;
const staleMax = 20_000;

export class SessionListIndex {
  readonly #parts: IndexParts;
  readonly #index: KeptIndex<SessionId>;
  readonly #orders: Readonly<Record<SessionOrder, OrderedIds<number, SessionId>>> = {
    issued: new OrderedIds(),
    expires: new OrderedIds(),
  };

  constructor(parts: IndexParts) {
    this.#parts = parts;
    this.#index = new KeptIndex(parts, {
      *all() {
        for (const { sessionId } of parts.replica.projection.sessions()) yield sessionId;
      },
      *touchedBy({ touched }) {
        for (const stream of touched) {
          const parsed = parseStream(stream);
          if (parsed.kind === "session") yield parsed.id;
        }
      },
      read: (sessionId) => this.#read(sessionId),
      clear: () => {
        for (const order of Object.values(this.#orders)) order.clear();
      },
    });
  }

  async settled(): Promise<void> {
    const { sessions } = this.#parts.replica.projection.counts;
    if (this.#orders.issued.size > 1.5 * sessions + staleMax) this.#index.drop();
    await this.#index.settled();
  }

  /** The next entries, of which some are wrong: see `sessionAt`. */
  after(order: SessionOrder, place: Place<number, SessionId> | null, isDescending: boolean, count: number) {
    return this.#orders[order].after(place, isDescending, count);
  }

  sample(order: SessionOrder, count: number): readonly Place<number, SessionId>[] {
    return this.#orders[order].sample(count);
  }

  /** The session of an entry; undefined: the entry was wrong, and has left. */
  sessionAt(order: SessionOrder, { key, id }: Place<number, SessionId>): Session | undefined {
    const session = this.#parts.replica.projection.session(id);
    if (session !== undefined && sessionKey(order, session) === key) return session;
    this.#orders[order].delete(key, id);
    return undefined;
  }

  #read(sessionId: SessionId): void {
    const session = this.#parts.replica.projection.session(sessionId);
    if (session === undefined) return;
    this.#orders.issued.insert(sessionKey("issued", session), sessionId);
    this.#orders.expires.insert(sessionKey("expires", session), sessionId);
  }
}

export function sessionKey(order: SessionOrder, session: Session): number {
  if (order === "expires") return session.expiresAt ?? endless;
  return session.status === "active" ? session.issuedAt : revokedBase + session.revokedAt;
}
