/**
 * Generational cache: the entries used most recently, by key, bounded. Two generations: when the young one is full it becomes the old one, and what was old is
 * forgotten. Every call costs the same: taking the eldest key out of a full `Map` one by one walks past all that were taken out before.
 *
 * Between `max` / 2 and `max` of the newest are remembered; one that is asked for again is young again. Pure.
 */
export class GenerationalCache<Key, Value> {
  readonly #generationMax: number;
  readonly #weigh: (value: Value) => number;
  #youngWeight = 0;
  #young = new Map<Key, Value>();
  #old = new Map<Key, Value>();

  /** @param weigh what a value takes of `max`; absent: each entry takes one */
  constructor(max: number, weigh: (value: Value) => number = () => 1) {
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
    if (young !== undefined) this.#youngWeight -= this.#weigh(young);
    this.#young.delete(key);
    this.#old.delete(key);
  }

  /** Oldest generation first; counts as no use. */
  keys(): ReadonlySet<Key> {
    return new Set([...this.#old.keys(), ...this.#young.keys()]);
  }

  clear(): void {
    this.#young.clear();
    this.#youngWeight = 0;
    this.#old.clear();
  }
}
