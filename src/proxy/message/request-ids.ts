/**
 * Request ids: random UUIDs (RFC 9562 §5.4), each of one piece.
 *
 * Pure but for the random bytes that it is given. Every request has one, and it is written several times: some are made at once, and each
 * is cut out of their text, rather than put together of twenty pieces that are gone through anew whenever it is written.
 */
const idBytes = 16;
const idChars = 36;
/** As many as keep no more alive than one of pieces would, when one of them lasts and the others are gone. */
const idsPerBatch = 16;
const randomBytesMax = 256 * idBytes;
const dash = 0x2d;
const hexDigits = Buffer.from("0123456789abcdef", "latin1");
/** Where the two digits of each byte stand. */
const digitOffsets = Uint8Array.of(0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34);
const versionOffset = 14;
const version = 0x34; // 4
const variantOffset = 19;
/** Variant 1: its two bits, and two that are drawn. */
const variantDigits = Buffer.from("89ab", "latin1");

/** @param fill with random bytes that nobody can guess */
export function createRequestIds(fill: (bytes: Uint8Array) => void): () => string {
  const random = Buffer.alloc(randomBytesMax);
  let usedBytes = randomBytesMax;
  const batch = Buffer.alloc(idsPerBatch * idChars, dash);
  let text = "";
  let nextAt = 0;

  function makeBatch(): void {
    if (usedBytes === randomBytesMax) {
      fill(random);
      usedBytes = 0;
    }
    for (let id = 0; id < idsPerBatch; id++, usedBytes += idBytes) write(id * idChars, usedBytes);
    text = batch.toString("latin1");
    nextAt = 0;
  }

  function write(to: number, from: number): void {
    for (let i = 0; i < idBytes; i++) {
      const byte = random[from + i] as number;
      batch[to + (digitOffsets[i] as number)] = hexDigits[byte >> 4] as number;
      batch[to + (digitOffsets[i] as number) + 1] = hexDigits[byte & 0x0f] as number;
    }
    batch[to + versionOffset] = version;
    batch[to + variantOffset] = variantDigits[((random[from + 8] as number) >> 4) & 0x03] as number;
  }

  return () => {
    if (nextAt === text.length) makeBatch();
    const from = nextAt;
    nextAt += idChars;
    return text.slice(from, nextAt);
  };
}
