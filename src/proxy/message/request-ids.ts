/**
 * Request ids: random UUIDs (RFC 9562 §5.4), each a flat string.
 *
 * Pure but for the random bytes that it is given. Every request has an id, which is written several times. Ids are
 * made in batches and cut from one text: joining twenty pieces for each id would flatten them again at every write.
 */
const idBytes = 16;
const idChars = 36;
/** Few enough that one id kept for long holds little memory: each keeps the text of its whole batch alive. */
const idsPerBatch = 16;
const randomBytesMax = 256 * idBytes;
const dash = 0x2d;
const hexDigits = Buffer.from("0123456789abcdef", "latin1");
/** Offset of the two digits of each byte. */
const digitOffsets = Uint8Array.of(0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34);
const versionOffset = 14;
const version = 0x34; // 4
const variantOffset = 19;
/** Variant 1: its two bits, and two random ones. */
const variantDigits = Buffer.from("89ab", "latin1");

/** @param fill fills with unpredictable random bytes */
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
