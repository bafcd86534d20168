/**
 * Recent: what was asked for lately, by key, bounded. Two generations: when the young one is full it becomes the old one, and what was old is
 * forgotten. Every call costs the same: taking the eldest key out of a full `Map` one by one walks past all that were taken out before.
 *
 * Between `max` / 2 and `max` of the newest are remembered; one that is asked for again is young again. Pure.
 */
export class Recent<Key, Value> {
  readonly #generationMax: number;
  #young = new Map<Key, Value>();
  #old = new Map<Key, Value>();

  constructor(max: number) {
    this.#generationMax = Math.max(1, Math.floor(max / 2));
  }

  get(key: Key): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: Key, value: Value): void {
    if (this.#young.size >= this.#generationMax && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }

  delete(key: Key): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }

  /** Oldest generation first; counts as no use. */
  keys(): ReadonlySet<Key> {
    return new Set([...this.#old.keys(), ...this.#young.keys()]);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }
}
