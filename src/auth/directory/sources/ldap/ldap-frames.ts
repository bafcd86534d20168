/**
 * LDAP frames: cuts a byte stream into LDAP messages and checks their structure before a decoder reads them. Pure.
 *
 * - RFC 4511 §5.1: BER with definite lengths only.
 * - Every element lies inside the element around it. The decoder of `ldapts` trusts this: a length beyond the end would
 *   make it loop forever.
 * - A message is cut once all of it has arrived, so a large message is copied once and not once per chunk.
 */
import { DirectoryError } from "../../directory-error.ts";

/** A group of 200,000 members by their DN is about 20 MB. */
export const ldapMessageBytesMax = 32 * 1024 * 1024;
/** Sequences inside sequences. A search entry has five. */
const depthMax = 16;

/** Collects chunks until they hold a whole message. */
export class LdapFrames {
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** Size of the first message; undefined: its header has not arrived. */
  #size: number | undefined;
  readonly #messageBytesMax: number;

  constructor(messageBytesMax = ldapMessageBytesMax) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Bytes that have arrived and belong to no whole message yet. */
  get pendingBytes(): number {
    return this.#bytes;
  }

  /**
   * @returns the messages that are whole now, in order
   * @throws DirectoryError `malformed`
   */
  push(chunk: Buffer): readonly Buffer[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    const found: Buffer[] = [];
    for (;;) {
      this.#size ??= this.#nextSize();
      const size = this.#size;
      if (size === undefined || size > this.#bytes) return found;
      const joined = this.#chunks.length === 1 ? (this.#chunks[0] ?? chunk) : Buffer.concat(this.#chunks, this.#bytes);
      const message = joined.subarray(0, size);
      this.#chunks = size === joined.byteLength ? [] : [joined.subarray(size)];
      this.#bytes -= size;
      this.#size = undefined;
      checkStructure(message);
      found.push(message);
    }
  }

  #nextSize(): number | undefined {
    if (this.#bytes < 2) return undefined;
    const first = this.#chunks[0];
    if (first === undefined) return undefined;
    const head = first.byteLength >= headBytesMax ? first : Buffer.concat(this.#chunks).subarray(0, headBytesMax);
    if (head[0] !== sequenceTag) throw malformed("the server's answer is not LDAP");
    const header = readHeader(head, 0, head.byteLength);
    if (header === undefined) {
      if (head.byteLength >= headBytesMax) throw malformed("the server sent a length that LDAP does not have");
      return undefined;
    }
    const size = header.start + header.length;
    if (size > this.#messageBytesMax)
      throw malformed(`the server sent a message of ${size} bytes; at most ${this.#messageBytesMax} are read`);
    return size;
  }
}

const sequenceTag = 0x30;
const constructed = 0x20;
/** One byte of tag, one of length of length, four of length. */
const headBytesMax = 6;

/** @returns undefined: the header is cut off, or its length is indefinite or has more than four bytes */
function readHeader(bytes: Buffer, at: number, end: number): Readonly<{ start: number; length: number }> | undefined {
  const first = at + 1 < end ? bytes[at + 1] : undefined;
  if (first === undefined) return undefined;
  if (first < 0x80) return { start: at + 2, length: first };
  const count = first & 0x7f;
  if (count === 0 || count > 4 || at + 2 + count > end) return undefined;
  return { start: at + 2 + count, length: bytes.readUIntBE(at + 2, count) };
}

/** Checks that every element lies inside the element around it. Iterative: the sender chooses the depth. */
function checkStructure(message: Buffer): void {
  const ends = [message.byteLength];
  let at = 0;
  for (;;) {
    while (ends.length > 0 && at === ends.at(-1)) ends.pop();
    const end = ends.at(-1);
    if (end === undefined) return;
    const header = readHeader(message, at, end);
    const tag = message[at];
    // A tag of several bytes has the low five bits set; LDAP has none.
    if (header === undefined || tag === undefined || (tag & 0x1f) === 0x1f || header.start + header.length > end)
      throw malformed("the server sent a message whose parts do not fit into it");
    if ((tag & constructed) === 0) {
      at = header.start + header.length;
      continue;
    }
    if (ends.length >= depthMax) throw malformed("the server sent a message that is nested too deeply");
    at = header.start;
    ends.push(header.start + header.length);
  }
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
