/**
 * Packed ids: ids in 16 bytes, if they have one of two forms: a lowercase UUID, or 22 characters of base64url. Other
 * ids are not packed. Pure and exact: unpacking gives the original text.
 */

export const packedBytes = 16;
export type IdForm = 1 | 2;
const uuid: IdForm = 1;
const base64url: IdForm = 2;

const hexValues = valuesOf("0123456789abcdef");
const base64Values = valuesOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
const dashes = [8, 13, 18, 23];
/** The offset of the two digits of each byte in a UUID. */
const uuidOffsets = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/** Reused to build a UUID. A string made by concatenation would take more memory for as long as it lives. */
const uuidText = Buffer.from("00000000-0000-0000-0000-000000000000", "latin1");
const hexLetters = Buffer.from("0123456789abcdef", "latin1");

/**
 * Writes the id's 16 bytes to `target` at `at`.
 * @returns undefined if the id cannot be packed; the written bytes are then undefined
 */
export function packId(id: string, target: Uint8Array, at: number): IdForm | undefined {
  if (id.length === 36) return packUuid(id, target, at) ? uuid : undefined;
  if (id.length === 22) return packBase64url(id, target, at) ? base64url : undefined;
  return undefined;
}

export function unpackId(form: IdForm, source: Buffer, at: number): string {
  if (form === base64url) return source.toString("base64url", at, at + packedBytes);
  for (let byte = 0; byte < packedBytes; byte++) {
    const value = source[at + byte] ?? 0;
    const place = uuidOffsets[byte] ?? 0;
    uuidText[place] = hexLetters[value >>> 4] ?? 0;
    uuidText[place + 1] = hexLetters[value & 0xf] ?? 0;
  }
  return uuidText.toString("latin1");
}

function packUuid(id: string, target: Uint8Array, at: number): boolean {
  for (const dash of dashes) if (id.charCodeAt(dash) !== 45) return false;
  let wrong = 0;
  for (let byte = 0; byte < packedBytes; byte++) {
    const place = uuidOffsets[byte] ?? 0;
    const value = (valueAt(hexValues, id, place) << 4) | valueAt(hexValues, id, place + 1);
    wrong |= value;
    target[at + byte] = value;
  }
  return wrong >= 0;
}

function packBase64url(id: string, target: Uint8Array, at: number): boolean {
  let wrong = 0;
  let to = at;
  for (let place = 0; place < 20; place += 4) {
    const value =
      (valueAt(base64Values, id, place) << 18) |
      (valueAt(base64Values, id, place + 1) << 12) |
      (valueAt(base64Values, id, place + 2) << 6) |
      valueAt(base64Values, id, place + 3);
    wrong |= value;
    target[to++] = value >>> 16;
    target[to++] = value >>> 8;
    target[to++] = value;
  }
  const last = (valueAt(base64Values, id, 20) << 6) | valueAt(base64Values, id, 21);
  target[to] = last >>> 4;
  // The last four bits belong to no byte. They must be 0, or two texts would have the same packed form.
  return (wrong | last) >= 0 && (last & 0b1111) === 0;
}

/** Negative for a character outside the alphabet. */
function valueAt(values: Int8Array, id: string, place: number): number {
  const code = id.charCodeAt(place);
  return code < 128 ? (values[code] ?? -1) : -1;
}

function valuesOf(alphabet: string): Int8Array {
  const values = new Int8Array(128).fill(-1);
  for (let value = 0; value < alphabet.length; value++) values[alphabet.charCodeAt(value)] = value;
  return values;
}
