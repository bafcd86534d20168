/**
 * Growing cache: remembers what was used last, takes memory as it fills, and costs little more than a `Map`. Pure.
 */
import { GenerationalCache } from "../../events/index.ts";

/** @param max how many entries it surely remembers; twice as many at most */
export function growingCache<Key, Value>(max: number): GenerationalCache<Key, Value> {
  return new GenerationalCache(max * 2);
}
