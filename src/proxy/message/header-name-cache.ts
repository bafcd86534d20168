/**
 * Header name cache: what follows from the name of a header, kept for names that were seen before.
 *
 * Pure. Bounded in bytes, because callers and upstreams choose the names. A full table starts again empty, so that
 * names no honest peer sends cannot keep the usual ones out.
 */

/** For the names and their entries, in each table. */
export const cachedBytesMax = 16_384;
/** A `Map` entry beside its key, roughly. */
const entryBytes = 64;
/** Longer names are not cached. */
const nameCharsMax = 128;

export class HeaderNameCache<Value> {
  readonly #known = new Map<string, Value>();
  #bytes = 0;

  get(name: string): Value | undefined {
    return this.#known.get(name);
  }

  /** @param name not in the cache yet */
  add(name: string, value: Value): void {
    if (name.length > nameCharsMax) return;
    this.#bytes += name.length + entryBytes;
    if (this.#bytes > cachedBytesMax) {
      this.#known.clear();
      this.#bytes = name.length + entryBytes;
    }
    this.#known.set(name, value);
  }

  get size(): number {
    return this.#known.size;
  }
}
