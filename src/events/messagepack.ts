/** MessagePack: encodes plain data, and decodes only what the check of strict-messagepack.ts accepts. Pure. */
import { Packr } from "msgpackr";
import { MalformedEventError } from "./malformed-event.ts";
import { isStrictMessagePack } from "./strict-messagepack.ts";

/** Plain MessagePack without record extensions and shared structures, so that any reader understands the bytes. */
const packr = new Packr({ useRecords: false, moreTypes: false, structuredClone: false, variableMapSize: true });

export function encode(value: unknown): Uint8Array {
  return packr.pack(value);
}

/**
 * Decodes one value. The decoder never sees bytes that fail the check.
 * @throws MalformedEventError if the bytes are not exactly one strict MessagePack value
 */
export function decode(bytes: Uint8Array): unknown {
  if (!isStrictMessagePack(bytes)) throw new MalformedEventError("not strict MessagePack");
  try {
    return packr.unpack(bytes);
  } catch (cause) {
    throw new MalformedEventError("not MessagePack", { cause });
  }
}
