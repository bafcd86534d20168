/**
 * Postgres arrays: encodes columns of a statement in the binary array format of the server (manual, "Frontend/Backend
 * Protocol"; `array_send` in the sources of the server). As text, each element would be formatted here and parsed again
 * there. Pure.
 */

const oids = { integer: 23, bigint: 20, text: 25, uuid: 2950 };
const headBytes = 20;
const uuidBytes = 16;
const none = -1;
const asciiLettersMax = 64;
/** The offset of each byte in the text of a UUID. */
const uuidDigits = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const uuidLetters = 36;
const noDigit = 0x100;
/** The value of each character as a hexadecimal digit. */
const digitOf = Int32Array.from({ length: 128 }, (_, letter) => {
  const value = Number.parseInt(String.fromCharCode(letter), 16);
  return Number.isNaN(value) ? noDigit : value;
});

export function encodeIntegers(list: readonly number[]): Buffer {
  const array = begin("integer", list.length, 4);
  for (let n = 0, at = headBytes; n < list.length; n += 1, at += 8) {
    array.writeInt32BE(4, at);
    array.writeInt32BE(list[n] ?? 0, at + 4);
  }
  return array;
}

/** Encodes non-negative integers. */
export function encodeBigints(list: readonly number[]): Buffer {
  const array = begin("bigint", list.length, 8);
  for (let n = 0, at = headBytes; n < list.length; n += 1, at += 12) {
    const value = list[n] ?? 0;
    array.writeInt32BE(8, at);
    array.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at + 4);
    array.writeUInt32BE(value >>> 0, at + 8);
  }
  return array;
}

export function encodeTexts(list: readonly string[]): Buffer {
  let letters = 0;
  for (const text of list) letters += text.length;
  const array = begin("text", list.length, 0, 3 * letters); // as UTF-8, a letter takes three bytes at most
  let at = headBytes;
  for (const text of list) {
    const length = isAsciiAt(array, at + 4, text) ? text.length : array.write(text, at + 4, "utf8");
    array.writeInt32BE(length, at);
    at += 4 + length;
  }
  return list.length === 0 ? array : array.subarray(0, at);
}

/** Writes a text if it is short and ASCII, for which a call of the runtime takes longer than its letters. */
function isAsciiAt(array: Buffer, at: number, text: string): boolean {
  const { length } = text;
  if (length > asciiLettersMax) return false;
  let seen = 0;
  for (let n = 0; n < length; n += 1) {
    const letter = text.charCodeAt(n);
    array[at + n] = letter;
    seen |= letter;
  }
  return seen < 0x80;
}

/** @throws RangeError when an element is not a UUID */
export function encodeUuids(list: readonly (string | null)[]): Buffer {
  const array = begin("uuid", list.length, uuidBytes);
  let at = headBytes;
  let nulls = 0;
  for (const uuid of list) {
    if (uuid === null) {
      array.writeInt32BE(none, at);
      nulls = 1;
      at += 4;
      continue;
    }
    array.writeInt32BE(uuidBytes, at);
    let seen = 0;
    for (let n = 0; n < uuidBytes; n += 1) {
      const digit = uuidDigits[n] ?? 0;
      const byte = (digitAt(uuid, digit) << 4) | digitAt(uuid, digit + 1);
      seen |= byte;
      array[at + 4 + n] = byte;
    }
    if (seen >= noDigit || uuid.length !== uuidLetters) throw new RangeError("not a UUID");
    at += 4 + uuidBytes;
  }
  if (list.length > 0) array.writeInt32BE(nulls, 4);
  return list.length === 0 ? array : array.subarray(0, at);
}

function digitAt(text: string, at: number): number {
  return digitOf[text.charCodeAt(at)] ?? noDigit;
}

/**
 * Writes the array header: number of dimensions, null flag, element type, then the size and lower bound of the one
 * dimension.
 */
function begin(type: keyof typeof oids, count: number, elementBytes: number, moreBytes = 0): Buffer {
  const empty = count === 0;
  const array = Buffer.allocUnsafe(empty ? 12 : headBytes + count * (4 + elementBytes) + moreBytes);
  array.writeInt32BE(empty ? 0 : 1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(oids[type], 8);
  if (empty) return array;
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
  return array;
}
