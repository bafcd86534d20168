/** The keys of sign-in, each derived for its purpose; the current one first, then the one being replaced. */
import type { Config } from "../../config/index.ts";
import { deriveKey } from "../../replication/wire/index.ts";

export type AuthKeys = Readonly<{
  /** Signs the redirects between proxy and authenticate. */
  urls: readonly Uint8Array[];
  /** Signs session handles. */
  handles: readonly Uint8Array[];
  /** Seals handles on their way to the route's host. */
  handover: readonly Uint8Array[];
  /** Seals sign-in attempts in cookies of the authenticate host. */
  attempts: readonly Uint8Array[];
  /** Signs the states of verification requests to transmitters of signals. */
  verifications: readonly Uint8Array[];
  /** Derives session ids from bearer tokens. */
  bearers: Uint8Array;
  /** Derive the keys that sign security events. */
  signals: readonly Uint8Array[];
  /** Sign access tokens of receivers of signals. */
  signalTokens: readonly Uint8Array[];
}>;

export function authKeys(
  config: Pick<Config, "sharedSecret" | "sharedSecretPrevious" | "cookieSecret" | "cookieSecretPrevious">,
): AuthKeys {
  const ring = (current: Uint8Array, previous: Uint8Array | null, purpose: string): readonly Uint8Array[] =>
    [current, ...(previous === null ? [] : [previous])].map((secret) => deriveKey(secret, purpose));
  const shared = (purpose: string): readonly Uint8Array[] =>
    ring(config.sharedSecret, config.sharedSecretPrevious, purpose);
  return {
    urls: shared("signed urls"),
    handles: shared("session handles"),
    handover: shared("session handover"),
    verifications: shared("signal verification"),
    signals: shared("signal signing"),
    signalTokens: shared("signal access tokens"),
    bearers: deriveKey(config.sharedSecret, "bearer sessions"),
    attempts: ring(config.cookieSecret, config.cookieSecretPrevious, "sign-in attempts"),
  };
}
