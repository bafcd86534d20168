/**
 * Ordered ids: ids in the order of their keys, for pages of a list that changes meanwhile. Pure.
 *
 * A change moves at most one chunk. A page starts from a place (a key and an id) rather than from a number, so it
 * neither repeats nor omits an entry that stayed where it was. See
 * docs/adr/0067-lists-continue-from-a-place.md.
 */

export type Place<Key extends number | string, Id extends string> = Readonly<{ key: Key; id: Id }>;
type Chunk<Key, Id> = Readonly<{ keys: Key[]; ids: Id[] }>;

const chunkMax = 512;

export class OrderedIds<Key extends number | string, Id extends string> {
  /** None is empty. */
  readonly #chunks: Chunk<Key, Id>[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#size = 0;
  }

  /** No effect if the entry is there. */
  insert(key: Key, id: Id): void {
    const place = { key, id };
    const at = Math.min(this.#chunkFor(place), this.#chunks.length - 1);
    const chunk = this.#chunks[at];
    if (chunk === undefined) {
      this.#chunks.push({ keys: [key], ids: [id] });
      this.#size = 1;
      return;
    }
    const index = indexIn(chunk, place);
    if (chunk.keys[index] === key && chunk.ids[index] === id) return;
    chunk.keys.splice(index, 0, key);
    chunk.ids.splice(index, 0, id);
    this.#size += 1;
    if (chunk.ids.length <= chunkMax) return;
    const half = chunkMax / 2;
    this.#chunks.splice(at + 1, 0, { keys: chunk.keys.splice(half), ids: chunk.ids.splice(half) });
  }

  delete(key: Key, id: Id): void {
    const place = { key, id };
    const at = this.#chunkFor(place);
    const chunk = this.#chunks[at];
    if (chunk === undefined) return;
    const index = indexIn(chunk, place);
    if (chunk.keys[index] !== key || chunk.ids[index] !== id) return;
    chunk.keys.splice(index, 1);
    chunk.ids.splice(index, 1);
    this.#size -= 1;
    if (chunk.ids.length === 0) this.#chunks.splice(at, 1);
  }

  /** At most `count` entries after a place. @param after null: from the beginning; descending, from the end */
  after(after: Place<Key, Id> | null, isDescending: boolean, count: number): readonly Place<Key, Id>[] {
    const found: Place<Key, Id>[] = [];
    const step = isDescending ? -1 : 1;
    let at = after === null ? (isDescending ? this.#chunks.length - 1 : 0) : this.#chunkFor(after);
    if (isDescending) at = Math.min(at, this.#chunks.length - 1);
    const first = this.#chunks[at];
    let index = first === undefined ? 0 : firstIndex(first, after, isDescending);
    for (; found.length < count; ) {
      const chunk = this.#chunks[at];
      if (chunk === undefined) break;
      const [key, id] = [chunk.keys[index], chunk.ids[index]];
      if (key === undefined || id === undefined) {
        at += step;
        index = isDescending ? (this.#chunks[at]?.ids.length ?? 0) - 1 : 0;
        continue;
      }
      found.push({ key: key as Key, id });
      index += step;
    }
    return found;
  }

  /** About `count` entries, evenly spread. */
  sample(count: number): readonly Place<Key, Id>[] {
    const found: Place<Key, Id>[] = [];
    const every = Math.max(1, Math.floor(this.#size / count));
    let skipped = every >> 1;
    for (const { keys, ids } of this.#chunks) {
      for (; skipped < ids.length; skipped += every) {
        const [key, id] = [keys[skipped], ids[skipped]];
        if (key !== undefined && id !== undefined) found.push({ key: key as Key, id });
      }
      skipped -= ids.length;
    }
    return found;
  }

  /** The first chunk whose last entry is not before the place. */
  #chunkFor(place: Place<Key, Id>): number {
    let [low, high] = [0, this.#chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const chunk = this.#chunks[middle];
      const last = (chunk?.ids.length ?? 0) - 1;
      if (chunk !== undefined && isBefore(chunk, last, place)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function firstIndex<Key extends number | string, Id extends string>(
  chunk: Chunk<Key, Id>,
  after: Place<Key, Id> | null,
  isDescending: boolean,
): number {
  if (after === null) return isDescending ? chunk.ids.length - 1 : 0;
  const index = indexIn(chunk, after);
  if (isDescending) return index - 1;
  return chunk.keys[index] === after.key && chunk.ids[index] === after.id ? index + 1 : index;
}

/** The index of the first entry that is not before the place. */
function indexIn<Key extends number | string, Id extends string>(chunk: Chunk<Key, Id>, place: Place<Key, Id>): number {
  let [low, high] = [0, chunk.ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(chunk, middle, place)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isBefore<Key extends number | string, Id extends string>(
  { keys, ids }: Chunk<Key, Id>,
  at: number,
  { key, id }: Place<Key, Id>,
): boolean {
  const own = keys[at] as Key;
  return own < key || (own === key && (ids[at] as Id) < id);
}
