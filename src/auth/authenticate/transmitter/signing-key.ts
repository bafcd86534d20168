/**
 * Signing key of our security events: RSA with 2,048 bits, because the CAEP
 * interoperability profile demands RS256. It is derived from the shared secret, so every process has it and none
 * stores it.
 *
 * - While the secret is being replaced, the key set also has the key of the previous one.
 * - A signature of RS256 follows from its input alone, so a repeated token has the same bytes.
 */
import { checkPrime, createPrivateKey, hkdfSync, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { calculateJwkThumbprint, SignJWT } from "jose";
import { setType } from "../../shared-signals/index.ts";

export type EventSigner = Readonly<{
  /** The public keys, the current one first. */
  jwks: Readonly<{ keys: readonly object[] }>;
  sign: (claims: Readonly<Record<string, unknown>>) => Promise<string>;
}>;

export type SigningKey = Readonly<{ kid: string; key: KeyObject; jwk: object }>;

const bits = 2_048;
const exponent = 65_537n;
const isPrime = promisify<bigint, boolean>(checkPrime);

/** @param seeds derived from the secrets, the current one first */
export async function createEventSigner(seeds: readonly Uint8Array[]): Promise<EventSigner> {
  const keys = await Promise.all(seeds.map(deriveSigningKey));
  const [current] = keys;
  if (current === undefined) throw new TypeError("no secret to derive the signing key from");
  const header = { alg: "RS256", typ: setType, kid: current.kid };
  return {
    jwks: { keys: keys.map(({ jwk }) => jwk) },
    sign: (claims) => new SignJWT({ ...claims }).setProtectedHeader(header).sign(current.key),
  };
}

export async function deriveSigningKey(seed: Uint8Array): Promise<SigningKey> {
  const p = await derivePrime(seed, "p");
  const q = await derivePrime(seed, "q");
  const d = inverse(exponent, ((p - 1n) * (q - 1n)) / gcd(p - 1n, q - 1n));
  const n = p * q;
  const [dp, dq, qi] = [d % (p - 1n), d % (q - 1n), inverse(q, p)];
  const numbers = { n, e: exponent, d, p, q, dp, dq, qi };
  const jwk = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, base64urlOf(value)]));
  const key = createPrivateKey({ key: { kty: "RSA", ...jwk }, format: "jwk" });
  const open = { kty: "RSA", n: base64urlOf(n), e: base64urlOf(exponent) };
  const kid = await calculateJwkThumbprint(open);
  return { kid, key, jwk: { ...open, kid, alg: "RS256", use: "sig" } };
}

/** The first suitable prime at or after a derived number. Its two highest bits are set, so the product has all bits. */
async function derivePrime(seed: Uint8Array, name: "p" | "q"): Promise<bigint> {
  const bytes = hkdfSync("sha256", seed, "", `cardea rsa ${bits} ${name}`, bits / 16);
  let candidate = BigInt(`0x${Buffer.from(bytes).toString("hex")}`) | (3n << BigInt(bits / 2 - 2)) | 1n;
  while (!hasNoSmallFactor(candidate) || candidate % exponent === 1n || !(await isPrime(candidate))) candidate += 2n;
  return candidate;
}

/** Most candidates fail here, without a call. */
const smallPrimes = primesBelow(2_000).slice(1);
function hasNoSmallFactor(candidate: bigint): boolean {
  return smallPrimes.every((prime) => candidate % prime !== 0n);
}

function primesBelow(limit: number): readonly bigint[] {
  const found: number[] = [];
  for (let n = 2; n < limit; n++) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found.map(BigInt);
}

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y > 0n) [x, y] = [y, x % y];
  return x;
}

/** @param modulus has no common factor with the value */
function inverse(value: bigint, modulus: bigint): bigint {
  let [r, before] = [value % modulus, modulus];
  let [x, xBefore] = [1n, 0n];
  while (r > 1n) {
    const quotient = before / r;
    [before, r] = [r, before - quotient * r];
    [xBefore, x] = [x, xBefore - quotient * x];
  }
  return ((x % modulus) + modulus) % modulus;
}

function base64urlOf(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex").toString("base64url");
}
