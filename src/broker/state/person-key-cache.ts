/**
 * Person key cache: unwrapped keys of the people that commands are about, in memory only and bounded. Pure. The caller
 * loads missing keys from the log's key table.
 */
import { type PersonKey, type Recorded, type UserId, unwrapKey, type WrappedKey } from "../../events/index.ts";
import { personKeyWrap } from "../../replication/wire/index.ts";
import { createGrowingCache } from "./growing-cache.ts";

const keysMax = 100_000;

export type PersonKeyCache = Readonly<{
  get: (userId: UserId) => PersonKey | undefined;
  /** @returns the keys that unwrap; the others are wrapped under a secret that we do not have */
  learn: (wrapped: readonly WrappedKey[]) => readonly PersonKey[];
  put: (keys: readonly PersonKey[]) => void;
  /** Another epoch is open, perhaps of a log that has lost some of these keys. The log's key table has the others. */
  clear: () => void;
  /** Forgets the keys of people that these events erase. */
  follow: (events: readonly Recorded[]) => void;
}>;

/** @param secrets the shared secret, then the previous one while it is being replaced */
export function createPersonKeyCache(secrets: readonly Uint8Array[]): PersonKeyCache {
  const wrappingKeys = secrets.map(personKeyWrap);
  const keys = createGrowingCache<UserId, PersonKey>(keysMax);

  function unwrap(wrapped: WrappedKey): PersonKey | undefined {
    for (const wrappingKey of wrappingKeys) {
      try {
        return unwrapKey(wrapped, wrappingKey);
      } catch {
        // wrapped under another secret: the next one may open it
      }
    }
    return undefined;
  }
  const put = (all: readonly PersonKey[]): void => {
    for (const key of all) keys.set(key.userId, key);
  };

  return {
    get: (userId) => keys.get(userId),
    learn(wrapped) {
      const unwrapped = wrapped.map(unwrap).filter((key) => key !== undefined);
      put(unwrapped);
      return unwrapped;
    },
    put,
    clear: () => keys.clear(),
    follow(events) {
      for (const { event } of events) if (event.type === "UserErased") keys.delete(event.userId);
    },
  };
}
