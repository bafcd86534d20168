/**
 * Own envelopes: recognises what this broker published when the fan-out brings it back, so that it is not opened.
 *
 * By its signature, because NATS brings a copy. A stranger who repeats such a signature only has that message ignored
 * here, and only by this broker. Pure.
 */
import { signatureBytes } from "../../replication/wire/index.ts";

/** NATS brings a message back within milliseconds. One that is forgotten is opened like any other. */
const signaturesMax = 64;

export class OwnEnvelopes {
  readonly #signatures = new Set<string>();

  /** Call it before the envelope is published: a fan-out within the process brings it back at once. */
  add(envelope: Uint8Array): void {
    this.#signatures.add(signatureOf(envelope));
    const [oldest] = this.#signatures;
    if (this.#signatures.size > signaturesMax && oldest !== undefined) this.#signatures.delete(oldest);
  }

  has(envelope: Uint8Array): boolean {
    return this.#signatures.has(signatureOf(envelope));
  }
}

/** The end of the envelope, where its signature is. */
function signatureOf(envelope: Uint8Array): string {
  return Buffer.from(envelope.subarray(-signatureBytes)).toString("latin1");
}
