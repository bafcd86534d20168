/**
 * List pool: many short lists of 32-bit words in a few large arrays, so that millions of lists cost the garbage
 * collector nothing. Pure.
 *
 * - A list has a number, which its owner stores.
 * - A full list moves to a place of twice the size; the next list of that size class reuses its old place.
 * - The pool grows by one block at a time and never copies existing blocks.
 */

/** The first block is small, so that a pool of a few lists is; the next ones double. */
const firstBlockWords = 1 << 10;
const blockWords = 1 << 16;
const smallestWords = 4;
const none = 0xffff_ffff;

export class ListPool {
  readonly #blocks: Uint32Array[] = [];
  /** Index of the block being filled; -1: none. `#used` words of its `#currentWords` are taken. */
  #current = -1;
  #used = 0;
  #currentWords = 0;
  /** By list: address (block × 65,536 + offset), length and size class. */
  #at = new Uint32Array(256).fill(none);
  #length = new Uint32Array(256);
  #class = new Uint8Array(256);
  readonly #freed: number[][] = [];

  lengthOf(list: number): number {
    return this.#length[list] ?? 0;
  }

  get(list: number, index: number): number {
    const at = this.#at[list] ?? 0;
    return this.#blocks[at >>> 16]?.[(at & 0xffff) + index] ?? 0;
  }

  set(list: number, index: number, word: number): void {
    const at = this.#at[list] ?? 0;
    const block = this.#blocks[at >>> 16];
    if (block !== undefined) block[(at & 0xffff) + index] = word;
  }

  /** A view of the list, valid until its next change. */
  view(list: number): Uint32Array {
    const at = this.#at[list] ?? none;
    const length = this.#length[list] ?? 0;
    if (at === none || length === 0) return new Uint32Array(0);
    const start = at & 0xffff;
    return this.#blocks[at >>> 16]?.subarray(start, start + length) ?? new Uint32Array(0);
  }

  push(list: number, word: number): void {
    const length = this.lengthOf(list);
    this.#reserve(list, length + 1);
    this.set(list, length, word);
    this.#length[list] = length + 1;
  }

  /** Gives an empty list a length; the caller then sets the words. */
  fill(list: number, words: number): void {
    this.#reserve(list, words);
    this.#length[list] = words;
  }

  /** Replaces the removed word by the last one. */
  removeAt(list: number, index: number): void {
    const last = this.lengthOf(list) - 1;
    this.set(list, index, this.get(list, last));
    this.#length[list] = last;
    if (last === 0) this.#release(list);
  }

  #reserve(list: number, words: number): void {
    if (list >= this.#at.length) this.#grow(list);
    const held = this.#at[list] === none ? 0 : wordsOf(this.#class[list] ?? 0);
    if (words <= held) return;
    let size = 0;
    while (wordsOf(size) < words) size += 1;
    const length = held > 0 ? this.lengthOf(list) : 0;
    const at = this.#allocate(size);
    if (length > 0) this.#blocks[at >>> 16]?.set(this.view(list), at & 0xffff);
    if (held > 0) this.#release(list);
    this.#at[list] = at;
    this.#class[list] = size;
    this.#length[list] = length;
  }

  #allocate(size: number): number {
    const again = this.#freed[size]?.pop();
    if (again !== undefined) return again;
    const words = wordsOf(size);
    if (words >= blockWords) {
      this.#blocks.push(new Uint32Array(words));
      return ((this.#blocks.length - 1) << 16) >>> 0;
    }
    if (this.#used + words > this.#currentWords) {
      this.#currentWords = Math.max(words, Math.min(blockWords, firstBlockWords << Math.min(6, this.#blocks.length)));
      this.#blocks.push(new Uint32Array(this.#currentWords));
      this.#current = this.#blocks.length - 1;
      this.#used = 0;
    }
    const at = this.#current * blockWords + this.#used;
    this.#used += words;
    return at;
  }

  #release(list: number): void {
    const size = this.#class[list] ?? 0;
    const freed = this.#freed[size] ?? [];
    freed.push(this.#at[list] ?? none);
    this.#freed[size] = freed;
    this.#at[list] = none;
    this.#length[list] = 0;
  }

  #grow(list: number): void {
    const size = Math.max(list + 1, this.#at.length + (this.#at.length >>> 1));
    const at = new Uint32Array(size).fill(none);
    at.set(this.#at);
    const length = new Uint32Array(size);
    length.set(this.#length);
    const classes = new Uint8Array(size);
    classes.set(this.#class);
    this.#at = at;
    this.#length = length;
    this.#class = classes;
  }
}

function wordsOf(size: number): number {
  return smallestWords << size;
}
