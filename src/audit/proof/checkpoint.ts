/**
 * Checkpoint: the size and root of the tree over all seals of a cluster, as a signed note that outside witnesses can
 * co-sign. Pure. Formats: C2SP signed-note, tlog-checkpoint, tlog-cosignature (Ed25519).
 *
 * - The tree has a leaf for each seal, in the order of the log. So one cosignature covers the records of all nodes.
 * - A witness signs only what continues what it has signed before, so it cannot be shown two histories of the log.
 */
import { hash as digestOf, type KeyObject, sign, verify } from "node:crypto";
import { ConsistencyBuilder, leafHash, MerkleTree, treeHashBytes, treeSizeMax } from "../../events/index.ts";
import { publicKeyFromRaw, rawPublicKey, type SigningPair } from "../../replication/wire/index.ts";

/** A name and a key that verifies notes: `name+hash+base64`. */
export type NoteKey = Readonly<{ name: string; type: number; key: KeyObject; id: Buffer }>;

export type NoteSignature = Readonly<{ name: string; id: Buffer; signature: Buffer }>;

export type Checkpoint = Readonly<{
  /** The text that is signed, with its last line end. */
  text: string;
  origin: string;
  size: number;
  root: Buffer;
  signatures: readonly NoteSignature[];
}>;

/** Signature types of C2SP signed-note. */
const ed25519Type = 0x01;
const cosignatureType = 0x04;
const noteCharsMax = 65_536;
const signaturesMax = 32;
const keyBytes = 32;
const idBytes = 4;

export const originOf = (cluster: string): string => `cardea-audit/${encodeURIComponent(cluster)}`;

function keyIdOf(name: string, type: number, raw: Uint8Array): Buffer {
  return digestOf("sha256", Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([type]), raw]), "buffer").subarray(
    0,
    idBytes,
  );
}

/** The public key of our checkpoints, as witnesses are configured with it. */
export function formatNoteKey(name: string, { publicKey }: Pick<SigningPair, "publicKey">): string {
  const raw = rawPublicKey(publicKey);
  const material = Buffer.concat([Buffer.from([ed25519Type]), raw]);
  return `${name}+${keyIdOf(name, ed25519Type, raw).toString("hex")}+${material.toString("base64")}`;
}

/** @returns the reason why it is none as text */
export function parseNoteKey(text: string): NoteKey | string {
  const match = /^([^\s+]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/.exec(text.trim());
  if (match === null) return "a key of a witness is name+hash+base64";
  const [, name = "", id = "", material = ""] = match;
  const bytes = Buffer.from(material, "base64");
  const [type = 0] = bytes;
  if (bytes.length !== 1 + keyBytes || (type !== ed25519Type && type !== cosignatureType))
    return "the key is not an Ed25519 key of a note or a witness";
  const raw = Uint8Array.from(bytes.subarray(1));
  const own = keyIdOf(name, type, raw);
  if (own.toString("hex") !== id) return "the hash of the key is not that of its name and key";
  return { name, type, key: publicKeyFromRaw(raw), id: own };
}

/** Signs the tree over all seals with the cluster's key for checkpoints. */
export function signCheckpoint(
  { origin, size, root }: Pick<Checkpoint, "origin" | "size" | "root">,
  pair: SigningPair,
): string {
  const text = `${origin}\n${size}\n${root.toString("base64")}\n`;
  const id = keyIdOf(origin, ed25519Type, rawPublicKey(pair.publicKey));
  const signature = sign(null, Buffer.from(text), pair.privateKey);
  return `${text}\n— ${origin} ${Buffer.concat([id, signature]).toString("base64")}\n`;
}

const signatureLine = /^— ([^\s+]{1,200}) ([A-Za-z0-9+/]{20,8000}={0,2})$/;

/** @returns undefined if it is no note with a checkpoint. No signature is checked */
export function parseCheckpoint(note: string): Checkpoint | undefined {
  const end = note.lastIndexOf("\n\n");
  if (note.length > noteCharsMax || end < 0 || !note.endsWith("\n")) return undefined;
  const text = note.slice(0, end + 1);
  const signatures = parseSignatures(note.slice(end + 2));
  const [origin = "", size = "", root = ""] = text.split("\n");
  const number = /^(0|[1-9]\d{0,15})$/.test(size) ? Number(size) : Number.NaN;
  const bytes = Buffer.from(root, "base64");
  const isTree = Number.isSafeInteger(number) && number <= treeSizeMax && bytes.length === treeHashBytes;
  if (origin === "" || !isTree || bytes.toString("base64") !== root || signatures === undefined) return undefined;
  return { text, origin, size: number, root: bytes, signatures };
}

/** @returns undefined if a line is no signature */
export function parseSignatures(text: string): readonly NoteSignature[] | undefined {
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length > signaturesMax) return undefined;
  const signatures: NoteSignature[] = [];
  for (const line of lines) {
    const match = signatureLine.exec(line);
    if (match === null) return undefined;
    const bytes = Buffer.from(match[2] ?? "", "base64");
    signatures.push({ name: match[1] ?? "", id: bytes.subarray(0, idBytes), signature: bytes.subarray(idBytes) });
  }
  return signatures;
}

/** @returns when the witness has signed the checkpoint, in seconds since 1970; undefined: it has not */
export function cosignedAt(
  { text, signatures }: Pick<Checkpoint, "text" | "signatures">,
  key: NoteKey,
): number | undefined {
  for (const { name, id, signature } of signatures) {
    if (name !== key.name || !id.equals(key.id) || signature.length !== 8 + 64) continue;
    const at = signature.readBigUInt64BE(0);
    const message = Buffer.from(`cosignature/v1\ntime ${at}\n${text}`);
    if (at < 2n ** 53n && verify(null, message, key.key, signature.subarray(8))) return Number(at);
  }
  return undefined;
}

/** The body of a request to a witness (C2SP tlog-witness, add-checkpoint). @param old what the witness has signed */
export function addCheckpointBody(
  leaves: readonly Buffer[],
  { old, note }: Readonly<{ old: number; note: string }>,
): string {
  const before = treeOver(leaves.slice(0, old));
  const builder = new ConsistencyBuilder({ start: before, size: leaves.length });
  for (const leaf of leaves.slice(old)) builder.append(leaf);
  const proof = old === leaves.length ? [] : builder.proof();
  return `old ${old}\n${proof.map((hash) => `${hash.toString("base64")}\n`).join("")}\n${note}`;
}

/** The tree over seals, in the order of the log. */
export function treeOver(leaves: readonly Buffer[]): MerkleTree {
  const tree = new MerkleTree();
  for (const leaf of leaves) tree.append(leaf);
  return tree;
}

export function sealLeaf(envelope: Uint8Array): Buffer {
  return leafHash(envelope);
}
