/**
 * Session form: the canonical bytes of a session, over which digests are made. The very bytes that `encode(["session", session])`
 * gives, put together by hand: a node writes one or two of them for every event of a session, and this takes a quarter of the time.
 * Pure.
 */
import type { Session } from "./state.ts";

const startBytes = 1_024;
const ascii = (text: string): Uint8Array => Buffer.from(text, "latin1");
/** A field's name as MessagePack writes a text of less than 32 letters. */
const name = (field: string): Uint8Array => Buffer.concat([Buffer.of(0xa0 | field.length), ascii(field)]);
const head = (fields: number): Uint8Array =>
  Buffer.concat([Buffer.of(0x92), name("session"), Buffer.of(0x80 | fields)]);
const names = {
  active: Buffer.concat([head(9), name("status"), name("active"), name("sessionId")]),
  revoked: Buffer.concat([head(6), name("status"), name("revoked"), name("sessionId")]),
  userId: name("userId"),
  idpId: name("idpId"),
  issuedAt: name("issuedAt"),
  expiresAt: name("expiresAt"),
  refreshedAt: name("refreshedAt"),
  profile: name("profile"),
  createdAt: name("createdAt"),
  reason: name("reason"),
  revokedAt: name("revokedAt"),
};

export class SessionForm {
  #bytes = Buffer.allocUnsafeSlow(startBytes);
  #view = viewOf(this.#bytes);
  #at = 0;

  /** @returns a view, right until the next call; undefined when a text or a number is not as plain as those here write them */
  bytesOf(session: Session): Uint8Array | undefined {
    this.#at = 0;
    const whole = session.status === "active" ? this.#active(session) : this.#revoked(session);
    return whole ? this.#bytes.subarray(0, this.#at) : undefined;
  }

  #active(session: Extract<Session, { status: "active" }>): boolean {
    this.#grow(session.profile.length + session.sessionId.length + session.userId.length + session.idpId.length);
    this.#raw(names.active);
    let plain = this.#text(session.sessionId);
    this.#raw(names.userId);
    plain = this.#text(session.userId) && plain;
    this.#raw(names.idpId);
    plain = this.#text(session.idpId) && plain;
    this.#raw(names.issuedAt);
    plain = this.#number(session.issuedAt) && plain;
    this.#raw(names.expiresAt);
    plain = this.#number(session.expiresAt) && plain;
    this.#raw(names.refreshedAt);
    plain = this.#number(session.refreshedAt) && plain;
    this.#raw(names.profile);
    plain = this.#binary(session.profile) && plain;
    this.#raw(names.createdAt);
    return this.#number(session.createdAt) && plain;
  }

  #revoked(session: Extract<Session, { status: "revoked" }>): boolean {
    this.#grow(session.sessionId.length + (session.userId?.length ?? 0) + session.reason.length);
    this.#raw(names.revoked);
    let plain = this.#text(session.sessionId);
    this.#raw(names.userId);
    plain = (session.userId === null ? this.#nothing() : this.#text(session.userId)) && plain;
    this.#raw(names.reason);
    plain = this.#text(session.reason) && plain;
    this.#raw(names.expiresAt);
    plain = (session.expiresAt === null ? this.#nothing() : this.#number(session.expiresAt)) && plain;
    this.#raw(names.revokedAt);
    return this.#number(session.revokedAt) && plain;
  }

  /** Makes room for what varies; the rest fits into what there is at the start. */
  #grow(varying: number): void {
    if (startBytes + varying <= this.#bytes.length) return;
    this.#bytes = Buffer.allocUnsafeSlow(2 * (startBytes + varying));
    this.#view = viewOf(this.#bytes);
  }

  #raw(bytes: Uint8Array): void {
    const target = this.#bytes;
    let at = this.#at;
    for (let from = 0; from < bytes.length; from++) target[at++] = bytes[from] ?? 0;
    this.#at = at;
  }

  /** Letters of seven bits, 255 at most. */
  #text(text: string): boolean {
    const target = this.#bytes;
    const { length } = text;
    let at = this.#at;
    if (length >= 0x20) target[at++] = 0xd9;
    target[at++] = length >= 0x20 ? length : 0xa0 | length;
    let seen = 0;
    for (let from = 0; from < length; from++) {
      const code = text.charCodeAt(from);
      seen |= code;
      target[at++] = code;
    }
    this.#at = at;
    return seen < 0x80 && length < 0x100;
  }

  #binary(bytes: Uint8Array): boolean {
    const target = this.#bytes;
    const { length } = bytes;
    let at = this.#at;
    if (length < 0x100) {
      target[at++] = 0xc4;
    } else {
      target[at++] = 0xc5;
      target[at++] = length >>> 8;
    }
    target[at++] = length;
    target.set(bytes, at);
    this.#at = at + length;
    return length < 0x1_0000;
  }

  /** A whole number in the shortest form; those above 32 bits as floating point. */
  #number(value: number): boolean {
    const target = this.#bytes;
    const at = this.#at;
    if (value < 0x80) {
      target[at] = value;
      this.#at = at + 1;
    } else if (value < 0x100) {
      target[at] = 0xcc;
      target[at + 1] = value;
      this.#at = at + 2;
    } else if (value < 0x1_0000) {
      target[at] = 0xcd;
      this.#view.setUint16(at + 1, value);
      this.#at = at + 3;
    } else if (value <= 0xffff_ffff) {
      target[at] = 0xce;
      this.#view.setUint32(at + 1, value);
      this.#at = at + 5;
    } else {
      target[at] = 0xcb;
      this.#view.setFloat64(at + 1, value);
      this.#at = at + 9;
    }
    return value >= 0 && Number.isInteger(value);
  }

  #nothing(): boolean {
    this.#bytes[this.#at++] = 0xc0;
    return true;
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
