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

const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** @param version the version nibble of the UUID, in the high half */
function formatUuid(b: Uint8Array, version: number): string {
  const h = (at: number): string => hexOf[b[at] ?? 0] ?? "";
  const six = hexOf[((b[6] ?? 0) & 0x0f) | version] ?? "";
  const eight = hexOf[((b[8] ?? 0) & 0x3f) | 0x80] ?? "";
  const start = `${h(0)}${h(1)}${h(2)}${h(3)}-${h(4)}${h(5)}-${six}${h(7)}-${eight}${h(9)}-`;
  return `${start}${h(10)}${h(11)}${h(12)}${h(13)}${h(14)}${h(15)}`;
}

/**
 * Whether a session began with a bearer token: its id is derived from the token, so it is a version 8 UUID. Those of
 * sign-ins are random.
 */
export function isTokenSession(sessionId: SessionId): boolean {
  return sessionId.length === 36 && sessionId.charCodeAt(14) === 0x38;
}
