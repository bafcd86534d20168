/**
 * End index: the ends of rights and suspensions that end by themselves. Pure.
 *
 * It holds only what has an end, so everything else costs no bytes. A look for something that has ended costs nothing
 * until the earliest end; then it reads all ends once.
 */
import type { UnixMs } from "../ids.ts";

export class EndIndex<Key> {
  readonly #ends = new Map<Key, UnixMs>();
  /** No end is earlier. */
  #earliest = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#ends.size;
  }

  /** @param until undefined: it has no end, or is gone */
  set(key: Key, until: UnixMs | undefined): void {
    if (until === undefined) {
      this.#ends.delete(key);
      return;
    }
    this.#ends.set(key, until);
    this.#earliest = Math.min(this.#earliest, until);
  }

  /** Keys whose end has come, at most `limit`. */
  ended(now: UnixMs, limit: number): Key[] {
    const ended: Key[] = [];
    if (now < this.#earliest) return ended;
    let earliest = Number.POSITIVE_INFINITY;
    for (const [key, until] of this.#ends) {
      earliest = Math.min(earliest, until);
      if (until > now) continue;
      ended.push(key);
      if (ended.length >= limit) return ended;
    }
    this.#earliest = earliest;
    return ended;
  }
}
