/**
 * Lease refusal body: the fields `code` and `reason` of the 403 with which a broker refuses a lease message. Pure.
 *
 * - `reason` is the sentence. A broker of an older version sends only the sentence, and an older node reads only the
 *   sentence.
 * - An unknown code is read as `other`, so that a newer broker may add codes.
 */
import { digestMismatch, type LeaseRefusal, type LeaseRefusalCode } from "../lease/lease-refusal.ts";

export type LeaseRefusalBody = Readonly<{ reason: string; code?: string }>;

const messageLengthMax = 200;
const codes: ReadonlySet<string> = new Set<LeaseRefusalCode>([
  "digest-mismatch",
  "level-too-old",
  "repeated",
  "too-many",
  "left",
  "clock-drift",
  "not-authentic",
  "past-region",
  "other",
]);

export function formatLeaseRefusal({ code, message }: LeaseRefusal): Required<LeaseRefusalBody> {
  return { reason: message, code };
}

/** @returns undefined when there is no sentence: then no broker of this product wrote the body */
export function parseLeaseRefusal({
  reason,
  code,
}: Readonly<{ reason?: unknown; code?: unknown }>): LeaseRefusal | undefined {
  if (typeof reason !== "string") return undefined;
  const named = typeof code === "string" ? codeNamed(code) : codeOfSentence(reason);
  return { code: named, message: reason.slice(0, messageLengthMax) };
}

function codeNamed(code: string): LeaseRefusalCode {
  return isCode(code) ? code : "other";
}

function isCode(code: string): code is LeaseRefusalCode {
  return codes.has(code);
}

/** The code for the sentence of an older broker. Remove it at the next level: every broker then sends a code. */
function codeOfSentence(sentence: string): LeaseRefusalCode {
  if (sentence === digestMismatch.message) return "digest-mismatch";
  if (sentence.startsWith("the cluster has finalized level ")) return "level-too-old";
  if (sentence === "repeated") return "repeated";
  if (sentence.startsWith("too many nodes") || sentence === "too many renews are waiting") return "too-many";
  if (sentence === "this boot has left") return "left";
  return sentence.startsWith("its monotonic clock runs at least ") ? "clock-drift" : "other";
}
