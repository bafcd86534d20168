/**
 * PROXY protocol, versions 1 and 2: the caller's address, sent by a load balancer before the first byte of the
 * connection.
 *
 * Pure. Anything but a well-formed header is refused: without one, a caller cannot be told from the balancer. The TLVs
 * of version 2 are skipped.
 * @see https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
import { isIP } from "node:net";
import { canonicalAddress } from "../../config/index.ts";
import type { FirstBytes } from "./first-bytes-socket.ts";

export type ProxyHeader =
  | Readonly<{ type: "more" }>
  | Readonly<{ type: "bad" }>
  /** `address` null: the connection is the balancer's own (LOCAL), or its source is unknown. */
  | Readonly<{ type: "header"; bytes: number; address: string | null }>;

const more: ProxyHeader = { type: "more" };
const bad: ProxyHeader = { type: "bad" };

const signature1 = Buffer.from("PROXY ", "latin1");
const signature2 = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
/** The longest line of version 1, including its line end. */
const lineBytesMax = 107;
/** Addresses and TLVs of version 2. A balancer that forwards a client certificate needs a few thousand bytes. */
const bodyBytesMax = 8_192;

/** @param bytes everything received so far */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (begins(bytes, signature1)) return bytes.length < signature1.length ? more : readLine(bytes);
  if (begins(bytes, signature2)) return bytes.length < signature2.length + 4 ? more : readBinary(bytes);
  return bad;
}

export type SaidInFront = Readonly<{ address: string | null; bytes: number }>;

/** For `readFirstBytes`. */
export function lookForProxyHeader(bytes: Buffer): FirstBytes<SaidInFront> {
  const header = readProxyHeader(bytes);
  return header.type === "header" ? { type: "found", own: header.bytes, found: header } : header;
}

/** Compares up to the shorter length. */
function begins(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length);
  return bytes.compare(signature, 0, length, 0, length) === 0;
}

function readLine(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, lineBytesMax).indexOf("\r\n");
  if (end < 0) return bytes.length < lineBytesMax ? more : bad;
  const line = bytes.toString("latin1", 0, end);
  if (line === "PROXY UNKNOWN" || line.startsWith("PROXY UNKNOWN "))
    return { type: "header", bytes: end + 2, address: null };
  const [, family, source = "", destination = "", ...ports] =
    /^PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d{1,5}) (\d{1,5})$/.exec(line) ?? [];
  const fits = [source, destination].every((address) => isIP(address) === Number(family));
  if (!fits || ports.some((port) => Number(port) > 65_535)) return bad;
  return { type: "header", bytes: end + 2, address: canonicalAddress(source) };
}

function readBinary(bytes: Buffer): ProxyHeader {
  const versionAndCommand = bytes.readUInt8(12);
  const familyAndTransport = bytes.readUInt8(13);
  const length = bytes.readUInt16BE(14);
  const end = 16 + length;
  if (versionAndCommand >> 4 !== 2 || length > bodyBytesMax) return bad;
  if (bytes.length < end) return more;
  const command = versionAndCommand & 0xf;
  if (command === 0) return { type: "header", bytes: end, address: null };
  if (command !== 1) return bad;
  const body = bytes.subarray(16, end);
  switch (familyAndTransport) {
    case 0x11:
      return length < 12 ? bad : { type: "header", bytes: end, address: [...body.subarray(0, 4)].join(".") };
    case 0x21:
      return length < 36 ? bad : { type: "header", bytes: end, address: ipv6(body.subarray(0, 16)) };
    case 0x00: // unspecified
    case 0x31: // a Unix socket
      return { type: "header", bytes: end, address: null };
    default: // not a stream
      return bad;
  }
}

function ipv6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return canonicalAddress(groups.join(":"));
}
