/**
 * Envelope: the signed container that proves the origin of a message. Every batch, grant, renew, confirmation and
 * goodbye is sent in one.
 *
 * - An envelope is a MessagePack array: version, kind, certificate, the signature of the root on the certificate,
 *   payload, and the signature of the sender on (kind, certificate, payload).
 * - The certificate binds a fresh Ed25519 key to cluster, role, name and boot and, for a broker, to its epoch and
 *   incarnation.
 * - The receiver drops and counts a message that links but is not authenticated: a link proves continuity, not origin.
 * - The opener checks size, then shape, then both signatures over raw bytes. Only bytes that a member of the cluster
 *   has signed reach the decoder, including the certificate.
 * - A boot id that commits to a key is refused with any other key (node-key.ts).
 *
 * Pure; keys and payloads are arguments.
 */
import { type KeyObject, sign, verify } from "node:crypto";
import {
  type BootId,
  decode,
  type Epoch,
  encode,
  type Incarnation,
  parseBootId,
  parseEpoch,
} from "../../events/index.ts";
import { publicKeyFromRaw, type Role, rawPublicKey, type SigningPair } from "./cluster-keys.ts";
import { readEnvelopeShape } from "./envelope-shape.ts";
import { commitsToKey, mayUseBoot } from "./node-key.ts";

export type MessageKind =
  | "batch"
  | "grant"
  | "grant-by-age"
  | "renew"
  | "confirm"
  | "goodbye"
  | "snapshot"
  | "answer"
  | "audit"
  | "audit-seal"
  | "local-revocation";

export type Certificate = Readonly<{
  cluster: string;
  role: Role;
  name: string;
  boot: BootId;
  /** The epoch that a broker leads; 0 and "" for every other process. */
  epoch: Epoch;
  incarnation: Incarnation | "";
  /** Raw Ed25519 public key, 32 bytes. */
  publicKey: Uint8Array;
}>;

/** The signing identity of a process: its certificate, the signature of the root on it, and the private key. */
export type Signer = Readonly<{
  certificate: Certificate;
  certificateBytes: Uint8Array;
  rootSignature: Uint8Array;
  privateKey: KeyObject;
}>;

export type Opened = Readonly<{ kind: MessageKind; from: Certificate; payload: Uint8Array }>;

export type RefusedMessage = Readonly<{ refused: string }>;

type VerifiedCertificate = Readonly<{ certificate: Certificate; key: KeyObject }>;

/** Upper bound of an envelope. The manifest of a snapshot is at most 1 MiB, and NATS accepts 1 MB by default. */
const envelopeBytesMax = 2 * 1024 * 1024;
/** The first byte of a certificate: a MessagePack array of eight. */
const arrayOfEight = 0x98;
const roles: readonly Role[] = ["broker", "proxy", "authorize", "authenticate", "operator"];

/** Enrols a key: signs its certificate with the root key of its role. */
export function enrolKey(identity: Omit<Certificate, "publicKey">, pair: SigningPair, root: SigningPair): Signer {
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

export function sealEnvelope(speaker: Signer, kind: MessageKind, payload: Uint8Array): Uint8Array {
  const signature = sign(null, signedBytes(kind, speaker.certificateBytes, payload), speaker.privateKey);
  return encode([1, kind, speaker.certificateBytes, speaker.rootSignature, payload, signature]);
}

/**
 * Creates an opener for the envelopes of one cluster. It caches verified certificates (bounded), so that a message
 * costs one signature check.
 * @param rootOf the public root of a role; undefined for roles that may not send these messages
 */
export function createEnvelopeOpener(options: {
  cluster: string;
  rootOf: (role: Role) => KeyObject | undefined;
  certificatesMax?: number;
}): (bytes: Uint8Array) => Opened | RefusedMessage {
  const known = new Map<string, VerifiedCertificate>();
  const certificatesMax = options.certificatesMax ?? 10_000;

  const issuers = roles.map((role) => ({
    role,
    root: options.rootOf(role),
    prefix: certificatePrefix(options.cluster, role),
  }));

  /** @returns the certificate with its key, or the reason why it is refused as text */
  function certificateOf(bytes: Uint8Array, rootSignature: Uint8Array): VerifiedCertificate | string {
    const cacheKey = Buffer.concat([bytes, rootSignature]).toString("latin1");
    const hit = known.get(cacheKey);
    if (hit !== undefined) return hit;
    const issuer = issuers.find(({ prefix }) => startsWith(bytes, prefix));
    if (issuer === undefined) return "another cluster, or no certificate";
    if (issuer.root === undefined) return `role ${issuer.role} may not speak here`;
    if (!verify(null, bytes, issuer.root, rootSignature)) return "certificate not signed by this cluster";
    const certificate = parseCertificate(bytes);
    if (certificate === undefined) return "malformed certificate";
    if (!mayUseBoot(certificate)) return "the boot belongs to another key";
    const entry = { certificate, key: publicKeyFromRaw(certificate.publicKey) };
    if (known.size >= certificatesMax) known.delete(known.keys().next().value ?? "");
    known.set(cacheKey, entry);
    return entry;
  }

  return (bytes) => {
    if (bytes.length > envelopeBytesMax) return { refused: "too large" };
    const parts = readEnvelopeShape(bytes);
    if (parts === undefined || !isKind(parts.kind)) return { refused: "not an envelope" };
    const { kind, payload, signature } = parts;
    try {
      const from = certificateOf(parts.certificate, parts.rootSignature);
      if (typeof from === "string") return { refused: from };
      if (!verify(null, signedBytes(kind, parts.certificate, payload), from.key, signature))
        return { refused: "bad signature" };
      return { kind, from: from.certificate, payload };
    } catch {
      return { refused: "malformed certificate or signature" };
    }
  };
}

/** The parts of an envelope, of which nothing is verified but the shape. */
export type UnverifiedEnvelope = Readonly<{
  kind: MessageKind;
  certificate: Certificate;
  /** Whether the boot id of the certificate names its key (node-key.ts). */
  commitsToKey: boolean;
  payload: Uint8Array;
  /** The bytes that the sender signed. */
  signed: Uint8Array;
  signature: Uint8Array;
}>;

/** Reads an envelope for a caller that has no root to check its certificate with. @returns undefined if it is none */
export function envelopeParts(bytes: Uint8Array): UnverifiedEnvelope | undefined {
  const parts = readEnvelopeShape(bytes);
  if (parts === undefined || !isKind(parts.kind)) return undefined;
  const { kind, payload, signature } = parts;
  try {
    const certificate = parseCertificate(parts.certificate);
    if (certificate === undefined) return undefined;
    const signed = signedBytes(kind, parts.certificate, payload);
    const isBound = commitsToKey(certificate.boot) && mayUseBoot(certificate);
    return { kind, certificate, commitsToKey: isBound, payload, signed, signature };
  } catch {
    return undefined; // not MessagePack, or an id that is none
  }
}

/** The first bytes of every certificate of a role in a cluster, compared before the signature is verified. */
function certificatePrefix(cluster: string, role: Role): Uint8Array {
  const bytes = Uint8Array.from(encode(["cardea certificate", cluster, role]));
  bytes[0] = arrayOfEight;
  return bytes;
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length > prefix.length && Buffer.compare(bytes.subarray(0, prefix.length), prefix) === 0;
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
  "audit",
  "audit-seal",
  "local-revocation",
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
  return roles.some((role) => role === value);
}
