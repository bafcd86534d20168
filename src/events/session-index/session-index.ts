/**
 * SessionIndex: sessions by id and by user. One interface, so that a partial index can take the place of the whole one.
 */
import type { SessionId, UnixMs, UserId } from "../ids.ts";
import type { Session } from "../projection/state.ts";

/** What `flags` of columns say of a revoked session. */
export const columnFlags = { revoked: 1, endless: 2 } as const;

/** Ids: 16 bytes each where `forms` is not 0 (packed-id.ts), the others as text; both in the order of their rows. */
export type IdRows = Readonly<{ forms: Uint8Array; packed: Buffer; texts: readonly string[] }>;
export type ByteStrings = Readonly<{ count: number; get(at: number): Uint8Array }>;

/** Sessions as a snapshot holds them, a column for each field: a person's in the order in which they began. */
export type SessionColumns = Readonly<{
  count: number;
  ids: IdRows;
  /** The place in `people`, plus one; 0: nobody. */
  person: Uint32Array;
  people: readonly UserId[];
  flags: Uint8Array;
  /** The place in `words` of the provider of an active session, of the reason of a revoked one. */
  word: Uint32Array;
  words: readonly string[];
  issuedAt: Float64Array;
  expiresAt: Float64Array;
  refreshedAt: Float64Array;
  /** Where it was created, or revoked. */
  position: Float64Array;
  /** The place in `profiles`, plus one; of active sessions alone. */
  profile: Uint32Array;
  profiles: ByteStrings;
}>;

export type SessionIndex = {
  readonly size: number;
  get(id: SessionId): Session | undefined;
  /** As `get`; for the sessions asked about last it is the same object until something about them changes. */
  cachedSession(id: SessionId): Session | undefined;
  set(session: Session): void;
  delete(id: SessionId): void;
  /** In the order in which they came to be the user's. */
  ofUser(userId: UserId): readonly SessionId[];
  /** Up to so many that are past their own expiry. */
  expired(now: UnixMs, limit: number): SessionId[];
  /** Those without an expiry. */
  endless(): SessionId[];
  values(): IterableIterator<Session>;
};

/** One that can be filled from a snapshot. */
export type LoadableSessionIndex = SessionIndex & {
  /** So many are about to come. */
  expect(sessions: number): void;
  /**
   * Many at once, none of which is there.
   * @throws MalformedSnapshotError when columns do not agree; the index is of no use then
   */
  load(rows: SessionColumns): void;
};
