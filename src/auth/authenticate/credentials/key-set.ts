/**
 * Key set: an issuer's public keys (jose). They are fetched at first use, and again when a token names an unknown key,
 * at a bounded rate.
 */
import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from "jose";
import type { IssuerFetch } from "../provider/issuer-fetch.ts";

export type KeySet = JWTVerifyGetKey;
/** `coolingDown`: it was fetched less than half a minute ago, and is not fetched for an unknown key now. */
export type RemoteKeySet = ReturnType<typeof createRemoteJWKSet>;

const timeoutMs = 10_000;
const cooldownMs = 30_000;

export function createKeySet(url: URL, local: IssuerFetch): RemoteKeySet {
  return createRemoteJWKSet(url, {
    timeoutDuration: timeoutMs,
    cooldownDuration: cooldownMs,
    [customFetch]: local.fetch as never, // undici's own types of the same fetch
  });
}
