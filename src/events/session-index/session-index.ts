/**
 * Session index: sessions by id and by user. An interface, so that another index can replace the compact one.
 */
import type { SessionId, UnixMs, UserId } from "../ids.ts";
import type { Session } from "../projection/state.ts";
import type { SessionUse } from "./seen-times.ts";

/** Bits of `SessionColumns.flags`. */
export const columnFlags = { revoked: 1, endless: 2 } as const;

/** Ids in the order of their rows: 16 bytes each where `forms` is not 0 (packed-id.ts), the others as text. */
export type IdRows = Readonly<{ forms: Uint8Array; packed: Buffer; texts: readonly string[] }>;
export type ByteStrings = Readonly<{ count: number; get(at: number): Uint8Array }>;

/** Sessions of a snapshot, with a column per field. Those of one person are in the order of their creation. */
export type SessionColumns = Readonly<{
  count: number;
  ids: IdRows;
  /** Index in `people` plus one; 0: no user is known. */
  person: Uint32Array;
  people: readonly UserId[];
  flags: Uint8Array;
  /** Index in `words` of an active session's provider, or of a revoked session's reason. */
  word: Uint32Array;
  words: readonly string[];
  issuedAt: Float64Array;
  expiresAt: Float64Array;
  refreshedAt: Float64Array;
  /** The position of the creation of an active session, of the revocation of a revoked one. */
  position: Float64Array;
  /** Index in `profiles` plus one; 0: a revoked session. */
  profile: Uint32Array;
  profiles: ByteStrings;
  /** The rows, in ascending order, of sessions with a provider's session, and its id. */
  providerSessions: Readonly<{ rows: Uint32Array; ids: IdRows }>;
  /** The rows, in ascending order, of active sessions whose use is known. */
  seen: Readonly<{ rows: Uint32Array; seenAt: Float64Array; pauseMs: Float64Array }>;
}>;

export type SessionIndex = {
  readonly size: number;
  get(id: SessionId): Session | undefined;
  /** As `get`, but for recently requested sessions the same object until they change. */
  cachedSession(id: SessionId): Session | undefined;
  /** Drops the cached object of a session, and with it everything that others keep for that object. */
  forgetCached(id: SessionId): void;
  /** A revoked session loses what is known of its use. */
  set(session: Session): void;
  /** When the session was last used; undefined: not known. */
  useOf(id: SessionId): SessionUse | undefined;
  /** No effect unless the session is active. The session object stays the same. */
  setUse(id: SessionId, use: SessionUse): void;
  /**
   * Active sessions that began and were last used at or before a time, at most `limit`.
   * @param since the time for sessions of a provider
   * @param counts whether the session is one of them
   */
  unused(since: (idpId: string) => number, limit: number, counts: (session: Session) => boolean): SessionId[];
  delete(id: SessionId): void;
  /** In the order in which they became the user's. */
  ofUser(userId: UserId): readonly SessionId[];
  /** Active sessions that name this session of their provider. */
  ofProviderSession(id: SessionId): readonly SessionId[];
  /** The number of tombstones that name no user. */
  readonly withoutUser: number;
  /** Expired sessions, at most `limit`. */
  expired(now: UnixMs, limit: number): SessionId[];
  /** Revoked sessions without an expiry. */
  endless(): SessionId[];
  values(): IterableIterator<Session>;
};

/** An index that can be filled from a snapshot. */
export type LoadableSessionIndex = SessionIndex & {
  /** Reserves room for this many sessions. */
  expect(sessions: number): void;
  /**
   * Adds many sessions, none of which is in the index yet.
   * @throws MalformedSnapshotError if the columns are inconsistent; the index is then unusable
   */
  load(rows: SessionColumns): void;
};
