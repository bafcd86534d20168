/**
 * Read buffer: the bytes that were read last from any plain upstream connection.
 *
 * One buffer for the whole process. Its reader uses the bytes before anything else is read, and keeps only copies.
 */
import type { Http1Parser, ParseError } from "./parser.ts";

/** As much as Node reads at once. */
const bytes = Buffer.allocUnsafeSlow(65_536);
/** Views of the first bytes, by length: responses mostly have a few lengths. */
const prefixes: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);

function prefixOf(length: number): Buffer {
  const cached = prefixes[length];
  if (cached !== undefined) return cached;
  const prefix = bytes.subarray(0, length);
  if (length < prefixes.length) prefixes[length] = prefix;
  return prefix;
}

const headEnd = "\r\n\r\n";
/** Larger bodies are not turned into one text. */
const wholeBodyBytesMax = 16_384;
const firstByte = 0x48; // HTTP/

export const readBuffer = {
  /** For `onread` only. */
  bytes,

  /** @param length how much was read */
  parse(parser: Http1Parser, length: number): number | ParseError {
    return parser.execute(prefixOf(length));
  },

  /**
   * The body of a response that was read at once.
   * @param length how much was read, including the end of a response head that the parser has accepted; 0: it was not
   *   read into this buffer, or has more than one head
   * @returns latin1; undefined: the read is not exactly that head and its small body
   */
  wholeBody(length: number, bodyBytes: number): string | undefined {
    if (length === 0 || bodyBytes > wholeBodyBytesMax || bytes[0] !== firstByte) return undefined;
    const text = bytes.toString("latin1", 0, length);
    const bodyAt = length - bodyBytes;
    return text.indexOf(headEnd) === bodyAt - headEnd.length ? text.slice(bodyAt) : undefined;
  },
} as const;
