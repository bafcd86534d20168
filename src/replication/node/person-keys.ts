/**
 * Person keys: opens the personal data of the people whose keys this process holds.
 *
 * Keys arrive wrapped, beside the log, and are unwrapped when first needed. What was opened is remembered as long as
 * the sealed value it came from lives and the key is held; dropping a key forgets both. Pure.
 */
import {
  open,
  type PersonKey,
  type Profile,
  parseProfile,
  type Sealed,
  type UserId,
  unwrapKey,
  type WrappedKey,
} from "../../events/index.ts";
import { personKeyWrap } from "../wire/cluster-keys.ts";

type Held = {
  readonly wrapped: WrappedKey;
  /** Null: it does not unwrap under any secret we have. */
  key: PersonKey | null | undefined;
  /** Made when something is first opened: most of a hundred thousand people never ask for anything here. */
  opened: WeakMap<Sealed, Profile> | undefined;
};

export type PersonKeys = Readonly<{
  add(keys: readonly WrappedKey[]): void;
  drop(userId: UserId): void;
  /** Undefined when the key is gone, unknown, or not the one it was sealed with. */
  open(sealed: Sealed, userId: UserId): Profile | undefined;
  counts(): Readonly<{ keys: number; failures: number }>;
}>;

/** @param secrets the shared secret, then the previous one while it is being replaced */
export function createPersonKeys(secrets: readonly Uint8Array[]): PersonKeys {
  const wrappingKeys = secrets.map(personKeyWrap);
  const held = new Map<UserId, Held>();
  let failures = 0;

  function unwrap(wrapped: WrappedKey): PersonKey | null {
    for (const wrappingKey of wrappingKeys) {
      try {
        return unwrapKey(wrapped, wrappingKey);
      } catch {
        // wrapped under another secret: the next one may open it
      }
    }
    failures += 1;
    return null;
  }

  return {
    add(keys) {
      for (const { userId, keyId, wrapped } of keys) {
        const before = held.get(userId);
        if (before !== undefined && before.key !== null && sameBytes(before.wrapped.keyId, keyId)) continue;
        // Copies: what came in is a window onto a whole page or batch, and would keep it in memory.
        const own = { userId, keyId: Uint8Array.from(keyId), wrapped: Uint8Array.from(wrapped) };
        held.set(userId, { wrapped: own, key: undefined, opened: undefined });
      }
    },
    drop(userId) {
      held.delete(userId);
    },
    open(sealed, userId) {
      const entry = held.get(userId);
      if (entry === undefined) return undefined;
      const known = entry.opened?.get(sealed);
      if (known !== undefined) return known;
      entry.key ??= entry.key === undefined ? unwrap(entry.wrapped) : null;
      if (entry.key === null) return undefined;
      try {
        const profile = parseProfile(open(sealed, entry.key));
        if (profile === undefined) return undefined;
        entry.opened ??= new WeakMap();
        entry.opened.set(sealed, profile);
        return profile;
      } catch {
        failures += 1;
        return undefined;
      }
    },
    counts: () => ({ keys: held.size, failures }),
  };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
