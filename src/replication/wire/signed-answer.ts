/**
 * Signed answer: proof that a broker of this cluster gave this answer to this call.
 *
 * - The proof is an envelope in a response header, signed with the key of the broker: the id of the call, the status,
 *   and the hash of the body.
 * - The caller can thus accept a page of the log up to the head that an authenticated broker names, and likewise a
 *   fork, a receipt or a status.
 * - An answer that is forged, altered, or given to another call is refused.
 * - Events also link: the signature proves origin, the links prove continuity (docs/adr/0003).
 *
 * Pure.
 */

import { timingSafeEqual } from "node:crypto";
import { type BootId, decode, encode, noEpoch } from "../../events/index.ts";
import type { EnvelopeOpener } from "./broker-opener.ts";
import { enrolmentRoot, signingPairFromSeed } from "./cluster-keys.ts";
import { enrolKey, type Signer, sealEnvelope } from "./envelope.ts";
import { bodyDigest } from "./service-call.ts";

export const answerHeader = "cardea-answer";

export type GivenAnswer = Readonly<{ callId: string; status: number; body: Uint8Array }>;

export type AnswerRefusal = "unsigned" | "not-authentic" | "another-call" | "altered";

/** The signer for answers of a broker in any epoch, with a key of this process alone. @param of.seed 32 random bytes */
export function answererOf(
  of: Readonly<{ cluster: string; name: string; boot: BootId; secret: Uint8Array; seed: Uint8Array }>,
): Signer {
  const { cluster, name, boot } = of;
  const identity = { cluster, role: "broker", name, boot, epoch: noEpoch, incarnation: "" } as const;
  return enrolKey(identity, signingPairFromSeed(of.seed), enrolmentRoot(of.secret, "broker"));
}

export function sealAnswer(speaker: Signer, { callId, status, body }: GivenAnswer): string {
  const payload = encode([callId, status, bodyDigest(body)]);
  return Buffer.from(sealEnvelope(speaker, "answer", payload)).toString("base64url");
}

/** @returns the reason why the answer is refused; undefined when it is accepted */
export function refuseAnswer(
  seal: string | undefined,
  open: EnvelopeOpener,
  given: GivenAnswer,
): AnswerRefusal | undefined {
  if (seal === undefined) return "unsigned";
  const opened = open(Buffer.from(seal, "base64url"));
  if ("refused" in opened || opened.kind !== "answer") return "not-authentic";
  const fields = fieldsIn(opened.payload);
  if (!Array.isArray(fields) || fields.length !== 3) return "not-authentic";
  const [callId, status, body] = fields;
  if (!same(callId, given.callId)) return "another-call";
  return status === given.status && same(body, bodyDigest(given.body)) ? undefined : "altered";
}

/**
 * A 401 comes from a broker that does not recognize the caller, so it has nothing to seal. A failure is accepted
 * without a seal.
 */
export function mustBeSealed(status: number): boolean {
  return status < 500 && status !== 401;
}

function fieldsIn(payload: Uint8Array): unknown {
  try {
    return decode(payload);
  } catch {
    return undefined;
  }
}

function same(a: unknown, b: string): boolean {
  if (typeof a !== "string" || a.length !== b.length) return false;
  return timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
