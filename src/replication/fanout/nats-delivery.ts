/**
 * NATS delivery: the view of a NATS message that the delivery guard needs. It does not make the client library parse
 * headers early.
 */
import type { IncomingDelivery } from "./delivery-guard.ts";
import { deliveryTagHeader } from "./delivery-tag.ts";

/** The fields that messages of NATS core and of JetStream share. */
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

/**
 * Size of subjects and headers of a NATS core or JetStream message, in bytes. Infinity: the library does not report it.
 */
export function overheadBytesOf(message: Readonly<{ data: Uint8Array }>): number {
  return sizeOf(message) - message.data.length;
}

/**
 * Size of subjects, headers and payload, in bytes. The library counts them but omits the method from its types. A
 * JetStream message holds the NATS core message as `msg`.
 * @returns Infinity when the library does not report the size, so that the message is refused
 */
function sizeOf(message: object): number {
  const inner: unknown = Reflect.get(message, "msg");
  const counted = typeof inner === "object" && inner !== null ? inner : message;
  const size: unknown = Reflect.get(counted, "size");
  const bytes: unknown = typeof size === "function" ? size.call(counted) : undefined;
  return typeof bytes === "number" ? bytes : Number.POSITIVE_INFINITY;
}
