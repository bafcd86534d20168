/**
 * Delivery tag: a cheap proof, in a header of the NATS message, that a member of the cluster published it.
 *
 * `<milliseconds, base 36>.<HMAC-SHA256 of (milliseconds, envelope signature), base64url>`. The key is derived from the
 * shared secret. Checking a tag costs a few microseconds whatever the message's size, so a receiver can drop a
 * stranger's messages without an Ed25519 verification for each.
 *
 * A tag proves nothing about the payload: it covers the envelope's signature, and the signature covers the payload.
 * Receivers still verify every envelope. Pure.
 */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { deriveKey } from "../wire/cluster-keys.ts";
import { signatureBytes } from "../wire/envelope-shape.ts";

/** The name of the NATS header. */
export const deliveryTagHeader = "Cardea-Tag";

/** Digits of a time in base 36, a dot, and 43 characters of base64url. */
const tagPattern = /^([0-9a-z]{1,11})\.([A-Za-z0-9_-]{43})$/;

/** A key object, because a key in bytes is imported again for each tag. */
export const deliveryTagKey = (secret: Uint8Array): KeyObject =>
  createSecretKey(deriveKey(secret, "nats delivery tag"));

export function createDeliveryTag(envelope: Uint8Array, key: KeyObject, atMs: number): string {
  const time = Math.max(0, Math.trunc(atMs)).toString(36);
  return `${time}.${macOf(envelope, { key, time }).toString("base64url")}`;
}

/** @returns the time at which the message was published, in ms since 1970; undefined when no key made the tag */
export function checkDeliveryTag(
  tag: string | undefined,
  envelope: Uint8Array,
  keys: readonly KeyObject[],
): number | undefined {
  const [, time, mac] = (tag === undefined ? null : tagPattern.exec(tag)) ?? [];
  if (time === undefined || mac === undefined) return undefined;
  const given = Buffer.from(mac, "base64url");
  const isGenuine = keys.some((key) => timingSafeEqual(macOf(envelope, { key, time }), given));
  return isGenuine ? Number.parseInt(time, 36) : undefined;
}

function macOf(envelope: Uint8Array, { key, time }: Readonly<{ key: KeyObject; time: string }>): Buffer {
  return createHmac("sha256", key).update(time).update(".").update(envelope.subarray(-signatureBytes)).digest();
}
