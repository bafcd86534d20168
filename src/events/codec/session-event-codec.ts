/**
 * Session event codec: a fast reader for the most frequent events, those of one session. Pure.
 *
 * - It reads exactly the bytes that brokers write and gives the same result as the codec, in a fraction of the time.
 * - Anything else is left to the codec, errors included: another type, version or order of fields, a character that is
 *   not ASCII, trailing bytes.
 */

import type { Effect, Recorded, SessionCreated, SessionRefreshed } from "../catalog.ts";
import type { CommandId, Epoch, EventId, Hash, Position, SessionId, UnixMs, UserId } from "../ids.ts";
import type { RevocationReason, SessionRevoked } from "../session-events.ts";

const ascii = (text: string): Uint8Array => Buffer.from(text, "latin1");
/** A string of fewer than 32 ASCII characters in MessagePack. */
const short = (text: string): Uint8Array => Buffer.concat([Buffer.of(0xa0 | text.length), ascii(text)]);
/** Type, version and effect, which follow each other. */
const kind = (type: string, effect: Effect, version = 1): Uint8Array =>
  Buffer.concat([short(type), Buffer.of(version), short(effect)]);
const kinds = {
  created: kind("SessionCreated", "either", 2),
  createdBefore: kind("SessionCreated", "either", 1),
  refreshed: kind("SessionRefreshed", "either"),
  revoked: kind("SessionRevoked", "tightens"),
};
const bodyOf = (fields: number): Uint8Array => Buffer.concat([Buffer.of(0x80 | fields), short("sessionId")]);
const bodies = { created: bodyOf(6), linked: bodyOf(7), refreshed: bodyOf(4), revoked: bodyOf(3) };
const names = {
  userId: short("userId"),
  idpId: short("idpId"),
  issuedAt: short("issuedAt"),
  expiresAt: short("expiresAt"),
  profile: short("profile"),
  refreshedAt: short("refreshedAt"),
  reason: short("reason"),
  providerSession: short("providerSession"),
};
const streamStart = ascii("session:");

export const uuidLength = 36;
const digit = 1;
const dash = 2;
/** The kind of each character of a UUID, as in `uuidLetters`. */
export const uuidPattern = Uint8Array.from({ length: uuidLength }, (_, at) =>
  [8, 13, 18, 23].includes(at) ? dash : digit,
);
/** The kind of each character in a UUID; 0: it is in none. */
export const uuidLetters = new Uint8Array(256);
for (const letter of ascii("0123456789abcdef")) uuidLetters[letter] = digit;
uuidLetters["-".charCodeAt(0)] = dash;

/** Not a value that this reader supports. */
const unsupported = -1;

export class SessionEventReader {
  readonly #source: Buffer;
  readonly #view: DataView;
  #at = 0;
  #end = 0;
  /** Strings that are nearly always equal to those of the event before. */
  #actor = "";
  #idpId = "";
  #reason = "";
  /** The version of the body that comes next. */
  #bodyVersion = 1;

  /** @param source holds the bytes of each event, followed by some spare room */
  constructor(source: Buffer) {
    this.#source = source;
    this.#view = new DataView(source.buffer, source.byteOffset, source.length);
  }

  /**
   * @param from offset of the event in the source
   * @param bytes the same event as it was received; the profile becomes a view of these
   * @returns undefined if the codec has to read it
   */
  read(from: number, bytes: Uint8Array, hash: Hash): Recorded | undefined {
    this.#at = from + 1;
    this.#end = from + bytes.length;
    if (this.#source[from] !== 0x9c) return undefined;
    const epoch = this.#number() as Epoch;
    const position = this.#number() as Position;
    const eventId = this.#uuid() as EventId | undefined;
    if (epoch < 0 || position < 0 || eventId === undefined) return undefined;
    const idLength = this.#length() - streamStart.length;
    if (idLength <= 0 || !this.#accept(streamStart)) return undefined;
    const idAt = this.#at;
    const sessionId = this.#ascii(idLength) as SessionId | undefined;
    const version = this.#number();
    if (sessionId === undefined || version < 0) return undefined;
    const type = this.#type();
    if (type === undefined) return undefined;
    const recordedAt = this.#number() as UnixMs;
    const actor = this.#textLike(this.#actor);
    const cause = this.#cause();
    if (recordedAt < 0 || actor === undefined || cause === undefined) return undefined;
    this.#actor = actor;
    const event = this.#event(type, { sessionId, idAt, idLength, from, bytes });
    if (event === undefined || this.#at !== this.#end) return undefined;
    return {
      epoch,
      position,
      hash,
      eventId,
      stream: `session:${sessionId}`,
      version,
      type,
      schemaVersion: this.#bodyVersion,
      effect: type === "SessionRevoked" ? "tightens" : "either",
      recordedAt,
      actor,
      cause,
      event,
    };
  }

  #type(): "SessionCreated" | "SessionRefreshed" | "SessionRevoked" | undefined {
    this.#bodyVersion = 2;
    if (this.#accept(kinds.created)) return "SessionCreated";
    this.#bodyVersion = 1;
    if (this.#accept(kinds.createdBefore)) return "SessionCreated";
    if (this.#accept(kinds.revoked)) return "SessionRevoked";
    return this.#accept(kinds.refreshed) ? "SessionRefreshed" : undefined;
  }

  #cause(): CommandId | null | undefined {
    if (this.#source[this.#at] !== 0xc0) return this.#ascii(this.#length()) as CommandId | undefined;
    this.#at += 1;
    return null;
  }

  #event(
    type: "SessionCreated" | "SessionRefreshed" | "SessionRevoked",
    of: Readonly<{ sessionId: SessionId; idAt: number; idLength: number; from: number; bytes: Uint8Array }>,
  ): SessionCreated | SessionRefreshed | SessionRevoked | undefined {
    const { sessionId, from, bytes } = of;
    const body =
      type === "SessionCreated" ? bodies.created : type === "SessionRevoked" ? bodies.revoked : bodies.refreshed;
    const isLinked = type === "SessionCreated" && this.#bodyVersion > 1 && this.#accept(bodies.linked);
    if (
      (!isLinked && !this.#accept(body)) ||
      this.#length() !== of.idLength ||
      !this.#acceptRepeat(of.idAt, of.idLength)
    )
      return undefined;
    if (!this.#accept(names.userId)) return undefined;
    const userId = this.#ascii(this.#length()) as UserId | undefined;
    if (userId === undefined) return undefined;
    if (type === "SessionRevoked") {
      const reason = this.#accept(names.reason)
        ? (this.#textLike(this.#reason) as RevocationReason | undefined)
        : undefined;
      if (reason === undefined) return undefined;
      this.#reason = reason;
      return { type, sessionId, userId, reason };
    }
    if (type === "SessionRefreshed") {
      const profile = this.#accept(names.profile) ? this.#binary(from, bytes) : undefined;
      const refreshedAt = (this.#accept(names.refreshedAt) ? this.#number() : unsupported) as UnixMs;
      return profile === undefined || refreshedAt < 0 ? undefined : { type, sessionId, userId, profile, refreshedAt };
    }
    const idpId = this.#accept(names.idpId) ? this.#textLike(this.#idpId) : undefined;
    const issuedAt = (this.#accept(names.issuedAt) ? this.#number() : unsupported) as UnixMs;
    const expiresAt = (this.#accept(names.expiresAt) ? this.#number() : unsupported) as UnixMs;
    const profile = this.#accept(names.profile) ? this.#binary(from, bytes) : undefined;
    if (idpId === undefined || issuedAt < 0 || expiresAt < 0 || profile === undefined) return undefined;
    this.#idpId = idpId;
    if (!isLinked) return { type, sessionId, userId, idpId, issuedAt, expiresAt, profile };
    const providerSession = (this.#accept(names.providerSession) ? this.#uuid() : undefined) as SessionId | undefined;
    if (providerSession === undefined) return undefined;
    return { type, sessionId, userId, idpId, issuedAt, expiresAt, profile, providerSession };
  }

  /** Skips these bytes if they come next. */
  #accept(expected: Uint8Array): boolean {
    const source = this.#source;
    const at = this.#at;
    for (let n = 0; n < expected.length; n++) if (source[at + n] !== expected[n]) return false;
    this.#at = at + expected.length;
    return true;
  }

  /** Skips the next bytes if they are equal to those at an earlier offset. */
  #acceptRepeat(earlier: number, length: number): boolean {
    const source = this.#source;
    const at = this.#at;
    for (let n = 0; n < length; n++) if (source[at + n] !== source[earlier + n]) return false;
    this.#at = at + length;
    return true;
  }

  /** Reads the header of a string. @returns its length */
  #length(): number {
    const token = this.#source[this.#at] ?? 0;
    if (token >= 0xa0 && token <= 0xbf) {
      this.#at += 1;
      return token & 0x1f;
    }
    if (token !== 0xd9) return unsupported;
    this.#at += 2;
    return this.#source[this.#at - 1] ?? unsupported;
  }

  #ascii(length: number): string | undefined {
    const source = this.#source;
    const at = this.#at;
    if (length < 0 || at + length > this.#end) return undefined;
    let seen = 0;
    for (let n = at; n < at + length; n++) seen |= source[n] ?? 0;
    this.#at = at + length;
    return seen < 0x80 ? source.toString("latin1", at, at + length) : undefined;
  }

  /** Reads a string, without an allocation if it equals `before`. */
  #textLike(before: string): string | undefined {
    const source = this.#source;
    const length = this.#length();
    const at = this.#at;
    if (length !== before.length) return this.#ascii(length);
    for (let n = 0; n < length; n++) if (source[at + n] !== before.charCodeAt(n)) return this.#ascii(length);
    this.#at = at + length;
    return before;
  }

  #uuid(): string | undefined {
    const source = this.#source;
    if (this.#length() !== uuidLength) return undefined;
    const at = this.#at;
    for (let n = 0; n < uuidLength; n++) if (uuidLetters[source[at + n] ?? 0] !== uuidPattern[n]) return undefined;
    this.#at = at + uuidLength;
    return source.toString("latin1", at, at + uuidLength);
  }

  #binary(from: number, bytes: Uint8Array): Uint8Array | undefined {
    const token = this.#source[this.#at];
    let length = this.#source[this.#at + 1] ?? 0;
    if (token === 0xc5) length = (length << 8) | (this.#source[this.#at + 2] ?? 0);
    else if (token !== 0xc4) return undefined;
    const at = this.#at + (token === 0xc5 ? 3 : 2);
    this.#at = at + length;
    return this.#at > this.#end ? undefined : bytes.subarray(at - from, at - from + length);
  }

  /** Reads a non-negative integer. */
  #number(): number {
    const at = this.#at;
    if (at >= this.#end) return unsupported;
    const token = this.#source[at] ?? 0;
    switch (token) {
      case 0xcc:
        this.#at = at + 2;
        return this.#view.getUint8(at + 1);
      case 0xcd:
        this.#at = at + 3;
        return this.#view.getUint16(at + 1);
      case 0xce:
        this.#at = at + 5;
        return this.#view.getUint32(at + 1);
      case 0xcb: {
        this.#at = at + 9;
        const value = this.#view.getFloat64(at + 1);
        return Number.isSafeInteger(value) && value >= 0 ? value : unsupported;
      }
      default:
        this.#at = at + 1;
        return token < 0x80 ? token : unsupported;
    }
  }
}
