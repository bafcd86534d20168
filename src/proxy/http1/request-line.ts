/**
 * Request line check: refuses request lines that Node's parser accepts and HTTP/1.1 does not have (RFC 9112 §3).
 * Pure.
 *
 * - The parser also accepts RTSP and ICE, and runs of spaces, and reports neither.
 * - The connection parses its bytes in the segments that `endOfSegment` names. No segment extends past the end of a
 *   head, so the position of each request line is known exactly. A line elsewhere in the bytes that merely looks
 *   right counts for nothing.
 * - A head that is whole in one segment costs a search for its end and a comparison of four bytes.
 *   `PartialRequestLine` reads all others.
 */
const headEnd = Buffer.from("\r\n\r\n", "latin1");
const noBytes = Buffer.alloc(0);
const space = 0x20;
const carriageReturn = 0x0d;
const lineFeed = 0x0a;
const letterH = 0x48;

export class RequestLineCheck {
  #bytes: Buffer = noBytes;
  /**
   * The request line of a whole head begins here in `#bytes`; -1: the segment holds no whole head, or its head has
   * been checked.
   */
  #start = -1;
  /** The request line of a head that takes several segments. */
  #line: PartialRequestLine | undefined;
  /** The last bytes of such a head, up to three: the blank line that ends it may have begun. */
  #tail = "";

  /**
   * The next segment, while no body is being read.
   * @returns where it ends; -1: no HTTP/1 request line begins like this
   */
  endOfSegment(bytes: Buffer, from: number): number {
    this.#start = -1;
    if (this.#line !== undefined) return this.#endOfPartialHead(this.#line, bytes, from);
    let start = from; // empty lines before a request line are ignored (RFC 9112 §2.2)
    while (start < bytes.length && isLineEnd(bytes[start])) start++;
    if (start === bytes.length) return start;
    const found = bytes.indexOf(headEnd, start);
    if (found >= 0) {
      this.#bytes = bytes;
      this.#start = start;
      return found + headEnd.length;
    }
    this.#line = new PartialRequestLine();
    this.#tail = "";
    return this.#endOfPartialHead(this.#line, bytes, start);
  }

  #endOfPartialHead(line: PartialRequestLine, bytes: Buffer, from: number): number {
    const end = endOfHead(bytes, from, this.#tail);
    this.#tail = (this.#tail + bytes.toString("latin1", Math.max(from, end - 3), end)).slice(-3);
    return line.accepts(bytes, from, end) ? end : -1;
  }

  /** The parser has read a head in this segment. @returns whether its request line is one of HTTP/1 */
  accepts(method: string, url: string): boolean {
    const line = this.#line;
    const bytes = this.#bytes;
    const start = this.#start;
    this.#line = undefined;
    this.#bytes = noBytes;
    this.#start = -1;
    if (line !== undefined) return line.isComplete;
    return start >= 0 && isHttpLine(bytes, start, method, url);
  }
}

/**
 * The parser has read method and target, so this checks one space before and one after the target, and the H of HTTP.
 */
function isHttpLine(bytes: Buffer, start: number, method: string, url: string): boolean {
  const beforeTarget = start + method.length;
  const behindTarget = beforeTarget + 1 + url.length;
  return (
    bytes[beforeTarget] === space &&
    bytes[beforeTarget + 1] === url.charCodeAt(0) &&
    bytes[behindTarget] === space &&
    bytes[behindTarget + 1] === letterH
  );
}

function isLineEnd(byte: number | undefined): boolean {
  return byte === carriageReturn || byte === lineFeed;
}

function endOfHead(bytes: Buffer, from: number, tail: string): number {
  const begun = tail.endsWith("\r\n\r") ? 3 : tail.endsWith("\r\n") ? 2 : tail.endsWith("\r") ? 1 : 0;
  const end = from + headEnd.length - begun;
  if (begun > 0 && end <= bytes.length && headEnd.compare(bytes, from, end, begun) === 0) return end;
  const found = bytes.indexOf(headEnd, from);
  return found < 0 ? bytes.length : found + headEnd.length;
}

/** Longer than a line whose target is accepted (32 KiB). */
const requestLineBytesMax = 65_536;
/** Enough of a line's end to name its protocol. */
const lastCharsMax = 16;

/** A request line that arrives in several reads. */
export class PartialRequestLine {
  #length = 0;
  #lastChars = "";
  /** The whole line has arrived, or more than a line may have. */
  isComplete = false;

  /** Reads each byte once. @returns false: no HTTP/1 request line (RFC 9112 §3) begins like this */
  accepts(bytes: Buffer, from = 0, to = bytes.length): boolean {
    if (this.isComplete) return true;
    let text = bytes.toString("latin1", from, Math.min(to, from + requestLineBytesMax));
    if (this.#length === 0) text = text.replace(/^[\r\n]+/, ""); // empty lines before it are ignored (RFC 9112 §2.2)
    const lineEnd = text.indexOf("\n");
    const part = this.#lastChars + (lineEnd < 0 ? text : text.slice(0, lineEnd));
    this.#length += text.length;
    this.#lastChars = part.slice(-lastCharsMax);
    this.isComplete = lineEnd >= 0 || this.#length >= requestLineBytesMax;
    return !part.includes("  ") && !(lineEnd >= 0 && / (?:RTSP|ICE)\/[0-9.]+\r?$/.test(part));
  }
}
