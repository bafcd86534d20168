/**
 * List pool: many short lists of 32-bit words in few large arrays, so that millions of them cost the garbage collector nothing.
 *
 * A list has a number, which its owner keeps. Lists grow by doubling within size classes; what they leave behind is used again
 * by the next list of that size. Nothing is ever copied as a whole: the pool grows by a block at a time. Pure.
 */

/** Blocks double from here on, so that a pool of a few lists is small. */
const firstBlockWords = 1 << 10;
const blockWords = 1 << 16;
const smallestWords = 4;
const none = 0xffff_ffff;

export class ListPool {
  readonly #blocks: Uint32Array[] = [];
  /** The next free word of the block that is being filled. */
  #current = -1;
  #used = 0;
  #currentWords = 0;
  /** By list: where it stands (block × 65,536 + place), how long it is, and its size class. */
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

  /** A view of what is in it now: right until the list is next changed. */
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

  /** An empty list becomes so long; its words are then set. */
  fill(list: number, words: number): void {
    this.#reserve(list, words);
    this.#length[list] = words;
  }

  /** The last word takes the place of the one that goes. */
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
