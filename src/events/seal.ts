/**
 * Seal: encryption of personal data under a key per person. Pure: nonces and keys are arguments.
 *
 * - A sealed value is `key id (8) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)`. The user id is the associated
 *   data, so a value that is copied to another person does not open.
 * - A nonce is 12 random bytes and is never used twice with one key.
 * - The key is stored beside the log, never in it, wrapped under a key derived from the cluster's secret. Deleting it
 *   erases the person from every copy of the log.
 */

import { createCipheriv, createDecipheriv } from "node:crypto";
import { CodedError } from "./coded-error.ts";
import type { Sealed } from "./entities/user-events.ts";
import type { CommandId, UserId } from "./ids.ts";
import { decode, encode } from "./messagepack.ts";

const keyIdBytes = 8;
const nonceBytes = 12;
const tagBytes = 16;

/** A person's key in clear, in memory only. */
export type PersonKey = Readonly<{ userId: UserId; keyId: Uint8Array; key: Uint8Array }>;
/** A person's key as it is stored and sent. `wrapped`: `nonce ‖ ciphertext ‖ tag` under the cluster's wrapping key. */
export type WrappedKey = Readonly<{ userId: UserId; keyId: Uint8Array; wrapped: Uint8Array }>;

export class SealError extends CodedError<"ERR_EVENTS_SEAL"> {
  override readonly code = "ERR_EVENTS_SEAL";
}

/** Encrypts a value of plain data for one person. */
export function seal(value: unknown, person: PersonKey, nonce: Uint8Array): Sealed {
  return Buffer.concat([person.keyId, encrypt(encode(value), person.key, nonce, person.userId)]);
}

/** @throws SealError if it was sealed with another key, or a byte was changed */
export function open(sealed: Sealed, person: PersonKey): unknown {
  const keyId = sealed.subarray(0, keyIdBytes);
  if (Buffer.compare(keyId, person.keyId) !== 0) throw new SealError("sealed with another key");
  return decode(decrypt(sealed.subarray(keyIdBytes), person.key, person.userId));
}

const requestWords = "access request";

/** What was written about an access request. It opens for that request alone. */
export function sealRequestWords(
  text: string,
  { requestId, person, nonce }: Readonly<{ requestId: CommandId; person: PersonKey; nonce: Uint8Array }>,
): Sealed {
  return seal([requestWords, requestId, text], person, nonce);
}

/** @throws SealError if it was sealed with another key or for another request, or a byte was changed */
export function openRequestWords(sealed: Sealed, requestId: CommandId, person: PersonKey): string {
  const parts = open(sealed, person);
  if (!Array.isArray(parts) || parts[0] !== requestWords || parts[1] !== requestId || typeof parts[2] !== "string")
    throw new SealError("no words about this access request");
  return parts[2];
}

export function wrapKey(person: PersonKey, wrappingKey: Uint8Array, nonce: Uint8Array): WrappedKey {
  const wrapped = encrypt(person.key, wrappingKey, nonce, wrapAad(person.userId, person.keyId));
  return { userId: person.userId, keyId: person.keyId, wrapped };
}

/** @throws SealError if it was wrapped for another person or under another secret */
export function unwrapKey(wrapped: WrappedKey, wrappingKey: Uint8Array): PersonKey {
  const key = decrypt(wrapped.wrapped, wrappingKey, wrapAad(wrapped.userId, wrapped.keyId));
  return { userId: wrapped.userId, keyId: wrapped.keyId, key };
}

function wrapAad(userId: UserId, keyId: Uint8Array): Uint8Array {
  return encode(["wrapped person key", userId, keyId]);
}

function encrypt(plain: Uint8Array, key: Uint8Array, nonce: Uint8Array, aad: string | Uint8Array): Uint8Array {
  if (nonce.length !== nonceBytes) throw new SealError(`a nonce is ${nonceBytes} bytes`);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(aad));
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(bytes: Uint8Array, key: Uint8Array, aad: string | Uint8Array): Uint8Array {
  if (bytes.length < nonceBytes + tagBytes) throw new SealError("too short to be sealed");
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, nonceBytes));
  decipher.setAAD(Buffer.from(aad));
  decipher.setAuthTag(bytes.subarray(bytes.length - tagBytes));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, bytes.length - tagBytes)), decipher.final()]);
  } catch (cause) {
    throw new SealError("does not open with this key", { cause });
  }
}
