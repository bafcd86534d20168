/** Kept body: the beginning of a body, in one piece however small the pieces were in which it came. Pure. */
export class RetryBody {
  #bytes: Buffer = Buffer.alloc(0);
  length = 0;

  /** Copies, so that no larger buffer stays because of a part of it. */
  add(chunk: Buffer): void {
    const length = this.length + chunk.length;
    if (length > this.#bytes.length) {
      const wider = Buffer.alloc(this.length === 0 ? length : 2 * length);
      this.#bytes.copy(wider, 0, 0, this.length);
      this.#bytes = wider;
    }
    chunk.copy(this.#bytes, this.length);
    this.length = length;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }
}
