/**
 * SCIM token: the credential of a SCIM client, recorded as a service account whose id has the client, the token's own
 * id and the hash of its secret. Pure.
 *
 * The secret itself has 32 random bytes and is never stored, so a fast hash protects it.
 */
import { hash as digestOf, timingSafeEqual } from "node:crypto";
import { type Hash, parseHash, type ServiceAccountId, type UserId } from "./ids.ts";
import type { ServiceAccount } from "./projection/state.ts";
import { isScimClientName } from "./provisioned.ts";

export const scimScopes = ["users:read", "users:write", "groups:read", "groups:write"] as const;
export type ScimScope = (typeof scimScopes)[number];

export type ScimToken = Readonly<{
  client: string;
  tokenId: string;
  secretHash: Hash;
  scopes: ReadonlySet<ScimScope>;
  account: ServiceAccount;
}>;

const tokenIdPattern = /^[a-z0-9]{8,32}$/;
const textPattern = /^cardea_scim_([a-z0-9]{8,32})_([A-Za-z0-9_-]{43})$/;

export const isScimTokenId = (text: string): boolean => tokenIdPattern.test(text);

/** @param secret 32 random bytes */
export function formatScimToken(tokenId: string, secret: Uint8Array): string {
  return `cardea_scim_${tokenId}_${Buffer.from(secret).toString("base64url")}`;
}

export function hashScimSecret(secret: string): Hash {
  return parseHash(digestOf("sha256", secret, "hex"));
}

export const secretIn = (token: string): string => textPattern.exec(token)?.[2] ?? "";

/** The token's id in what a caller presents; undefined: it has another shape. */
export function scimTokenIdIn(token: string): string | undefined {
  return textPattern.exec(token)?.[1];
}

/** Compares in constant time. */
export function isSecretOf(token: string, { secretHash }: ScimToken): boolean {
  return timingSafeEqual(Buffer.from(hashScimSecret(secretIn(token)), "hex"), Buffer.from(secretHash, "hex"));
}

export function scimAccount(of: Readonly<{ client: string; tokenId: string; secretHash: Hash }>): Readonly<{
  serviceAccountId: ServiceAccountId;
  userId: UserId;
}> {
  return {
    serviceAccountId: `scim:${of.client}:${of.tokenId}:${of.secretHash}` as ServiceAccountId,
    userId: `scim:${of.client}` as UserId,
  };
}

/** Undefined: the service account is none of a SCIM client. */
export function parseScimToken(account: ServiceAccount): ScimToken | undefined {
  const [kind, client = "", tokenId = "", secretHash = "", ...more] = account.serviceAccountId.split(":");
  if (kind !== "scim" || more.length > 0 || !isScimClientName(client) || !isScimTokenId(tokenId)) return undefined;
  if (!/^[0-9a-f]{64}$/.test(secretHash)) return undefined;
  const named = new Set(account.description.split(" "));
  const scopes = new Set(scimScopes.filter((scope) => named.has(scope)));
  return { client, tokenId, secretHash: parseHash(secretHash), scopes, account };
}
