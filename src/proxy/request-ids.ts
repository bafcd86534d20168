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
    let to = 0;
    for (let i = 0; i < atOnce * idBytes; i++) {
      const place = i % idBytes;
      if (place === 4 || place === 6 || place === 8 || place === 10) to++; // a dash stands there
      const byte = marked(drawn[used++] ?? 0, place);
      made[to++] = digits[byte >> 4] ?? dash;
      made[to++] = digits[byte & 0x0f] ?? dash;
    }
    text = made.toString("latin1");
    at = 0;
  }

  return () => {
    if (at === text.length) make();
    const from = at;
    at += idChars;
    return text.slice(from, at);
  };
}

/** Version 4, variant 1. */
function marked(byte: number, place: number): number {
  if (place === 6) return (byte & 0x0f) | 0x40;
  return place === 8 ? (byte & 0x3f) | 0x80 : byte;
}
