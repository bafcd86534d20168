/**
 * Value cipher: encrypts small values that a browser carries and must neither read nor change.
 *
 * JWE (dir, A256GCM) by jose. The purpose is authenticated with the value, so a value made for one use does not open
 * for another. Every value has a maximum age.
 */
import { CompactEncrypt, compactDecrypt } from "jose";
import { sealingKey } from "../../../replication/wire/index.ts";

export type ValueCipher = Readonly<{
  seal(purpose: string, value: unknown): Promise<string>;
  /** @returns undefined if it was not sealed here for this purpose, or is too old */
  open(purpose: string, text: string, maxAgeS: number): Promise<unknown>;
}>;

/** Seconds that the clock of the sealing process may be ahead of this one. */
const aheadMaxS = 60;
/** A longer text cannot be a sealed value. */
const textCharsMax = 16_384;

export function createValueCipher(options: { keys: readonly Uint8Array[]; nowS: () => number }): ValueCipher {
  const keys = options.keys.map(sealingKey);
  const [current] = keys;
  if (current === undefined) throw new TypeError("a value cipher needs a key");
  return {
    async seal(purpose, value) {
      const text = JSON.stringify({ value, iat: options.nowS() });
      return new CompactEncrypt(new TextEncoder().encode(text))
        .setProtectedHeader({ alg: "dir", enc: "A256GCM", typ: purpose })
        .encrypt(current);
    },
    async open(purpose, text, maxAgeS) {
      if (text.length > textCharsMax) return undefined;
      for (const key of keys) {
        try {
          const { plaintext, protectedHeader } = await compactDecrypt(text, key, {
            keyManagementAlgorithms: ["dir"],
            contentEncryptionAlgorithms: ["A256GCM"],
          });
          if (protectedHeader.typ !== purpose) return undefined;
          const opened: unknown = JSON.parse(new TextDecoder().decode(plaintext));
          if (typeof opened !== "object" || opened === null || !("iat" in opened) || !("value" in opened))
            return undefined;
          const age = options.nowS() - Number(opened.iat);
          return age >= -aheadMaxS && age <= maxAgeS ? opened.value : undefined;
        } catch {
          // sealed with another key, or not a sealed value
        }
      }
      return undefined;
    },
  };
}
