/** Test envelopes: the shape of an envelope around any payload, with random bytes as signatures. */
import { randomBytes } from "node:crypto";
import { encode } from "../../src/events/index.ts";
import { readEnvelopeShape } from "../../src/replication/wire/envelope-shape.ts";

export function envelopeOf(payload: string | Uint8Array): Uint8Array {
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  return Uint8Array.from(encode([1, "batch", randomBytes(200), randomBytes(64), bytes, randomBytes(64)]));
}

export function textIn(envelope: Uint8Array): string {
  return Buffer.from(readEnvelopeShape(envelope)?.payload ?? []).toString();
}
