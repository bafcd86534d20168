/** Request head: what an HTTP/1 connection needs to know of a request before anything else uses it. Pure. */
import type { RawLines } from "../message/header-lines.ts";

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

/** The parser decides the framing; this only predicts whether it will report a body. */
export function announcesBody(raw: readonly string[]): boolean {
  return bodyLengthOf(raw) !== undefined;
}

/** @returns how many bytes the parser reads as a body; Infinity: it finds the end; undefined: there is no body */
export function bodyLengthOf(raw: readonly string[]): number | undefined {
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length === 14) {
      if (raw[i + 1] !== "0" && name.toLowerCase() === "content-length") return Number(raw[i + 1]);
    } else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") return Number.POSITIVE_INFINITY;
  }
  return undefined;
}

/** A request for any other protocol is an ordinary request (RFC 9110 §7.8). */
export function upgradeOf(
  raw: RawLines,
  owner: Readonly<{ mayUpgradeTo(protocol: string): boolean }>,
): "websocket" | "connect-udp" | "other" | null {
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length !== 7 || name.toLowerCase() !== "upgrade") continue;
    const protocol = raw[i + 1]?.toLowerCase() ?? "";
    if (protocol === "websocket" || protocol === "connect-udp") return protocol;
    return owner.mayUpgradeTo(protocol) ? "other" : null;
  }
  return null;
}
