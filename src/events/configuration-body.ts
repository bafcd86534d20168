/**
 * Configuration body: what a configuration said, under the hash that names it in the log and in decision records. Pure.
 *
 * The body is canonical text without secrets (src/config), and the hash is that of the text: so whoever is handed a body can tell
 * whether it belongs to the hash, and nobody can put another in its place. It travels and is stored compressed, and bounded in both forms.
 */

import { createHash } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { CodedError } from "./coded-error.ts";
import { type Brand, type ConfigHash, parseConfigHash, parseUnixMs, type UnixMs } from "./ids.ts";

/** Compressed, and known to belong to its hash. */
export type ConfigBody = Brand<Uint8Array, "ConfigBody">;

/** What a store keeps of a configuration: once for each hash, the first that came. */
export type StoredConfiguration = Readonly<{ configHash: ConfigHash; body: ConfigBody; recordedAt: UnixMs }>;
/** The same in a list. `bytes`: of the body as it is stored. */
export type ConfigurationEntry = Readonly<{ configHash: ConfigHash; recordedAt: UnixMs; bytes: number }>;

export const configBodyBytesMax = 512 * 1024; // some 8,000 routes
export const configTextBytesMax = 16 * 1024 * 1024;
/** So many bodies are kept, and none is ever put in the place of another. */
export const configBodiesMax = 10_000;

export class MalformedConfigBodyError extends CodedError<"ERR_EVENTS_MALFORMED_CONFIG_BODY"> {
  override readonly code = "ERR_EVENTS_MALFORMED_CONFIG_BODY";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed configuration body: ${problem}`, options);
  }
}

/** The configuration is longer than a body may be. It is in force all the same; only what it said is not kept. */
export class ConfigBodyTooLongError extends CodedError<"ERR_EVENTS_CONFIG_BODY_TOO_LONG"> {
  override readonly code = "ERR_EVENTS_CONFIG_BODY_TOO_LONG";
  readonly bytes: number;
  readonly bytesMax: number;
  constructor(size: Readonly<{ bytes: number; bytesMax: number; form: "as text" | "compressed" }>) {
    super(
      `the configuration is ${size.bytes} bytes long ${size.form}, and ${size.bytesMax} are kept: put long lists of people into ` +
        "groups and pictures behind addresses, or split the routes over several proxies",
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

/** @throws MalformedConfigBodyError when it is too long, is no body, or belongs to another hash */
export function parseConfigBody(value: unknown, configHash: ConfigHash): ConfigBody {
  if (!(value instanceof Uint8Array)) throw new MalformedConfigBodyError("not bytes");
  if (value.length > configBodyBytesMax) throw new MalformedConfigBodyError("too long");
  const body = value as ConfigBody;
  const hash = createHash("sha256").update(textBytes(body)).digest("hex");
  if (hash !== configHash) throw new MalformedConfigBodyError("it is not the body of this hash");
  return body;
}

/** @throws MalformedConfigBodyError, InvalidIdError */
export function parseStoredConfiguration(value: unknown): StoredConfiguration {
  if (typeof value !== "object" || value === null) throw new MalformedConfigBodyError("not a map");
  const { configHash: hash, body, recordedAt } = value as Readonly<Record<string, unknown>>;
  const configHash = parseConfigHash(hash);
  return { configHash, body: parseConfigBody(body, configHash), recordedAt: parseUnixMs(recordedAt) };
}

/** The canonical text: JSON. @throws MalformedConfigBodyError */
export function configTextOf(body: ConfigBody): string {
  return textBytes(body).toString("utf8");
}

function textBytes(body: Uint8Array): Buffer {
  try {
    return inflateRawSync(body, { maxOutputLength: configTextBytesMax });
  } catch (cause) {
    throw new MalformedConfigBodyError("it cannot be unpacked", { cause });
  }
}
