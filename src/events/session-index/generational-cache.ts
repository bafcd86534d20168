/**
 * Generational cache: a bounded cache of recently used entries. Pure.
 *
 * - Two generations: a full young one becomes the old one, and the previous old one is dropped. A hit makes an entry
 *   young again.
 * - It holds between `max` / 2 and `max` of the most recently used entries.
 * - Every call has constant cost. Evicting single keys from a full `Map` would iterate over all previously deleted
 *   keys.
 */
export class GenerationalCache<Key, Value> {
  readonly #generationMax: number;
  /** Null: each value uses 1. */
  readonly #weigh: ((value: Value) => number) | null;
  #youngWeight = 0;
  #young = new Map<Key, Value>();
  #old = new Map<Key, Value>();

  /** @param weigh the share of `max` that a value uses; by default 1 */
  constructor(max: number, weigh: ((value: Value) => number) | null = null) {
    this.#generationMax = Math.max(1, Math.floor(max / 2));
    this.#weigh = weigh;
  }

  get(key: Key): Value | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: Key, value: Value): void {
    if (this.#weigh === null) {
      this.#young.set(key, value); // the most frequent case, with one lookup
      if (this.#young.size > this.#generationMax) {
        this.#young.delete(key);
        this.#old = this.#young;
        this.#young = new Map([[key, value]]);
      }
      return;
    }
    const before = this.#young.get(key);
    const added = this.#weigh(value) - (before === undefined ? 0 : this.#weigh(before));
    if (this.#youngWeight > 0 && this.#youngWeight + added > this.#generationMax) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngWeight = this.#weigh(value);
    } else this.#youngWeight += added;
    this.#young.set(key, value);
  }

  delete(key: Key): void {
    const young = this.#young.get(key);
    if (young !== undefined && this.#weigh !== null) this.#youngWeight -= this.#weigh(young);
    this.#young.delete(key);
    this.#old.delete(key);
  }

  /** Old generation first. Does not count as a use. */
  keys(): ReadonlySet<Key> {
    return new Set([...this.#old.keys(), ...this.#young.keys()]);
  }

  clear(): void {
    this.#young.clear();
    this.#youngWeight = 0;
    this.#old.clear();
  }
}
