/**
 * Growing cache: remembers what was used last, takes memory as it fills, and costs little more than a `Map`. Pure.
 */
import { Recent } from "../../events/index.ts";

/** @param max how many entries it surely remembers; twice as many at most */
export function growingCache<Key, Value>(max: number): Recent<Key, Value> {
  return new Recent(max * 2);
}
