/**
 * Person keys: the keys of people, with which this process opens their personal data.
 *
 * Keys arrive wrapped, beside the log, and are unwrapped when first needed. An opened value is cached as long as
 * its sealed value lives and the key is held; dropping a key drops both. Pure.
 */
import {
  type AccessRequest,
  open,
  openRequestWords,
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
  /** Undefined: not unwrapped yet. Null: no known secret unwraps it. */
  key: PersonKey | null | undefined;
  /** Created at the first open: most of a hundred thousand people never send a request here. */
  opened: WeakMap<Sealed, Profile> | undefined;
};

export type PersonKeys = Readonly<{
  add(keys: readonly WrappedKey[]): void;
  drop(userId: UserId): void;
  /** Undefined when the key was dropped, is unknown, or did not seal this value. */
  open(sealed: Sealed, userId: UserId): Profile | undefined;
  /** As `open`, for the words about an access request. Not cached. */
  openRequestWords(sealed: Sealed, about: Pick<AccessRequest, "requestId" | "userId">): string | undefined;
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

  /** Null: there is none, or no known secret unwraps it. */
  function keyOf(entry: Held | undefined): PersonKey | null {
    if (entry === undefined) return null;
    if (entry.key === undefined) entry.key = unwrap(entry.wrapped);
    return entry.key;
  }

  return {
    add(keys) {
      for (const { userId, keyId, wrapped } of keys) {
        const before = held.get(userId);
        if (before !== undefined && before.key !== null && sameBytes(before.wrapped.keyId, keyId)) continue;
        // Copies: the arguments are views of a whole page or batch and would keep it in memory.
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
      const key = keyOf(entry);
      if (key === null) return undefined;
      try {
        const profile = parseProfile(open(sealed, key));
        if (profile === undefined) return undefined;
        entry.opened ??= new WeakMap();
        entry.opened.set(sealed, profile);
        return profile;
      } catch {
        failures += 1;
        return undefined;
      }
    },
    openRequestWords(sealed, { requestId, userId }) {
      const key = keyOf(held.get(userId));
      if (key === null) return undefined;
      try {
        return openRequestWords(sealed, requestId, key);
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
