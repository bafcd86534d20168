/**
 * Stream table: the open streams of one connection by number. Pure.
 *
 * A `Map` with constant turnover is rehashed every few dozen streams. Each abandoned table refers to its successor and
 * to its streams. Once one of them is in the old generation, minor collections keep everything that came after it, so
 * each request was promoted and the heap was full of them once a second. Here a removed stream leaves nothing behind.
 */
export interface StreamTableEntry<T> {
  readonly id: number;
  /** The next stream of the same bucket. */
  nextInBucket: T | undefined;
}

const bucketsMin = 8;

export class StreamTable<T extends StreamTableEntry<T>> {
  /** A power of two; numbers of streams that one side opens differ by 2. */
  #buckets: (T | undefined)[] = new Array<undefined>(bucketsMin).fill(undefined);
  size = 0;

  get(id: number): T | undefined {
    let found = this.#buckets[this.#bucketOf(id)];
    while (found !== undefined && found.id !== id) found = found.nextInBucket;
    return found;
  }

  has(id: number): boolean {
    return this.get(id) !== undefined;
  }

  /** @param stream in no table, with a number that is not in this one */
  add(stream: T): void {
    if (this.size === this.#buckets.length) this.#grow();
    this.#insert(stream);
    this.size += 1;
  }

  /** @returns false: it is not in the table */
  delete(stream: T): boolean {
    const bucket = this.#bucketOf(stream.id);
    let before: T | undefined;
    let found = this.#buckets[bucket];
    while (found !== undefined && found !== stream) {
      before = found;
      found = found.nextInBucket;
    }
    if (found === undefined) return false;
    if (before === undefined) this.#buckets[bucket] = found.nextInBucket;
    else before.nextInBucket = found.nextInBucket;
    found.nextInBucket = undefined;
    this.size -= 1;
    return true;
  }

  /** A copy, so streams may be removed during iteration. */
  all(): T[] {
    const all: T[] = [];
    if (this.size === 0) return all;
    for (const first of this.#buckets)
      for (let stream = first; stream !== undefined; stream = stream.nextInBucket) all.push(stream);
    return all;
  }

  /** Empties the table. */
  takeAll(): T[] {
    const all = this.all();
    for (const stream of all) stream.nextInBucket = undefined;
    this.#buckets = new Array<undefined>(bucketsMin).fill(undefined);
    this.size = 0;
    return all;
  }

  #bucketOf(id: number): number {
    return (id >>> 1) & (this.#buckets.length - 1);
  }

  #insert(stream: T): void {
    const bucket = this.#bucketOf(stream.id);
    stream.nextInBucket = this.#buckets[bucket];
    this.#buckets[bucket] = stream;
  }

  #grow(): void {
    const all = this.all();
    this.#buckets = new Array<undefined>(2 * this.#buckets.length).fill(undefined);
    for (const stream of all) this.#insert(stream);
  }
}
