/**
 * Token text: the canonical text of a token, and its unverified claims.
 *
 * Verification accepts several texts of one token: lenient base64url (spaces, padding, unused bits), and the two ECDSA
 * signatures of any content. A revoked token must not be accepted in another spelling, so only one text is. Pure.
 */
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";
import type { UnixMs } from "../../../events/index.ts";

/** The orders of P-256, P-384 and P-521 (SEC 2), by JWS algorithm. */
const orders: Readonly<Record<string, bigint>> = {
  ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  ES384: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
  ES512:
    0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
};

/** @returns undefined: not strict base64url, as issuers write tokens */
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

/** Replaces s by the lower of s and order − s. */
function withLowerHalf(signature: string, order: bigint): string {
  const hex = Buffer.from(signature, "base64url").toString("hex");
  const half = hex.length / 2;
  const s = BigInt(`0x${hex.slice(half) || "0"}`);
  const lower = s * 2n > order && s < order ? order - s : s;
  return hex.slice(0, half) + lower.toString(16).padStart(half, "0");
}

/** Undefined: not the header of a JWT. */
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

/** Issue time of a token (`iat`); null: none. */
export function issuedAtOf({ iat }: JWTPayload): UnixMs | null {
  return typeof iat === "number" ? (Math.floor(iat * 1_000) as UnixMs) : null;
}
