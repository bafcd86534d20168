/**
 * Verification state: the `state` of a verification request, which the transmitter must bring back (SSF 1.0 §8.1.4).
 *
 * It is signed with a key that every process of the cluster has, so whichever process receives the event can check it,
 * and none remembers anything. Pure.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** A transmitter may send the event long after the request. */
const validMsMax = 24 * 3_600_000;
const pattern = /^cardea-(\d{13})-([\w-]{16})-([\w-]{43})$/;

export type StateKeys = Readonly<{
  /** The current one first, then the one that is being replaced. */
  keys: readonly Uint8Array[];
  transmitter: string;
}>;

/** @param nonce 16 characters of base64url */
export function createVerificationState({ keys, transmitter }: StateKeys, nowMs: number, nonce: string): string {
  const [key] = keys;
  if (key === undefined) throw new TypeError("no key for verification states");
  const start = `${String(Math.floor(nowMs)).padStart(13, "0")}-${nonce}`;
  return `cardea-${start}-${signatureOf(key, transmitter, start)}`;
}

export function isVerificationState({ keys, transmitter }: StateKeys, state: unknown, nowMs: number): boolean {
  const [, time = "", nonce = "", signature = ""] = typeof state === "string" ? (pattern.exec(state) ?? []) : [];
  if (time === "" || Number(time) > nowMs + 60_000 || nowMs - Number(time) > validMsMax) return false;
  return keys.some((key) =>
    timingSafeEqual(Buffer.from(signatureOf(key, transmitter, `${time}-${nonce}`)), Buffer.from(signature)),
  );
}

function signatureOf(key: Uint8Array, transmitter: string, start: string): string {
  return createHmac("sha256", key)
    .update(JSON.stringify([transmitter, start]))
    .digest("base64url");
}
