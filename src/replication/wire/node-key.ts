/**
 * Node key: the signing key of one boot of a node, and the boot id that commits to it.
 *
 * - The boot id is a digest of cluster, role, node and public key. Only the holder of the private key can act for the
 *   boot, at every broker and in every epoch. A leader needs no pin, and a failover loses none.
 * - Older builds drew boot ids at random. Such an id commits to no key; a leader pins it to the first key that uses it.
 * - A boot may be named as replaced only with a signature by its own key, which its data folder keeps for the next
 *   boot.
 *
 * Pure; seeds are arguments. Why: docs/adr/0036-a-boot-names-its-key.md
 */
import { hash as digestOf, sign, verify } from "node:crypto";
import { type BootId, encode, type NodeId, parseBootId } from "../../events/index.ts";
import { publicKeyFromRaw, rawPublicKey, type SigningPair, signingPairFromSeed } from "./cluster-keys.ts";

/** The roles in which a process holds a lease. */
export type NodeRole = "proxy" | "authorize" | "broker";

export type NodeIdentity = Readonly<{ cluster: string; role: NodeRole; name: NodeId }>;

export type NodeKey = NodeIdentity & Readonly<{ boot: BootId; pair: SigningPair; seed: Uint8Array }>;

const boundPrefix = "key-";
/** Length of the digest in bytes. With 192 bits, finding a second key with the same id is infeasible. */
const digestBytes = 24;
const nodeRoles: readonly NodeRole[] = ["proxy", "authorize", "broker"];
const publicKeyBytes = 32;
const signatureBytes = 64;
export const replacementProofBytes = publicKeyBytes + signatureBytes;

/** @param seed 32 random bytes, drawn at each start */
export function nodeKeyFrom(seed: Uint8Array, { cluster, role, name }: NodeIdentity): NodeKey {
  const pair = signingPairFromSeed(seed);
  const boot = bootIdOf({ cluster, role, name, publicKey: rawPublicKey(pair.publicKey) });
  return { cluster, role, name, boot, pair, seed };
}

/** The holder of a key, as named in a certificate. */
type KeyHolder = Readonly<{ cluster: string; role: string; name: string; publicKey: Uint8Array }>;

export function bootIdOf(of: KeyHolder): BootId {
  const digest = digestOf("sha256", encode(["cardea boot", of.cluster, of.role, of.name, of.publicKey]), "buffer");
  return parseBootId(`${boundPrefix}${digest.subarray(0, digestBytes).toString("base64url")}`);
}

/** False for a boot id that an older build drew at random. */
export function commitsToKey(boot: BootId): boolean {
  return boot.startsWith(boundPrefix);
}

/** True when the key of a certificate may act for the boot that the certificate names. */
export function mayUseBoot(holder: KeyHolder & Readonly<{ boot: BootId }>): boolean {
  return !commitsToKey(holder.boot) || bootIdOf(holder) === holder.boot;
}

/** `by` replaces `replaced`, a boot of the same node that permits nothing any more. */
export type Replacement = Readonly<{ cluster: string; node: NodeId; replaced: BootId; by: BootId }>;

/** @param replacedSeed the key seed of the replaced boot, from its data folder */
export function signReplacement(replacedSeed: Uint8Array, of: Replacement): Uint8Array {
  const { privateKey, publicKey } = signingPairFromSeed(replacedSeed);
  return Buffer.concat([rawPublicKey(publicKey), sign(null, replacementBytes(of), privateKey)]);
}

/** True when the key of the replaced boot signed the replacement. The boots may have had different roles. */
export function provesReplacement(proof: Uint8Array, of: Replacement): boolean {
  if (proof.length !== replacementProofBytes) return false;
  const publicKey = Uint8Array.from(proof.subarray(0, publicKeyBytes));
  const { cluster, node: name, replaced } = of;
  if (!nodeRoles.some((role) => bootIdOf({ cluster, role, name, publicKey }) === replaced)) return false;
  return verify(null, replacementBytes(of), publicKeyFromRaw(publicKey), proof.subarray(publicKeyBytes));
}

function replacementBytes(of: Replacement): Uint8Array {
  return encode(["cardea replacement", of.cluster, of.node, of.replaced, of.by]);
}
