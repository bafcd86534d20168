/**
 * Scratch buffer: a reused buffer in which bytes are assembled to be hashed. Pure.
 *
 * The views of its first n bytes are made once, because making a view costs as much as filling it.
 */

/** Longest view that is kept; longer ones are rare. */
const viewsMax = 2_048;

export class ScratchBuffer {
  readonly bytes: Buffer;
  readonly #views: (Buffer | undefined)[];

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.#views = new Array(Math.min(size, viewsMax) + 1).fill(undefined); // a sparse array would be slow
  }

  fits(length: number): boolean {
    return length <= this.bytes.length;
  }

  /** A view of the first bytes, whose content is undefined; a new buffer if there are not enough. */
  first(length: number): Buffer {
    if (!this.fits(length)) return Buffer.allocUnsafeSlow(length);
    const known = this.#views[length];
    if (known !== undefined) return known;
    const beginning = this.bytes.subarray(0, length);
    if (length < this.#views.length) this.#views[length] = beginning;
    return beginning;
  }
}
