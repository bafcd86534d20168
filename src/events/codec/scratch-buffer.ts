/**
 * Scratch buffer: a reused buffer in which bytes are assembled to be hashed. Its beginnings of every length are views that are made
 * once, because to make one costs as much as to fill it. Pure.
 */
/** Longer ones are rare. */
const viewsMax = 2_048;

export class ScratchBuffer {
  readonly bytes: Buffer;
  readonly #views: (Buffer | undefined)[];

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.#views = new Array(Math.min(size, viewsMax) + 1).fill(undefined); // with holes it would be slow
  }

  fits(length: number): boolean {
    return length <= this.bytes.length;
  }

  /** So many bytes, without meaning: the same ones each time, or others if they are too many. */
  first(length: number): Buffer {
    if (!this.fits(length)) return Buffer.allocUnsafeSlow(length);
    const known = this.#views[length];
    if (known !== undefined) return known;
    const beginning = this.bytes.subarray(0, length);
    if (length < this.#views.length) this.#views[length] = beginning;
    return beginning;
  }
}
