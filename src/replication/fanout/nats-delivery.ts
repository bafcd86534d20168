/**
 * NATS delivery: what the delivery guard asks of a message, without having the client library parse its headers early.
 */
import type { IncomingDelivery } from "./delivery-guard.ts";
import { deliveryTagHeader } from "./delivery-tag.ts";

/** What messages of NATS core and of JetStream have in common. */
type NatsMessage = Readonly<{
  data: Uint8Array;
  headers?: Readonly<{ get(name: string): string }> | undefined;
}>;

export function deliveryOf(message: NatsMessage): IncomingDelivery {
  const { data } = message;
  return {
    data,
    overheadBytes: overheadBytesOf(message),
    tag: () => message.headers?.get(deliveryTagHeader),
  };
}

/** Subjects and headers in bytes, of a message of NATS core or of JetStream. Infinity: the library does not say. */
export function overheadBytesOf(message: Readonly<{ data: Uint8Array }>): number {
  return sizeOf(message) - message.data.length;
}

/**
 * Subjects, headers and payload in bytes. The library counts them but leaves the method out of its types; a JetStream
 * message holds the one of NATS core as `msg`.
 * @returns Infinity when the library does not say, so that the message is refused
 */
function sizeOf(message: object): number {
  const inner: unknown = Reflect.get(message, "msg");
  const counted = typeof inner === "object" && inner !== null ? inner : message;
  const size: unknown = Reflect.get(counted, "size");
  const bytes: unknown = typeof size === "function" ? size.call(counted) : undefined;
  return typeof bytes === "number" ? bytes : Number.POSITIVE_INFINITY;
}
