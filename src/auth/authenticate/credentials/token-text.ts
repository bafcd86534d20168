/**
 * Token text: one text for each token, and what a token says that nobody has verified here.
 *
 * What verifies is not a text but what it decodes to. Lenient base64url (spaces, padding, bits that say nothing) is
 * many texts of one token, and ECDSA has two signatures for everything it signs: a revoked token must not come back in
 * another spelling. Pure.
 */
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";
import type { UnixMs } from "../../../events/index.ts";

/** The orders of P-256, P-384 and P-521 (SEC 2), by the algorithms that sign with them. */
const orders: Readonly<Record<string, bigint>> = {
  ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  ES384: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  ES512:
    0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
};

/** @returns undefined: it is not written as strictly as whoever makes tokens writes them */
export function tokenText(token: string): string | undefined {
  if (!/^[\x21-\x7e]+$/.test(token)) return undefined;
  const parts = token.split(".");
  const algorithm = algorithmOf(parts[0] ?? "");
  if (algorithm === undefined) return token; // its owner's secret, and no more than that
  if (parts.length !== 3 && parts.length !== 5) return undefined;
  if (!parts.every((part) => Buffer.from(part, "base64url").toString("base64url") === part)) return undefined;
  const [header = "", claims = "", signature = ""] = parts;
  const order = parts.length === 3 && Object.hasOwn(orders, algorithm) ? orders[algorithm] : undefined;
  return order === undefined ? token : `${header}.${claims}.${withLowerHalf(signature, order)}`;
}

/** Of s and order − s the lower one. */
function withLowerHalf(signature: string, order: bigint): string {
  const hex = Buffer.from(signature, "base64url").toString("hex");
  const half = hex.length / 2;
  const s = BigInt(`0x${hex.slice(half) || "0"}`);
  const lower = s * 2n > order && s < order ? order - s : s;
  return hex.slice(0, half) + lower.toString(16).padStart(half, "0");
}

/** Undefined: it is the header of no JWT. */
function algorithmOf(header: string): string | undefined {
  try {
    return decodeProtectedHeader({ protected: header }).alg;
  } catch {
    return undefined;
  }
}

export function unverifiedClaims(token: string): JWTPayload | undefined {
  try {
    return decodeJwt(token);
  } catch {
    return undefined;
  }
}

export function hasAudience({ aud }: JWTPayload, audiences: readonly string[]): boolean {
  return (Array.isArray(aud) ? aud : [aud]).some((one) => typeof one === "string" && audiences.includes(one));
}

/** When a token says that it was made. */
export function issuedAtOf({ iat }: JWTPayload): UnixMs | null {
  return typeof iat === "number" ? (Math.floor(iat * 1_000) as UnixMs) : null;
}
