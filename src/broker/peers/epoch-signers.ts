/**
 * Epoch signers: the keys of the epochs that this process has opened, or tried to open. A leader's messages are signed
 * with the key of its epoch, which was generated when the epoch was requested. Pure.
 */
import type { Incarnation } from "../../events/index.ts";
import {
  enrolKey,
  enrolmentRoot,
  rawPublicKey,
  type Signer,
  type SigningPair,
  signingPairFromSeed,
} from "../../replication/wire/index.ts";
import type { Leadership } from "../core/messages.ts";

/** The identity in the certificates of epoch keys. */
export type SignerIdentity = Readonly<{ cluster: string; name: string; boot: Signer["certificate"]["boot"] }>;

const pairsMax = 64;

export class EpochSigners {
  readonly #identity: SignerIdentity;
  readonly #root: SigningPair;
  readonly #pairs = new Map<Incarnation, SigningPair>();
  #newest: Readonly<{ by: Leadership; signer: Signer }> | undefined;

  constructor(identity: SignerIdentity, secret: Uint8Array) {
    this.#identity = identity;
    this.#root = enrolmentRoot(secret, "broker");
  }

  /** @returns the raw public key, base64url */
  generate(incarnation: Incarnation, seed: Uint8Array): string {
    const pair = signingPairFromSeed(seed);
    this.#pairs.set(incarnation, pair);
    if (this.#pairs.size > pairsMax) this.#pairs.delete(this.#pairs.keys().next().value ?? incarnation);
    return Buffer.from(rawPublicKey(pair.publicKey)).toString("base64url");
  }

  signerFor(by: Leadership): Signer {
    const { epoch, incarnation } = by;
    if (this.#newest?.by.epoch === epoch && this.#newest.by.incarnation === incarnation) return this.#newest.signer;
    const pair = this.#pairs.get(incarnation);
    if (pair === undefined) throw new TypeError(`no key was generated for epoch ${epoch}`);
    const signer = enrolKey({ ...this.#identity, role: "broker", epoch, incarnation }, pair, this.#root);
    this.#newest = { by, signer };
    return signer;
  }
}
