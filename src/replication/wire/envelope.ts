/**
 * Envelope: who said it. Every batch, grant, renew, confirmation and goodbye travels in one.
 *
 * An envelope is a MessagePack array: version, kind, certificate, the root's signature on it, payload, and the sender's
 * signature on (kind, certificate, payload). The certificate binds a fresh Ed25519 key to cluster, role, name, boot and,
 * for a broker, to its epoch and incarnation. A message that links but is not authenticated is dropped and counted: a
 * link proves continuity, not origin. Pure; keys and payloads are arguments.
 */
import { createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import {
  type BootId,
  decode,
  type Epoch,
  encode,
  type Incarnation,
  parseBootId,
  parseEpoch,
} from "../../events/index.ts";
import type { Role, SigningPair } from "./cluster-keys.ts";

export type MessageKind = "batch" | "grant" | "grant-by-age" | "renew" | "confirm" | "goodbye" | "snapshot" | "answer";

export type Certificate = Readonly<{
  cluster: string;
  role: Role;
  name: string;
  boot: BootId;
  /** Of the epoch a broker leads; 0 and "" for everybody else. */
  epoch: Epoch;
  incarnation: Incarnation | "";
  /** Raw Ed25519 public key, 32 bytes. */
  publicKey: Uint8Array;
}>;

/** A process's right to speak: its certificate, the root's signature on it, and the private key. */
export type Speaker = Readonly<{
  certificate: Certificate;
  certificateBytes: Uint8Array;
  rootSignature: Uint8Array;
  privateKey: KeyObject;
}>;

export type Opened = Readonly<{ kind: MessageKind; from: Certificate; payload: Uint8Array }>;

export type RefusedMessage = Readonly<{ refused: string }>;

/** Enrols a key: signs its certificate with the root of its role. */
export function enrol(identity: Omit<Certificate, "publicKey">, pair: SigningPair, root: SigningPair): Speaker {
  const publicKey = rawPublicKey(pair.publicKey);
  const certificate: Certificate = { ...identity, publicKey };
  const certificateBytes = encode([
    "cardea certificate",
    certificate.cluster,
    certificate.role,
    certificate.name,
    certificate.boot,
    certificate.epoch,
    certificate.incarnation,
    publicKey,
  ]);
  return {
    certificate,
    certificateBytes,
    rootSignature: sign(null, certificateBytes, root.privateKey),
    privateKey: pair.privateKey,
  };
}

export function sealEnvelope(speaker: Speaker, kind: MessageKind, payload: Uint8Array): Uint8Array {
  const signature = sign(null, signedBytes(kind, speaker.certificateBytes, payload), speaker.privateKey);
  return encode([1, kind, speaker.certificateBytes, speaker.rootSignature, payload, signature]);
}

/**
 * Opens envelopes of one cluster. Keeps the certificates it has verified (bounded) so that a message costs one signature check.
 * @param rootOf the public root of a role; undefined for roles that may not speak here
 */
export function createEnvelopeOpener(options: {
  cluster: string;
  rootOf: (role: Role) => KeyObject | undefined;
  certificatesMax?: number;
}): (bytes: Uint8Array) => Opened | RefusedMessage {
  const known = new Map<string, Readonly<{ certificate: Certificate; key: KeyObject }>>();
  const certificatesMax = options.certificatesMax ?? 10_000;

  function certificateOf(
    bytes: Uint8Array,
    rootSignature: Uint8Array,
  ): { certificate: Certificate; key: KeyObject } | string {
    const cacheKey = Buffer.concat([bytes, rootSignature]).toString("base64");
    const hit = known.get(cacheKey);
    if (hit !== undefined) return hit;
    const certificate = parseCertificate(bytes);
    if (certificate === undefined) return "malformed certificate";
    if (certificate.cluster !== options.cluster) return "another cluster";
    const root = options.rootOf(certificate.role);
    if (root === undefined) return `role ${certificate.role} may not speak here`;
    if (!verify(null, bytes, root, rootSignature)) return "certificate not signed by this cluster";
    const entry = { certificate, key: publicKeyFromRaw(certificate.publicKey) };
    if (known.size >= certificatesMax) known.delete(known.keys().next().value ?? "");
    known.set(cacheKey, entry);
    return entry;
  }

  return (bytes) => {
    let fields: unknown;
    try {
      fields = decode(bytes);
    } catch {
      return { refused: "not an envelope" };
    }
    if (!Array.isArray(fields) || fields.length !== 6 || fields[0] !== 1) return { refused: "not an envelope" };
    const [, kind, certificateBytes, rootSignature, payload, signature] = fields;
    if (!isKind(kind) || ![certificateBytes, rootSignature, payload, signature].every((f) => f instanceof Uint8Array)) {
      return { refused: "not an envelope" };
    }
    try {
      const from = certificateOf(certificateBytes, rootSignature);
      if (typeof from === "string") return { refused: from };
      if (!verify(null, signedBytes(kind, certificateBytes, payload), from.key, signature))
        return { refused: "bad signature" };
      return { kind, from: from.certificate, payload };
    } catch {
      return { refused: "malformed certificate or signature" };
    }
  };
}

function signedBytes(kind: MessageKind, certificateBytes: Uint8Array, payload: Uint8Array): Uint8Array {
  return encode(["cardea message", kind, certificateBytes, payload]);
}

const kinds: readonly MessageKind[] = [
  "batch",
  "grant",
  "grant-by-age",
  "renew",
  "confirm",
  "goodbye",
  "snapshot",
  "answer",
];

function isKind(value: unknown): value is MessageKind {
  return kinds.some((kind) => kind === value);
}

function parseCertificate(bytes: Uint8Array): Certificate | undefined {
  const fields = decode(bytes);
  if (!Array.isArray(fields) || fields.length !== 8 || fields[0] !== "cardea certificate") return undefined;
  const [, cluster, role, name, boot, epoch, incarnation, publicKey] = fields;
  if (typeof cluster !== "string" || typeof name !== "string" || typeof incarnation !== "string") return undefined;
  if (!isRole(role) || !(publicKey instanceof Uint8Array) || publicKey.length !== 32) return undefined;
  return {
    cluster,
    role,
    name,
    boot: parseBootId(boot),
    epoch: parseEpoch(epoch),
    incarnation: incarnation as Incarnation | "",
    publicKey: Uint8Array.from(publicKey),
  };
}

function isRole(value: unknown): value is Role {
  return (
    value === "broker" || value === "proxy" || value === "authorize" || value === "authenticate" || value === "operator"
  );
}

/** SubjectPublicKeyInfo of an Ed25519 key is this prefix and the 32 raw bytes (RFC 8410 §4). */
const spkiPrefix = Buffer.from("302a300506032b6570032100", "hex");

export function rawPublicKey(key: KeyObject): Uint8Array {
  return Uint8Array.from(key.export({ format: "der", type: "spki" }).subarray(spkiPrefix.length));
}

function publicKeyFromRaw(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiPrefix, raw]), format: "der", type: "spki" });
}
