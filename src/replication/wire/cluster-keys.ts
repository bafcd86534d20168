/**
 * Cluster keys: keys derived from the shared secret (HKDF-SHA256), each for one purpose.
 *
 * A derived key reveals nothing about another. Brokers and nodes enrol under different roots, so a process that has
 * only the enrolment key of the proxy cannot act as a broker. Pure.
 */
import { createPrivateKey, createPublicKey, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";

export type Role = "broker" | "proxy" | "authorize" | "authenticate" | "operator";

const saltOfCardea = Buffer.from("cardea");

/** Derives 32 bytes for one purpose. The purpose is a fixed text in the code, never input. */
export function deriveKey(secret: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, saltOfCardea, purpose, 32));
}

/** Wraps people's keys (src/events/seal.ts). */
export const personKeyWrap = (secret: Uint8Array): Uint8Array => deriveKey(secret, "person key wrap");
/** Seals identity-provider tokens in the vault. */
export const vaultKey = (secret: Uint8Array): Uint8Array => deriveKey(secret, "token vault");
/** Signs the service token of one role. */
export const serviceTokenKey = (secret: Uint8Array, role: Role): Uint8Array =>
  deriveKey(secret, `service token ${role}`);

/** A key for HS256 (hs256.ts). */
export const hmacKey = (bytes: Uint8Array): KeyObject => createSecretKey(bytes);
/** A key for A256GCM, imported once: jose imports bytes again for each use. @param bytes 32 */
export const sealingKey = (bytes: Uint8Array): CryptoKey =>
  createSecretKey(bytes).toCryptoKey("AES-GCM", false, ["encrypt", "decrypt"]);

/** PKCS#8 of an Ed25519 private key is this prefix and the 32-byte seed (RFC 8410 §7). */
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex");

export type SigningPair = Readonly<{ privateKey: KeyObject; publicKey: KeyObject }>;

export function signingPairFromSeed(seed: Uint8Array): SigningPair {
  const privateKey = createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: "der", type: "pkcs8" });
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/** The root under which processes of a role enrol their own keys. */
export const enrolmentRoot = (secret: Uint8Array, role: Role): SigningPair =>
  signingPairFromSeed(deriveKey(secret, `enrolment ${role}`));

/** Signs checkpoints over the seals of audit records, for witnesses (docs/audit-proofs.md). */
export const auditCheckpointPair = (secret: Uint8Array): SigningPair =>
  signingPairFromSeed(deriveKey(secret, "audit checkpoint"));

/** SubjectPublicKeyInfo of an Ed25519 key is this prefix and the 32 raw bytes (RFC 8410 §4). */
const spkiPrefix = Buffer.from("302a300506032b6570032100", "hex");

export function rawPublicKey(key: KeyObject): Uint8Array {
  return Uint8Array.from(key.export({ format: "der", type: "spki" }).subarray(spkiPrefix.length));
}

export function publicKeyFromRaw(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiPrefix, raw]), format: "der", type: "spki" });
}
