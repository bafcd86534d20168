/**
 * Envelope shape: finds the parts of an envelope in raw bytes, before anything is verified or decoded.
 *
 * An envelope is the MessagePack array `[1, kind, certificate, root signature, payload, signature]` in the one encoding
 * that `sealEnvelope` writes. The reader compares headers byte by byte and returns views. It copies and decodes
 * nothing, so bytes from a stranger cost well under a microsecond. Pure.
 */

/**
 * Upper bound of a certificate. Real ones are about 200 bytes: the configuration bounds cluster, role, name and boot.
 */
export const certificateBytesMax = 2_048;
/** Length of an Ed25519 signature (RFC 8032 §5.1.6). */
export const signatureBytes = 64;
const kindBytesMax = 16;

export type EnvelopeParts = Readonly<{
  /** Text of 1 to 16 bytes, not yet compared with the known kinds. */
  kind: string;
  certificate: Uint8Array;
  rootSignature: Uint8Array;
  payload: Uint8Array;
  signature: Uint8Array;
}>;

const arrayOfSix = 0x96;
const version = 0x01;
const fixstr = 0xa0;
const [bin8, bin16, bin32] = [0xc4, 0xc5, 0xc6];

/** @returns undefined when the bytes are not an envelope from the first byte to the last */
export function readEnvelopeShape(bytes: Uint8Array): EnvelopeParts | undefined {
  if (bytes[0] !== arrayOfSix || bytes[1] !== version) return undefined;
  const kindLength = (bytes[2] ?? 0) - fixstr;
  if (kindLength < 1 || kindLength > kindBytesMax) return undefined;
  const kindEnd = 3 + kindLength;
  const certificate = readBin(bytes, kindEnd);
  if (certificate === undefined || certificate.length > certificateBytesMax) return undefined;
  const rootSignature = readBin(bytes, endOf(bytes, certificate));
  if (rootSignature?.length !== signatureBytes) return undefined;
  const payload = readBin(bytes, endOf(bytes, rootSignature));
  if (payload === undefined) return undefined;
  const signature = readBin(bytes, endOf(bytes, payload));
  if (signature?.length !== signatureBytes || endOf(bytes, signature) !== bytes.length) return undefined;
  return { kind: asciiOf(bytes, { from: 3, to: kindEnd }), certificate, rootSignature, payload, signature };
}

/** @returns a view of the byte string whose header is at `at`; undefined when there is none, or it is truncated */
function readBin(bytes: Uint8Array, at: number): Uint8Array | undefined {
  const byte = (offset: number): number => bytes[at + offset] ?? 0;
  let from: number;
  let length: number;
  if (byte(0) === bin8) [from, length] = [at + 2, byte(1)];
  else if (byte(0) === bin16) [from, length] = [at + 3, byte(1) * 0x100 + byte(2)];
  else if (byte(0) === bin32)
    [from, length] = [at + 5, ((byte(1) * 0x100 + byte(2)) * 0x100 + byte(3)) * 0x100 + byte(4)];
  else return undefined;
  return from + length <= bytes.length ? bytes.subarray(from, from + length) : undefined;
}

/** The offset in `bytes` of the end of a view into it. */
function endOf(bytes: Uint8Array, view: Uint8Array): number {
  return view.byteOffset - bytes.byteOffset + view.length;
}

function asciiOf(bytes: Uint8Array, { from, to }: Readonly<{ from: number; to: number }>): string {
  return String.fromCharCode(...bytes.subarray(from, to));
}
