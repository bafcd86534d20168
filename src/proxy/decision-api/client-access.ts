/**
 * Client access: the clients that may use the decision API, proxies by their address and others by a key. Pure.
 *
 * By default no client may. Keys are compared in constant time, and all keys are compared each time.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { matcherOfBlocks } from "../../auth/index.ts";
import type { DecisionApiConfig } from "../../config/index.ts";

export type ClientAccess = Readonly<{
  /** Whether the address is a proxy whose description of a request is trusted. */
  isTrusted(address: string): boolean;
  /** @param authorization the header. @returns the name of the key in it */
  keyNameOf(authorization: string | undefined): string | undefined;
}>;

export function createClientAccess({
  trustedProxies,
  keys,
}: Pick<DecisionApiConfig, "trustedProxies" | "keys">): ClientAccess {
  const matcher = matcherOfBlocks(trustedProxies);
  if (matcher === undefined) throw new TypeError("decision_api.trusted_proxies");
  const known = Object.entries(keys).map(([name, key]) => ({ name, digest: digestOf(key) }));
  return {
    isTrusted: trustedProxies.length === 0 ? () => false : matcher.matches,
    keyNameOf(authorization) {
      const given = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
      if (given === undefined) return undefined;
      const digest = digestOf(given);
      return known.filter((key) => timingSafeEqual(key.digest, digest))[0]?.name;
    },
  };
}

function digestOf(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
