/**
 * Vault: the identity provider's tokens of one session, sealed. They are written in the event's transaction, read by
 * brokers, and never in the log. Pure.
 */
import { hash as digestOf } from "node:crypto";
import {
  isPlainText,
  open,
  type PersonKey,
  type Presentation,
  type ProviderTokens,
  parseEpoch,
  parseUnixMs,
  type SessionId,
  type StoredSignalStream,
  seal,
  type UnixMs,
  type UserId,
  type VaultedTokens,
} from "../../events/index.ts";
import type { VaultEntry } from "../../replication/log/index.ts";

const purpose = "tokens";
const signalPurpose = "signal stream";

/** Its row in the vault. The space keeps it apart from every session id. */
export const signalVaultId = (receiver: string): SessionId => `signal stream ${receiver}` as SessionId;

/** @param entry its version grows with every write: the version of the session's stream */
export function sealTokens(
  { version, tokens, obtainedIn, presentation }: VaultedTokens,
  { sessionId, vaultKey, nonce }: Readonly<{ sessionId: SessionId; vaultKey: Uint8Array; nonce: Uint8Array }>,
): VaultEntry {
  // Older builds read the first four and ignore the rest.
  const parts = [purpose, sessionId, version, tokens, { obtainedIn, presentation }];
  return { sessionId, version, sealed: seal(parts, holder(sessionId, vaultKey), nonce) };
}

/** @returns undefined: no key opens it, or it was stored under another session or version */
export function openVault(entry: VaultEntry | undefined, vaultKeys: readonly Uint8Array[]): VaultedTokens | undefined {
  if (entry === undefined) return undefined;
  for (const vaultKey of vaultKeys) {
    try {
      const opened = open(entry.sealed, holder(entry.sessionId, vaultKey));
      if (!Array.isArray(opened) || opened[0] !== purpose || opened[1] !== entry.sessionId) return undefined;
      const tokens = opened[2] === entry.version ? parseTokens(opened[3]) : undefined;
      return tokens && { version: entry.version, tokens, ...parseUse(opened[4]) };
    } catch {
      // sealed under another secret: the next one may open it
    }
  }
  return undefined;
}

/** @returns the tokens alone */
export function openTokens(entry: VaultEntry, vaultKeys: readonly Uint8Array[]): ProviderTokens | undefined {
  return openVault(entry, vaultKeys)?.tokens;
}

export function sealSignalStream(
  { version, record }: Pick<StoredSignalStream, "version" | "record">,
  { receiver, vaultKey, nonce }: Readonly<{ receiver: string; vaultKey: Uint8Array; nonce: Uint8Array }>,
): VaultEntry {
  const sessionId = signalVaultId(receiver);
  const parts = [signalPurpose, sessionId, version, record];
  return { sessionId, version, sealed: seal(parts, holder(sessionId, vaultKey), nonce) };
}

/** @returns undefined: no key opens it, or it was stored for another receiver or version */
export function openSignalStream(
  entry: VaultEntry | undefined,
  vaultKeys: readonly Uint8Array[],
): StoredSignalStream | undefined {
  if (entry === undefined) return undefined;
  for (const [index, vaultKey] of vaultKeys.entries()) {
    try {
      const opened = open(entry.sealed, holder(entry.sessionId, vaultKey));
      if (!Array.isArray(opened) || opened[0] !== signalPurpose || opened[1] !== entry.sessionId) return undefined;
      const record: unknown = opened[3];
      const isCurrent = opened[2] === entry.version && typeof record === "string";
      return isCurrent ? { version: entry.version, record, outdated: index > 0 } : undefined;
    } catch {
      // sealed under another secret: the next one may open it
    }
  }
  return undefined;
}

/** @throws if it is malformed: an entry with an unreadable intent is not used */
function parseUse(value: unknown): Pick<VaultedTokens, "obtainedIn" | "presentation"> {
  if (value === undefined) return { obtainedIn: null, presentation: null };
  const { obtainedIn, presentation } = value as Readonly<Record<string, unknown>>;
  return {
    obtainedIn: obtainedIn === null ? null : parseEpoch(obtainedIn),
    presentation: presentation === null ? null : parsePresentation(presentation as Readonly<Record<string, unknown>>),
  };
}

function parsePresentation(fields: Readonly<Record<string, unknown>>): Presentation {
  const tokenVersion = fields["tokenVersion"];
  if (typeof tokenVersion !== "number") throw new TypeError("an intent without a version");
  return { tokenVersion, epoch: parseEpoch(fields["epoch"]), deadline: parseUnixMs(fields["deadline"]) };
}

/** Undefined: the value is not tokens. */
export function parseTokens(value: unknown): ProviderTokens | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const text = (name: string): string | null | undefined => {
    const field = fields[name];
    return field === null || (typeof field === "string" && isPlainText(field)) ? field : undefined;
  };
  const accessToken = text("accessToken");
  const refreshToken = text("refreshToken");
  const idToken = text("idToken");
  const at = fields["accessTokenExpiresAt"];
  if (accessToken === undefined || refreshToken === undefined || idToken === undefined) return undefined;
  if (at !== null && !(typeof at === "number" && Number.isSafeInteger(at) && at >= 0)) return undefined;
  return { accessToken, refreshToken, idToken, accessTokenExpiresAt: at as UnixMs | null };
}

/** The ids of the vault's keys, of which a broker has one or two. */
const keyIds = new WeakMap<Uint8Array, Uint8Array>();

/** `seal` binds a value to a person; here it is bound to the session, under a key that only brokers derive. */
function holder(sessionId: SessionId, vaultKey: Uint8Array): PersonKey {
  const keyId = keyIds.get(vaultKey) ?? digestOf("sha256", vaultKey, "buffer").subarray(0, 8);
  keyIds.set(vaultKey, keyId);
  return { userId: sessionId as string as UserId, keyId, key: vaultKey };
}
