/**
 * Vault: an identity provider's tokens of one session, sealed. They are written in the event's transaction, read by
 * brokers, and never stand in the log. Pure.
 */
import { hash as digestOf } from "node:crypto";
import {
  open,
  type PersonKey,
  type ProviderTokens,
  type SessionId,
  seal,
  type UnixMs,
  type UserId,
} from "../../events/index.ts";
import type { VaultEntry } from "../../replication/index.ts";

const purpose = "tokens";

/** @param options.version grows with every refresh: the version of the session's stream */
export function sealTokens(
  tokens: ProviderTokens,
  options: Readonly<{ sessionId: SessionId; version: number; vaultKey: Uint8Array; nonce: Uint8Array }>,
): VaultEntry {
  const { sessionId, version } = options;
  const sealed = seal([purpose, sessionId, version, tokens], holder(sessionId, options.vaultKey), options.nonce);
  return { sessionId, version, sealed };
}

/** @returns undefined when no key opens it, or it was put in the place of another entry */
export function openTokens(entry: VaultEntry, vaultKeys: readonly Uint8Array[]): ProviderTokens | undefined {
  for (const vaultKey of vaultKeys) {
    try {
      const opened = open(entry.sealed, holder(entry.sessionId, vaultKey));
      if (!Array.isArray(opened) || opened[0] !== purpose || opened[1] !== entry.sessionId) return undefined;
      return opened[2] === entry.version ? parseTokens(opened[3]) : undefined;
    } catch {
      // sealed under another secret: the next one may open it
    }
  }
  return undefined;
}

/** Shapes a value as tokens; undefined when it is none. */
export function parseTokens(value: unknown): ProviderTokens | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const text = (name: string): string | null | undefined => {
    const field = fields[name];
    return field === null || typeof field === "string" ? field : undefined;
  };
  const accessToken = text("accessToken");
  const refreshToken = text("refreshToken");
  const idToken = text("idToken");
  const at = fields["accessTokenExpiresAt"];
  if (accessToken === undefined || refreshToken === undefined || idToken === undefined) return undefined;
  if (at !== null && !(typeof at === "number" && Number.isSafeInteger(at) && at >= 0)) return undefined;
  return { accessToken, refreshToken, idToken, accessTokenExpiresAt: at as UnixMs | null };
}

/** `seal` binds a value to a person; here it is bound to the session, under a key that only brokers derive. */
function holder(sessionId: SessionId, vaultKey: Uint8Array): PersonKey {
  const keyId = digestOf("sha256", vaultKey, "buffer").subarray(0, 8);
  return { userId: sessionId as string as UserId, keyId, key: vaultKey };
}
