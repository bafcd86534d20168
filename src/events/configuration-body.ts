/**
 * Configuration body: the content of a configuration whose hash the log and the decision records name. Pure.
 *
 * - A body is canonical text without secrets (src/config), and the hash is that of the text. So every receiver can
 *   check that a body belongs to its hash, and no other body can replace it.
 * - It is sent and stored compressed. Both the text and the compressed form are bounded.
 */

import { createHash } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { CodedError } from "./coded-error.ts";
import { type Brand, type ConfigHash, parseConfigHash, parseUnixMs, type UnixMs } from "./ids.ts";

/** A compressed body that was checked against its hash. */
export type ConfigBody = Brand<Uint8Array, "ConfigBody">;

/** A configuration as a store holds it: one for each hash, the first that arrived. */
export type StoredConfiguration = Readonly<{ configHash: ConfigHash; body: ConfigBody; recordedAt: UnixMs }>;
/** The same in a list. `bytes`: length of the compressed body. */
export type ConfigurationEntry = Readonly<{ configHash: ConfigHash; recordedAt: UnixMs; bytes: number }>;

export const configBodyBytesMax = 512 * 1024; // about 8,000 routes
export const configTextBytesMax = 16 * 1024 * 1024;
/** How many bodies a store keeps. A full store refuses new ones and never replaces one. */
export const configBodiesMax = 10_000;

export class MalformedConfigBodyError extends CodedError<"ERR_EVENTS_MALFORMED_CONFIG_BODY"> {
  override readonly code = "ERR_EVENTS_MALFORMED_CONFIG_BODY";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed configuration body: ${problem}`, options);
  }
}

/** The configuration is too long to be stored. It is in force all the same. */
export class ConfigBodyTooLongError extends CodedError<"ERR_EVENTS_CONFIG_BODY_TOO_LONG"> {
  override readonly code = "ERR_EVENTS_CONFIG_BODY_TOO_LONG";
  readonly bytes: number;
  readonly bytesMax: number;
  constructor(size: Readonly<{ bytes: number; bytesMax: number; form: "as text" | "compressed" }>) {
    super(
      `the configuration has ${size.bytes} bytes ${size.form}, and at most ${size.bytesMax} are stored: move long lists of people to ` +
        "groups, replace images with their URLs, or split the routes over several proxies",
    );
    this.bytes = size.bytes;
    this.bytesMax = size.bytesMax;
  }
}

/** @throws ConfigBodyTooLongError */
export function packConfigBody(text: string): ConfigBody {
  const bytes = Buffer.byteLength(text);
  if (bytes > configTextBytesMax)
    throw new ConfigBodyTooLongError({ bytes, bytesMax: configTextBytesMax, form: "as text" });
  const body = deflateRawSync(text);
  if (body.length > configBodyBytesMax)
    throw new ConfigBodyTooLongError({ bytes: body.length, bytesMax: configBodyBytesMax, form: "compressed" });
  return body as Uint8Array as ConfigBody;
}

/** @throws MalformedConfigBodyError if it is too long, is not a body, or belongs to another hash */
export function parseConfigBody(value: unknown, configHash: ConfigHash): ConfigBody {
  if (!(value instanceof Uint8Array)) throw new MalformedConfigBodyError("not bytes");
  if (value.length > configBodyBytesMax) throw new MalformedConfigBodyError("too long");
  const body = value as ConfigBody;
  const hash = createHash("sha256").update(textBytes(body)).digest("hex");
  if (hash !== configHash) throw new MalformedConfigBodyError("it does not belong to this hash");
  return body;
}

/** @throws MalformedConfigBodyError, InvalidIdError */
export function parseStoredConfiguration(value: unknown): StoredConfiguration {
  if (typeof value !== "object" || value === null) throw new MalformedConfigBodyError("not a map");
  const { configHash: hash, body, recordedAt } = value as Readonly<Record<string, unknown>>;
  const configHash = parseConfigHash(hash);
  return { configHash, body: parseConfigBody(body, configHash), recordedAt: parseUnixMs(recordedAt) };
}

/** The canonical text, which is JSON. @throws MalformedConfigBodyError */
export function configTextOf(body: ConfigBody): string {
  return textBytes(body).toString("utf8");
}

function textBytes(body: Uint8Array): Buffer {
  try {
    return inflateRawSync(body, { maxOutputLength: configTextBytesMax });
  } catch (cause) {
    throw new MalformedConfigBodyError("it cannot be decompressed", { cause });
  }
}
