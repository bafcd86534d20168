/**
 * Number ranges: a set of numbers as ranges, whose cost stays low in whatever order numbers come. Pure.
 *
 * Ranges are in chunks of bounded length, so a number that comes anywhere moves at most one chunk.
 */
const chunkEntriesMax = 1_024;

export class NumberRanges {
  /** Each has first and last number of its ranges, ascending; none is empty. */
  readonly #chunks: number[][] = [];
  #count = 0;

  /** Number of ranges. */
  get count(): number {
    return this.#count;
  }

  /** @returns whether the number is new */
  add(number: number): boolean {
    const at = lastIndexWhere(this.#chunks.length, (index) => (this.#chunks[index]?.[0] ?? 0) <= number);
    const chunk = this.#chunks[at];
    const range = chunk === undefined ? -1 : lastIndexWhere(chunk.length / 2, (n) => (chunk[2 * n] ?? 0) <= number);
    const end = chunk?.[2 * range + 1] ?? Number.NEGATIVE_INFINITY;
    if (number <= end) return false;
    const isLastOfChunk = chunk === undefined || 2 * (range + 1) === chunk.length;
    const next = isLastOfChunk ? { chunk: at + 1, at: 0 } : { chunk: at, at: 2 * (range + 1) };
    const following = this.#chunks[next.chunk];
    const touchesAfter = following?.[next.at] === number + 1;
    if (number === end + 1 && chunk !== undefined) {
      chunk[2 * range + 1] = touchesAfter ? (following?.[next.at + 1] ?? number) : number;
      if (touchesAfter) this.#remove(next);
    } else if (touchesAfter && following !== undefined) following[next.at] = number;
    else this.#insert(number, { chunk: Math.max(0, at), at: 2 * (range + 1) });
    return true;
  }

  #remove({ chunk: index, at }: Readonly<{ chunk: number; at: number }>): void {
    const chunk = this.#chunks[index];
    chunk?.splice(at, 2);
    if (chunk?.length === 0) this.#chunks.splice(index, 1);
    this.#count--;
  }

  #insert(number: number, { chunk: index, at }: Readonly<{ chunk: number; at: number }>): void {
    const chunk = this.#chunks[index] ?? [];
    chunk.splice(at, 0, number, number);
    this.#count++;
    if (this.#chunks.length === 0) this.#chunks.push(chunk);
    if (chunk.length > chunkEntriesMax) this.#chunks.splice(index + 1, 0, chunk.splice(chunkEntriesMax / 2));
  }
}

/** @param holds true up to some index, and false from there on @returns -1: it never holds */
function lastIndexWhere(length: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
