/**
 * Strict MessagePack: a check over raw bytes, before any decoder reads them.
 *
 * - Accepts exactly one value made of nil, booleans, numbers, strings, byte strings, arrays and maps with string keys.
 * - Refuses extension types, 64-bit integers (a decoder makes a BigInt of them) and the reserved byte 0xc1. The one
 *   extension accepted is `undefined` (`d4 00 00`): msgpackr writes it, so events in existing logs hold it.
 * - Linear in the input, allocates nothing, and never recurses deeper than `depthMax`.
 * - Every array or map claims no more items than bytes remain, so a decoder never allocates more than the input allows.
 *
 * Why before the decoder: msgpackr decodes extensions into errors, regular expressions, records and typed arrays, and
 * it renders the decoded value as JSON when bytes follow it. A megabyte of extensions blocks the event loop for 300 ms.
 * Pure.
 */

/** Nesting of arrays and maps. Our messages nest six deep; the depth of claims is up to the provider. */
const depthMax = 256;

/** Whether the bytes are exactly one strict value. */
export function isStrictMessagePack(bytes: Uint8Array): boolean {
  return bytes.length > 0 && endOfValue(bytes, 0, depthMax) === bytes.length;
}

/** The value is truncated or of a kind that is refused. */
const refused = -1;

/** @returns the offset after the value at `at`, or `refused` */
function endOfValue(bytes: Uint8Array, at: number, depthLeft: number): number {
  const token = bytes[at];
  if (token === undefined) return refused;
  const next = at + 1;
  if (token < 0x80 || token >= 0xe0) return next; // fixint
  if (token < 0x90) return endOfMap(bytes, next, { count: token - 0x80, depthLeft });
  if (token < 0xa0) return endOfArray(bytes, next, { count: token - 0x90, depthLeft });
  if (token < 0xc0) return endOfBytes(bytes, next, token - 0xa0);
  switch (token) {
    case 0xc0: // nil
    case 0xc2: // false
    case 0xc3: // true
      return next;
    case 0xc4: // bin 8
    case 0xd9: // str 8
      return endOfBytes(bytes, at + 2, uint8(bytes, next));
    case 0xc5: // bin 16
    case 0xda: // str 16
      return endOfBytes(bytes, at + 3, uint16(bytes, next));
    case 0xc6: // bin 32
    case 0xdb: // str 32
      return endOfBytes(bytes, at + 5, uint32(bytes, next));
    case 0xcc: // uint 8
    case 0xd0: // int 8
      return endOfBytes(bytes, next, 1);
    case 0xcd: // uint 16
    case 0xd1: // int 16
      return endOfBytes(bytes, next, 2);
    case 0xca: // float 32
    case 0xce: // uint 32
    case 0xd2: // int 32
      return endOfBytes(bytes, next, 4);
    case 0xcb: // float 64
      return endOfBytes(bytes, next, 8);
    case 0xd4: // fixext 1: `undefined` alone
      return bytes[next] === 0 && bytes[at + 2] === 0 ? at + 3 : refused;
    case 0xdc:
      return endOfArray(bytes, at + 3, { count: uint16(bytes, next), depthLeft });
    case 0xdd:
      return endOfArray(bytes, at + 5, { count: uint32(bytes, next), depthLeft });
    case 0xde:
      return endOfMap(bytes, at + 3, { count: uint16(bytes, next), depthLeft });
    case 0xdf:
      return endOfMap(bytes, at + 5, { count: uint32(bytes, next), depthLeft });
    default:
      return refused;
  }
}

type Container = Readonly<{ count: number; depthLeft: number }>;

function endOfArray(bytes: Uint8Array, from: number, { count, depthLeft }: Container): number {
  if (depthLeft === 0 || !(count <= bytes.length - from)) return refused; // also NaN, from a truncated count
  let at = from;
  for (let left = count; left > 0; left--) {
    at = endOfValue(bytes, at, depthLeft - 1);
    if (at === refused) return refused;
  }
  return at;
}

function endOfMap(bytes: Uint8Array, from: number, { count, depthLeft }: Container): number {
  if (depthLeft === 0 || !(count <= (bytes.length - from) / 2)) return refused;
  let at = from;
  for (let left = count; left > 0; left--) {
    if (!isStringToken(bytes[at])) return refused;
    at = endOfValue(bytes, at, depthLeft - 1);
    if (at === refused) return refused;
    at = endOfValue(bytes, at, depthLeft - 1);
    if (at === refused) return refused;
  }
  return at;
}

function endOfBytes(bytes: Uint8Array, from: number, length: number): number {
  const end = from + length;
  return end <= bytes.length ? end : refused;
}

function isStringToken(token: number | undefined): boolean {
  return token !== undefined && ((token >= 0xa0 && token < 0xc0) || (token >= 0xd9 && token <= 0xdb));
}

/** NaN if the bytes end too early; the same below. */
function uint8(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? Number.NaN;
}
function uint16(bytes: Uint8Array, at: number): number {
  return uint8(bytes, at) * 0x100 + uint8(bytes, at + 1);
}
function uint32(bytes: Uint8Array, at: number): number {
  return uint16(bytes, at) * 0x10000 + uint16(bytes, at + 2);
}
