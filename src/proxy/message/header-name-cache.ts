/**
 * Remembered names: what follows from the name of a header, kept for names that were met before.
 *
 * Pure. Bounded in bytes, because callers and upstreams choose the names. A full table starts again empty: names that no honest
 * peer sends must not keep the usual ones out.
 */

/** Of the names and their entries, in each table. */
export const cachedBytesMax = 16_384;
/** A `Map` entry beside its key, roughly. */
const entryBytes = 64;
/** Longer names are looked at each time. */
const nameCharsMax = 128;

export class HeaderNameCache<Value> {
  readonly #known = new Map<string, Value>();
  #bytes = 0;

  get(name: string): Value | undefined {
    return this.#known.get(name);
  }

  /** @param name not known yet */
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
