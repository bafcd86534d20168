/**
 * HS256: compact JWTs with an HMAC-SHA-256 (RFC 7515, RFC 7519), for the service tokens of this cluster alone.
 *
 * jose computes each HMAC in another thread, as WebCrypto requires. For a few hundred bytes that costs several times
 * the HMAC, and every call to a broker has one on both sides. So this computes it at once, and accepts less than the
 * standard allows: one algorithm, no critical headers, one spelling of each signature. Pure.
 */
import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";

export type Hs256Token = Readonly<{ kid: string; claims: Readonly<Record<string, unknown>> }>;

/** Longer than any service token, whatever it names. */
const charsMax = 8_192;
const compactForm = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$/;

export function signHs256({ kid, claims }: Hs256Token, key: KeyObject): string {
  const signed = `${encodePart({ alg: "HS256", kid })}.${encodePart(claims)}`;
  return `${signed}.${macOf(signed, key)}`;
}

/**
 * @param keysFor the keys to try for this key id, the current one first
 * @returns undefined when no key of its id has signed it, or it is not in this form
 */
export function openHs256(token: string, keysFor: (kid: string) => readonly KeyObject[]): Hs256Token | undefined {
  if (token.length > charsMax || !compactForm.test(token)) return undefined;
  const [head = "", body = "", mac = ""] = token.split(".");
  const header = decodePart(head);
  const kid = header?.["kid"];
  if (header?.["alg"] !== "HS256" || header["crit"] !== undefined || typeof kid !== "string") return undefined;
  const given = Buffer.from(mac, "latin1");
  const isSigned = keysFor(kid).some((key) =>
    timingSafeEqual(Buffer.from(macOf(`${head}.${body}`, key), "latin1"), given),
  );
  const claims = isSigned ? decodePart(body) : undefined;
  return claims === undefined ? undefined : { kid, claims };
}

function macOf(signed: string, key: KeyObject): string {
  return createHmac("sha256", key).update(signed, "latin1").digest("base64url");
}

function encodePart(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** @returns undefined for anything but a JSON object */
function decodePart(part: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // not JSON
  }
}
