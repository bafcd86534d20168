/**
 * Request ids: random UUIDs (RFC 9562 §5.4), each of one piece.
 *
 * Pure but for the random bytes that it is given. Every request has one, and it is written several times: some are made at once, and each
 * is cut out of their text, rather than put together of twenty pieces that are gone through anew whenever it is written.
 */
const idBytes = 16;
const idChars = 36;
/** As many as keep no more alive than one of pieces would, when one of them lasts and the others are gone. */
const atOnce = 16;
const drawnBytes = 256 * idBytes;
const dash = 0x2d;
const digits = Buffer.from("0123456789abcdef", "latin1");
/** Where the two digits of each byte stand. */
const places = Uint8Array.of(0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34);
const versionAt = 14;
const version = 0x34; // 4
const variantAt = 19;
/** Variant 1: its two bits, and two that are drawn. */
const variants = Buffer.from("89ab", "latin1");

/** @param fill with random bytes that nobody can guess */
export function createRequestIds(fill: (bytes: Uint8Array) => void): () => string {
  const drawn = Buffer.alloc(drawnBytes);
  let used = drawnBytes;
  const made = Buffer.alloc(atOnce * idChars, dash);
  let text = "";
  let at = 0;

  function make(): void {
    if (used === drawnBytes) {
      fill(drawn);
      used = 0;
    }
    for (let id = 0; id < atOnce; id++, used += idBytes) write(id * idChars, used);
    text = made.toString("latin1");
    at = 0;
  }

  function write(to: number, from: number): void {
    for (let i = 0; i < idBytes; i++) {
      const byte = drawn[from + i] as number;
      made[to + (places[i] as number)] = digits[byte >> 4] as number;
      made[to + (places[i] as number) + 1] = digits[byte & 0x0f] as number;
    }
    made[to + versionAt] = version;
    made[to + variantAt] = variants[((drawn[from + 8] as number) >> 4) & 0x03] as number;
  }

  return () => {
    if (at === text.length) make();
    const from = at;
    at += idChars;
    return text.slice(from, at);
  };
}
