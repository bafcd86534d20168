/** HTTP/1 head: what a connection has to know of a request before anybody else looks at it. Pure. */
import type { RawLines } from "./http1-parser.ts";

const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export function isHttp2Preface(bytes: Buffer): boolean {
  return (
    bytes.length >= http2Preface.length &&
    bytes.compare(http2Preface, 0, http2Preface.length, 0, http2Preface.length) === 0
  );
}

export function versionOf(major: number, minor: number): string {
  return major === 1 && minor === 1 ? "1.1" : `${major}.${minor}`;
}

/**
 * RTSP/1.0 has the version numbers of HTTP/1.0, and the parser reports no more.
 * @param reading what the parser reads by itself; undefined: `FirstLine` has looked at the line
 * @returns the version, or a text that is none where the first line, as far as it stands in what was read, is one of RTSP
 */
export function protocolOf(
  version: string,
  url: string,
  reading: Readonly<{ rest(read: number): Buffer }> | undefined,
): string {
  if (version !== "1.0" || reading === undefined) return version;
  return reading.rest(0).includes(`${url} RTSP/1.0\r\n`, 0, "latin1") ? "RTSP/1.0" : version;
}

/** Framing is the parser's matter: this only looks whether it will hand over a body. */
export function hasBody(raw: readonly string[]): boolean {
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length === 14) {
      if (raw[i + 1] !== "0" && name.toLowerCase() === "content-length") return true;
    } else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") return true;
  }
  return false;
}

/** Other protocols are none that we would change to: such a request is an ordinary one (RFC 9110 §7.8). */
export function upgradeIn(
  raw: RawLines,
  owner: Readonly<{ mayUpgrade(protocol: string): boolean }>,
): "websocket" | "connect-udp" | "other" | null {
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length !== 7 || name.toLowerCase() !== "upgrade") continue;
    const protocol = raw[i + 1]?.toLowerCase() ?? "";
    if (protocol === "websocket" || protocol === "connect-udp") return protocol;
    return owner.mayUpgrade(protocol) ? "other" : null;
  }
  return null;
}

/** Longer than a line whose target is accepted (32 KiB). */
const firstLineBytesMax = 65_536;
/** As much of a line as names its protocol. */
const endChars = 16;

/**
 * The first request line of a connection, byte by byte. The parser also accepts RTSP and ICE, and runs of spaces, and does not report what
 * it has read. From the second read on it reads the socket by itself, so this is the line that costs nothing to look at.
 */
export class FirstLine {
  #length = 0;
  #end = "";
  /** The whole line has come, or more than a line may have. */
  isComplete = false;

  /** Looks at each byte once. @returns false: no HTTP/1 request line (RFC 9112 §3) begins like this */
  accepts(bytes: Buffer): boolean {
    if (this.isComplete) return true;
    let text = bytes.toString("latin1", 0, firstLineBytesMax);
    if (this.#length === 0) text = text.replace(/^[\r\n]+/, ""); // empty lines before it are ignored (RFC 9112 §2.2)
    const lineEnd = text.indexOf("\n");
    const part = this.#end + (lineEnd < 0 ? text : text.slice(0, lineEnd));
    this.#length += text.length;
    this.#end = part.slice(-endChars);
    this.isComplete = lineEnd >= 0 || this.#length >= firstLineBytesMax;
    return !part.includes("  ") && !(lineEnd >= 0 && / (?:RTSP|ICE)\/[0-9.]+\r?$/.test(part));
  }
}
