/** Growing cache: keeps the most recently used entries, and takes memory only as it fills. Pure. */
import { GenerationalCache } from "../../events/index.ts";

/** @param max the number of entries that it surely keeps; it keeps twice as many at most */
export function createGrowingCache<Key, Value>(max: number): GenerationalCache<Key, Value> {
  return new GenerationalCache(max * 2);
}
