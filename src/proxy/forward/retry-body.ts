/** Retry body: the beginning of a request body, kept in one buffer for a second try. Pure. */
export class RetryBody {
  #bytes: Buffer = Buffer.alloc(0);
  length = 0;

  /** Copies the chunk, so that a part of a larger buffer does not keep all of it. */
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
