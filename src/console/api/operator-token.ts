/**
 * Operator tokens: credentials of the command line and of automation for the operator API.
 *
 * Short-lived JWTs (HS256 by jose) under a key derived from the cluster's secret for this purpose alone. Anyone who can
 * read the secret can mint one (break-glass). Every use is logged with the token's name and id.
 */
import { jwtVerify, SignJWT } from "jose";
import { parseUnixMs, type UnixMs } from "../../events/index.ts";
import { deriveKey } from "../../replication/wire/index.ts";

export type OperatorToken = Readonly<{ name: string; tokenId: string; expiresAt: UnixMs }>;

const audience = (cluster: string): string => `cardea-operator:${cluster}`;
const keyOf = (secret: Uint8Array): Uint8Array => deriveKey(secret, "operator token");
/** The log records names as actors. */
const namePattern = /^[\w.@-]{1,100}$/;
const idPattern = /^[\w-]{1,64}$/;
const tokenCharsMax = 2_048;

export async function mintOperatorToken(options: {
  secret: Uint8Array;
  cluster: string;
  /** Letters, digits and `_.@-`. */
  name: string;
  tokenId: string;
  nowS: number;
  /** Lifetime in seconds. */
  ttlS: number;
}): Promise<string> {
  if (!namePattern.test(options.name) || !idPattern.test(options.tokenId))
    throw new TypeError("a token's name and id may contain only letters, digits and a few punctuation marks");
  return new SignJWT({})
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer(options.name)
    .setAudience(audience(options.cluster))
    .setJti(options.tokenId)
    .setIssuedAt(options.nowS)
    .setExpirationTime(options.nowS + options.ttlS)
    .sign(keyOf(options.secret));
}

/** @param secrets the current one first, older ones during a rotation */
export async function verifyOperatorToken(
  token: string,
  options: { secrets: readonly Uint8Array[]; cluster: string; nowS: number },
): Promise<OperatorToken | undefined> {
  if (token.length > tokenCharsMax) return undefined;
  for (const secret of options.secrets) {
    try {
      const { payload } = await jwtVerify(token, keyOf(secret), {
        algorithms: ["HS256"],
        audience: audience(options.cluster),
        currentDate: new Date(options.nowS * 1_000),
        requiredClaims: ["exp", "jti", "iss"],
      });
      const { iss: name = "", jti: tokenId = "", exp = 0 } = payload;
      if (!namePattern.test(name) || !idPattern.test(tokenId)) return undefined;
      return { name, tokenId, expiresAt: parseUnixMs(Math.floor(exp * 1_000)) };
    } catch {
      // another secret, another purpose, or expired
    }
  }
  return undefined;
}
