/**
 * Wire bodies: MessagePack, or JSON on request. In JSON a byte string is base64, in answers only: no JSON request
 * contains bytes. Pure.
 */
import { encode } from "../../events/index.ts";

export type BodyFormat = "msgpack" | "json";

export const msgpackType = "application/msgpack";
export const jsonType = "application/json";

/** JSON if the caller accepts it and not MessagePack, or if the request itself was JSON and accepts anything. */
export function formatFor(
  headers: Readonly<{ accept?: string | undefined; "content-type"?: string | undefined }>,
): BodyFormat {
  const accept = headers.accept ?? "*/*";
  if (accept.includes(msgpackType)) return "msgpack";
  if (accept.includes(jsonType)) return "json";
  return headers["content-type"]?.startsWith(jsonType) === true ? "json" : "msgpack";
}

export function encodeBody(value: unknown, format: BodyFormat): Uint8Array {
  return format === "msgpack" ? encode(value) : Buffer.from(JSON.stringify(withoutBytes(value)), "utf8");
}

function withoutBytes(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(withoutBytes);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutBytes(inner)]));
}
