/** Derived ids: UUIDs and hashes that follow from random bytes or from another hash. Pure. */
import { hash as digestOf } from "node:crypto";
import type { CommandId, EventId, Hash, SessionId, UserId } from "./ids.ts";
import { encode } from "./messagepack.ts";

/** Formats 16 random bytes, which the caller supplies, as a version 4 UUID. */
export function uuidFromBytes(random: Uint8Array): EventId {
  return formatUuid(random, 0x40) as EventId;
}

/** As `uuidFromBytes`, for a command. */
export function commandIdFromBytes(random: Uint8Array): CommandId {
  return formatUuid(random, 0x40) as CommandId;
}

const reassertion = Buffer.from("cardea reassertion", "utf8");

/** The command id under which a lost event is recorded again: a version 8 UUID that follows from its hash alone. */
export function uuidOfHash(lost: Hash): CommandId {
  const digest = digestOf("sha256", Buffer.concat([reassertion, Buffer.from(lost, "hex")]), "buffer");
  return formatUuid(digest, 0x80) as CommandId;
}

const localRevocation = Buffer.from("cardea local revocation", "utf8");

/** A command id that follows from the signed bytes of a local revocation: a version 8 UUID. */
export function commandIdOfEnvelope(envelope: Uint8Array): CommandId {
  const digest = digestOf("sha256", Buffer.concat([localRevocation, envelope]), "buffer");
  return formatUuid(digest, 0x80) as CommandId;
}

const endedSession = Buffer.from("cardea ended session", "utf8");

/** The hash that stands for the end of one session by an event about its user. Equal on every node. */
export function endedSessionHash(event: Hash, sessionId: SessionId): Hash {
  const id = Buffer.from(sessionId, "utf8");
  return digestOf("sha256", Buffer.concat([endedSession, Buffer.from(event, "hex"), id]), "hex") as Hash;
}

/** The id of a provider's own session (the `sid` of its tokens): a version 8 UUID. It reveals neither part. */
export function providerSessionId(issuer: string, sid: string): SessionId {
  return formatUuid(digestOfParts("cardea provider session", issuer, sid), 0x80) as SessionId;
}

/** The id under which a logout of all of a person's sessions at their provider is recorded. */
export function personLogoutId(userId: UserId): SessionId {
  return formatUuid(digestOfParts("cardea person logout", userId), 0x80) as SessionId;
}

/**
 * The command id of a logout token: a repeated token is the same command. Two logouts to which a provider gave one
 * `jti` are still two commands.
 */
export function logoutCommandId(issuer: string, jti: string, about: Readonly<{ sid: string; sub: string }>): CommandId {
  return formatUuid(digestOfParts("cardea logout token", issuer, jti, about.sid, about.sub), 0x80) as CommandId;
}

function digestOfParts(...parts: readonly string[]): Uint8Array {
  return digestOf("sha256", encode(parts), "buffer");
}

const hexDigits = Buffer.from("0123456789abcdef", "latin1");
/** The offset of each byte in the text of a UUID. */
const uuidDigits = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/** The text, written in place: a joined string would be copied once more by its first reader. */
const uuidText = Buffer.from("00000000-0000-0000-0000-000000000000", "latin1");

/** @param version the version nibble of the UUID, in the high half */
function formatUuid(b: Uint8Array, version: number): string {
  for (let n = 0; n < uuidDigits.length; n += 1) {
    let byte = b[n] ?? 0;
    if (n === 6) byte = (byte & 0x0f) | version;
    else if (n === 8) byte = (byte & 0x3f) | 0x80;
    const at = uuidDigits[n] ?? 0;
    uuidText[at] = hexDigits[byte >>> 4] ?? 0;
    uuidText[at + 1] = hexDigits[byte & 0x0f] ?? 0;
  }
  return uuidText.toString("latin1");
}

/**
 * Whether a session began with a bearer token: its id is derived from the token, so it is a version 8 UUID. Those of
 * sign-ins are random.
 */
export function isTokenSession(sessionId: SessionId): boolean {
  return sessionId.length === 36 && sessionId.charCodeAt(14) === 0x38;
}
