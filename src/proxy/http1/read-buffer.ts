/**
 * Read buffer: what was read last of any plain upstream, for as long as it is looked at.
 *
 * One for the whole process: whoever has read looks at it before anybody reads again, and keeps nothing of it but copies.
 */
import type { Http1Parser, ParseError } from "./parser.ts";

/** As much as Node itself reads at once. */
const bytes = Buffer.allocUnsafeSlow(65_536);
/** Answers are mostly of a few lengths: the beginnings of the buffer that were needed before. */
const beginnings: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);

function beginningOf(length: number): Buffer {
  const known = beginnings[length];
  if (known !== undefined) return known;
  const beginning = bytes.subarray(0, length);
  if (length < beginnings.length) beginnings[length] = beginning;
  return beginning;
}

const headEnd = "\r\n\r\n";
/** A small body is one text. */
const wholeBodyBytesMax = 16_384;
const firstOfAnswer = 0x48; // HTTP/

export const readBuffer = {
  /** To be read into; nothing else. */
  bytes,

  /** @param length how much was read */
  parse(parser: Http1Parser, length: number): number | ParseError {
    return parser.execute(beginningOf(length));
  },

  /** Whether what was read begins with these. */
  beginsWith(head: Buffer): boolean {
    return beginningOf(head.length).equals(head);
  },

  copyOf(length: number): Buffer {
    return Buffer.from(beginningOf(length));
  },

  /**
   * @param length how much was read, the end of the head of an answer among it, which the parser has found good; 0: it was not read
   * into this, or has more heads than one
   * @returns whether it is that head, its small body and nothing else
   */
  isWholeAnswer(length: number, bodyBytes: number): boolean {
    if (length === 0 || bodyBytes > wholeBodyBytesMax) return false;
    return bytes[0] === firstOfAnswer && bytes.indexOf(headEnd, 0, "latin1") === length - bodyBytes - headEnd.length;
  },

  /** The last of what was read, as latin1. */
  lastOf(length: number, lastBytes: number): string {
    return bytes.toString("latin1", length - lastBytes, length);
  },
} as const;
