/**
 * Growing cache: remembers what was used last, takes memory as it fills, and costs little more than a `Map`.
 *
 * Two generations: what is used moves into the young one, and when that is full the old one is forgotten as a whole. So the newest
 * `max` entries are always there, and never more than twice as many. Pure.
 */
export class GrowingCache<Key extends {}, Value extends {}> {
  readonly #max: number;
  #young = new Map<Key, Value>();
  #old = new Map<Key, Value>();

  /** @param max so many are surely remembered */
  constructor(max: number) {
    this.#max = max;
  }

  get(key: Key): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: Key, value: Value): void {
    if (this.#young.size >= this.#max && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }

  delete(key: Key): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }
}

/** @param max how many entries it surely remembers; twice as many at most */
export function growingCache<Key extends {}, Value extends {}>(max: number): GrowingCache<Key, Value> {
  return new GrowingCache(max);
}
