/**
 * Key set: an issuer's public keys. They are fetched at first use, and again when a token names an unknown key, at a
 * bounded rate (document-cache.ts).
 */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from "jose";
import { type CacheLimits, createCachedDocument } from "../provider/document-cache.ts";
import type { IssuerFetch } from "../provider/issuer-fetch.ts";
import { ProviderError } from "../provider/provider-error.ts";

export type KeySet = JWTVerifyGetKey;
/** `coolingDown`: it was fetched less than half a minute ago, and is not fetched for an unknown key now. */
export type RemoteKeySet = ReturnType<typeof createRemoteJWKSet>;

const remoteTimeoutMs = 10_000;
const remoteCooldownMs = 30_000;

/** A key that the issuer has withdrawn is refused after `freshMs`; after `usableMs` if the issuer does not answer. */
export const keySetLimits: CacheLimits = {
  freshMs: 10 * 60_000,
  usableMs: 60 * 60_000,
  demandedEveryMs: 10_000,
  firstPauseMs: 1_000,
  pauseMsMax: 60_000,
};

export function createKeySet(url: () => Promise<URL>, local: IssuerFetch, monotonic: () => number): KeySet {
  const keys = createCachedDocument(async () => fetchKeys(await url(), local), { limits: keySetLimits, monotonic });
  return async (header, token) => {
    const known = await keys.read();
    try {
      return await known(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const newer = await keys.readNewer(known);
      if (newer === known) throw error;
      return newer(header, token);
    }
  };
}

function fetchKeys(url: URL, local: IssuerFetch): Promise<KeySet> {
  return readKeys(url, local).catch((cause: unknown): never => {
    throw new ProviderError("the issuer's keys could not be read", { kind: "silent" }, { cause });
  });
}

async function readKeys(url: URL, local: IssuerFetch): Promise<KeySet> {
  const response = await local.fetch(url, { headers: { accept: "application/jwk-set+json, application/json" } });
  if (response.status !== 200) throw new TypeError(`status ${response.status}`);
  return createLocalJWKSet((await response.json()) as JSONWebKeySet); // it checks the form
}

/** The keys of a transmitter of signals, whose client bounds the fetches after failures itself. */
export function createRemoteKeySet(url: URL, local: IssuerFetch): RemoteKeySet {
  return createRemoteJWKSet(url, {
    timeoutDuration: remoteTimeoutMs,
    cooldownDuration: remoteCooldownMs,
    [customFetch]: local.fetch as never, // undici's own types of the same fetch
  });
}
