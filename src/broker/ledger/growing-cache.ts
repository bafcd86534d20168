/** Growing cache: an LRU cache that takes memory as it fills. One with a `max` takes all of it at once, which a broker's start would wait for. */
import { LRUCache } from "lru-cache";

/** @param max how many entries it holds at most */
export function growingCache<Key extends {}, Value extends {}>(max: number): LRUCache<Key, Value> {
  return new LRUCache({ maxSize: max, sizeCalculation: () => 1 });
}
