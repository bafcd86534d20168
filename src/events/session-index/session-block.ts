/**
 * Session block: the columns of 16,384 sessions, and what their flags mean. Pure.
 */
import { packedBytes } from "./packed-id.ts";

export const blockRecords = 1 << 14;
export const packedWords = packedBytes / 4;

/** Bits of a record's flags; the lowest two are the form of its id, 0 where the id is kept as text. */
export const formMask = 0b11;
export const used = 0b100;
export const revoked = 0b1000;
export const endless = 0b1_0000;
/** It was put together for a request and may be kept so. */
export const maybeCached = 0b10_0000;

/** Packed ids, four words each, and their forms among the flags. */
export type IdBlock = Readonly<{ words: Uint32Array; flags: Uint8Array }>;

/** `place` is where the session was created, or revoked. */
export type SessionBlock = Readonly<{
  ids: Buffer;
  /** The same bytes, four words an id. */
  words: Uint32Array;
  flags: Uint8Array;
  /** The provider of an active session, the reason of a revoked one. */
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
  const whole = () => new Uint32Array(blockRecords);
  const real = () => new Float64Array(blockRecords);
  return {
    ids: Buffer.from(ids),
    words: new Uint32Array(ids),
    flags: new Uint8Array(blockRecords),
    ...{ word: whole(), user: whole(), profile: whole(), next: whole(), previous: whole() },
    ...{ issuedAt: real(), expiresAt: real(), refreshedAt: real(), position: real() },
  };
}
