/**
 * Read buffer: what was read last of any plain upstream, for as long as it is looked at.
 *
 * One for the whole process: whoever has read looks at it before anybody reads again, and keeps nothing of it but copies.
 */
import type { Http1Parser, ParseError } from "./parser.ts";

/** As much as Node itself reads at once. */
const bytes = Buffer.allocUnsafeSlow(65_536);
/** Answers are mostly of a few lengths: the beginnings of the buffer that were needed before. */
const prefixes: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);

function prefixOf(length: number): Buffer {
  const cached = prefixes[length];
  if (cached !== undefined) return cached;
  const prefix = bytes.subarray(0, length);
  if (length < prefixes.length) prefixes[length] = prefix;
  return prefix;
}

const headEnd = "\r\n\r\n";
/** A small body is one text. */
const wholeBodyBytesMax = 16_384;
const firstByte = 0x48; // HTTP/

export const readBuffer = {
  /** To be read into; nothing else. */
  bytes,

  /** @param length how much was read */
  parse(parser: Http1Parser, length: number): number | ParseError {
    return parser.execute(prefixOf(length));
  },

  /**
   * @param length how much was read, the end of the head of an answer among it, which the parser has found good; 0: it was not read
   * into this, or has more heads than one
   * @returns whether it is that head, its small body and nothing else
   */
  isWholeAnswer(length: number, bodyBytes: number): boolean {
    if (length === 0 || bodyBytes > wholeBodyBytesMax) return false;
    return bytes[0] === firstByte && bytes.indexOf(headEnd, 0, "latin1") === length - bodyBytes - headEnd.length;
  },

  /** The last of what was read, as latin1. */
  lastOf(length: number, lastBytes: number): string {
    return bytes.toString("latin1", length - lastBytes, length);
  },
} as const;
