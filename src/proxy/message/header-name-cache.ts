/**
 * Header name cache: what follows from the name of a header, kept for names that were seen before.
 *
 * Pure. Bounded in bytes, because callers and upstreams choose the names: a table of fixed size, in which a new name
 * replaces an older one in its slot. Names that no honest peer sends cannot keep the usual ones out.
 *
 * A name is found by its length and four of its characters, and then compared. A `Map` would hash each name, and each
 * message brings its names as new strings.
 */

/** A power of two. */
const slotCount = 256;
/** Longer names are not cached. */
const nameCharsMax = 128;
/** For the names and their entries, in each table. */
export const cachedBytesMax = 16_384;
/** An entry beside its name, roughly. */
const entryBytes = 64;

type Entry<Value> = Readonly<{ name: string; value: Value }>;

export class HeaderNameCache<Value> {
  /** Without slots until a name is added: each route has tables, and most routes of many are idle. */
  #known: (Entry<Value> | undefined)[] = [];
  #bytes = 0;
  #size = 0;

  get(name: string): Value | undefined {
    const slot = slotOf(name);
    const entry = this.#known[slot];
    if (entry !== undefined && entry.name === name) return entry.value;
    const second = this.#known[slot ^ 1];
    return second !== undefined && second.name === name ? second.value : undefined;
  }

  /** @param name not in the cache yet */
  add(name: string, value: Value): void {
    if (name.length > nameCharsMax) return;
    if (this.#known.length === 0) this.#known = new Array<undefined>(slotCount).fill(undefined);
    if (this.#bytes + name.length + entryBytes > cachedBytesMax) {
      this.#known.fill(undefined);
      this.#bytes = 0;
      this.#size = 0;
    }
    const first = slotOf(name);
    const slot = this.#known[first] === undefined ? first : first ^ 1;
    const replaced = this.#known[slot];
    if (replaced !== undefined) this.#count(-1, replaced.name);
    this.#known[slot] = { name, value };
    this.#count(1, name);
  }

  get size(): number {
    return this.#size;
  }

  #count(entries: 1 | -1, name: string): void {
    this.#size += entries;
    this.#bytes += entries * (name.length + entryBytes);
  }
}

/** The factors spread the names that browsers and servers send: none of those has more than one neighbour. */
function slotOf(name: string): number {
  const { length } = name;
  if (length < 2) return length;
  const begin = 5 * name.charCodeAt(0) + 13 * name.charCodeAt(length >> 1);
  const end = 59 * name.charCodeAt(length - 2) + 71 * name.charCodeAt(length - 1);
  return (begin + end + 127 * length) & (slotCount - 1);
}
