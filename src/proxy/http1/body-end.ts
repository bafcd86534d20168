/**
 * Body end: finds where the body of a request ends in the bytes of its connection (RFC 9112 §6, §7.1). Pure.
 *
 * Node's parser validates the bytes but does not report where it finds the end, and what follows must be examined
 * from its first byte. The connection ends where the two disagree, so a mistake here lets nothing through.
 */
const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const lineEndBytes = 2;

export class BodyEnd {
  #phase: "data" | "size" | "extension" | "trailers";
  readonly #isChunked: boolean;
  /** Bytes of the body, or of the chunk and its line end, that have not arrived. */
  #bytesLeft: number;
  #chunkSize = 0;
  #lineLength = 0;
  isFound: boolean;

  /** @param length Infinity: the body is chunked */
  constructor(length: number) {
    this.#isChunked = length === Number.POSITIVE_INFINITY;
    this.#phase = this.#isChunked ? "size" : "data";
    this.#bytesLeft = this.#isChunked ? 0 : length;
    this.isFound = length === 0;
  }

  /** Reads each byte once. @returns where the body ends in these bytes, or their length */
  find(bytes: Buffer, from: number): number {
    let at = from;
    while (at < bytes.length && !this.isFound)
      if (this.#phase === "data") at = this.#skip(bytes, at);
      else this.#readByte(bytes[at++] ?? 0);
    return at;
  }

  #skip(bytes: Buffer, from: number): number {
    const end = Math.min(from + this.#bytesLeft, bytes.length);
    this.#bytesLeft -= end - from;
    if (this.#bytesLeft === 0 && this.#isChunked) this.#phase = "size";
    else this.isFound = this.#bytesLeft === 0;
    return end;
  }

  #readByte(byte: number): void {
    if (this.#phase === "trailers") this.#readTrailers(byte);
    else if (byte === lineFeed) {
      this.#phase = this.#chunkSize === 0 ? "trailers" : "data";
      this.#bytesLeft = this.#chunkSize + lineEndBytes;
      this.#chunkSize = 0;
    } else if (this.#phase === "size") {
      const digit = Number.parseInt(String.fromCharCode(byte), 16);
      if (Number.isNaN(digit)) this.#phase = "extension";
      else this.#chunkSize = this.#chunkSize * 16 + digit;
    }
  }

  /** An empty line ends the trailers. */
  #readTrailers(byte: number): void {
    if (byte !== lineFeed) this.#lineLength += byte === carriageReturn ? 0 : 1;
    else if (this.#lineLength === 0) this.isFound = true;
    else this.#lineLength = 0;
  }
}
