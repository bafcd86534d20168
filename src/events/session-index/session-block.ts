/**
 * Session block: the columns of 16,384 sessions, and the bits of their flags. Pure.
 */
import { packedBytes } from "./packed-id.ts";

export const blockRecords = 1 << 14;
export const packedWords = packedBytes / 4;

/** Bits of a record's flags. The lowest two are the form of its id; 0: the id is stored as text. */
export const formMask = 0b11;
export const used = 0b100;
export const revoked = 0b1000;
export const endless = 0b1_0000;
/** A session object was built for a request and may be cached. */
export const maybeCached = 0b10_0000;

/** Packed ids of four words each; the flags contain their forms. */
export type IdBlock = Readonly<{ words: Uint32Array; flags: Uint8Array }>;

/** `place` is where the session was created, or revoked. */
export type SessionBlock = Readonly<{
  ids: Buffer;
  /** The same bytes, as four words per id. */
  words: Uint32Array;
  flags: Uint8Array;
  /** The string number of an active session's provider, or of a revoked session's reason. */
  word: Uint32Array;
  user: Uint32Array;
  profile: Uint32Array;
  next: Uint32Array;
  previous: Uint32Array;
  issuedAt: Float64Array;
  expiresAt: Float64Array;
  refreshedAt: Float64Array;
  position: Float64Array;
}>;

export function newBlock(): SessionBlock {
  const ids = new ArrayBuffer(blockRecords * packedBytes);
  const integers = () => new Uint32Array(blockRecords);
  const floats = () => new Float64Array(blockRecords);
  return {
    ids: Buffer.from(ids),
    words: new Uint32Array(ids),
    flags: new Uint8Array(blockRecords),
    word: integers(),
    user: integers(),
    profile: integers(),
    next: integers(),
    previous: integers(),
    issuedAt: floats(),
    expiresAt: floats(),
    refreshedAt: floats(),
    position: floats(),
  };
}
