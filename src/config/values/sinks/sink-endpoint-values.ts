/** Value types of sinks that send over HTTP: the address, credentials, TLS, and the size of batches. Pure. */
import { checkUrl, duration, headers, isLoopback } from "../network-values.ts";
import type { SettingsOf } from "../settings-values.ts";
import {
  filePath,
  integer,
  isRefused,
  type Refuse,
  type RefusedValue,
  secretString,
  stringMatching,
  stringValue,
  type ValueType,
} from "../value-type.ts";

/** Records that are sent together. */
export type SinkBatchConfig = Readonly<{ bytesMax: number; recordsMax: number; lingerMs: number }>;

/** Where a sink sends to, with the secrets. */
export type SinkEndpointConfig = Readonly<{
  url: URL;
  /** The bearer token among them. */
  headers: Readonly<Record<string, string>>;
  /** PEM of the only authority that is trusted; null: those of the system, and `certificate_authority`. */
  ca: string | null;
  /** The client certificate; null: none. */
  tls: Readonly<{ cert: string; key: string }> | null;
  timeoutMs: number;
}>;

/** As the file describes it: `…File` names the file of a secret. */
export type WrittenEndpoint = Readonly<{
  url: URL;
  timeoutMs: number;
  headers: Readonly<Record<string, string>>;
  headerFiles: Readonly<Record<string, string>>;
  bearerToken: string | null;
  bearerTokenFile: string | null;
  ca: Readonly<Record<"tls_ca" | "tls_ca_file", string | undefined>>;
  certFile: string | null;
  keyFile: string | null;
}>;

/** Part of the sink's name: its cursor is kept under it. */
export const sinkName = (): ValueType<string> =>
  stringMatching({
    label: "name",
    json: { type: "string" },
    pattern: /^[a-z0-9][a-z0-9.-]{0,39}$/,
    what: "a name of up to 40 lowercase letters, digits, . and -",
    example: "siem",
  });

export const batchShape = (defaults: Readonly<{ bytes: number; wait: number; bytesMax: number }>) => ({
  batch_bytes: integer({ min: 1_024, max: defaults.bytesMax }).prefault(defaults.bytes),
  batch_records: integer({ min: 1, max: 1_000_000 }).optional(),
  batch_wait: duration({ min: "0s", max: "1h" }).prefault(`${defaults.wait}ms`),
});

export function batchIn(
  read: Readonly<{ batch_bytes: number; batch_records?: number | undefined; batch_wait: number }>,
  recordsDefault: number,
): SinkBatchConfig {
  return { bytesMax: read.batch_bytes, recordsMax: read.batch_records ?? recordsDefault, lingerMs: read.batch_wait };
}

export const endpointShape = {
  bearer_token: secretString().optional(),
  bearer_token_file: filePath().optional(),
  headers: headers().prefault({}),
  header_files: headers().prefault({}),
  tls_ca: stringValue().optional(),
  tls_ca_file: filePath().optional(),
  tls_cert_file: filePath().optional(),
  tls_key_file: filePath().optional(),
  timeout: duration({ min: "100ms", max: "10m" }).prefault("10s"),
};

/** Headers that the sink itself writes. */
const ownHeaders = /^(host|content-.*|transfer-encoding|connection|webhook-.*|expect|user-agent)$/i;

export function readEndpoint(
  target: unknown,
  read: SettingsOf<typeof endpointShape>,
  how: Readonly<{ kind: string; refuse: Refuse }>,
): WrittenEndpoint | RefusedValue {
  const { refuse } = how;
  const url = checkUrl(target, { schemes: ["https", "http"], refuse, at: [how.kind] });
  if (isRefused(url)) return url;
  if (url.hash !== "") return refuse("has a fragment", "write the address alone", [how.kind]);
  for (const key of ["headers", "header_files"] as const) {
    const strange = Object.keys(read[key]).find((name) => ownHeaders.test(name));
    if (strange !== undefined) return refuse("is a header that the sink itself writes", "remove it", [key, strange]);
  }
  if (read.bearer_token !== undefined && read.bearer_token_file !== undefined)
    return refuse("has no effect with bearer_token_file", "keep one of them", ["bearer_token"]);
  const names = [...Object.keys(read.headers), ...Object.keys(read.header_files)].map((name) => name.toLowerCase());
  const hasToken = read.bearer_token !== undefined || read.bearer_token_file !== undefined;
  const twice = names.find((name, i) => names.indexOf(name) !== i || (hasToken && name === "authorization"));
  if (twice !== undefined) return refuse(`the header ${twice} is written twice`, "keep one of them", ["headers"]);
  const isClear = url.protocol === "http:" && !isLoopback(url.hostname);
  if (isClear && (hasToken || names.length > 0))
    return refuse("is plain HTTP, and its credentials would cross the network in clear", "use https", [how.kind]);
  if (url.protocol === "http:" && [read.tls_ca, read.tls_ca_file, read.tls_cert_file, read.tls_key_file].some(Boolean))
    return refuse("is plain HTTP, so the keys of TLS have no effect", "use https, or remove them", [how.kind]);
  return {
    url,
    timeoutMs: read.timeout,
    headers: read.headers,
    headerFiles: read.header_files,
    bearerToken: read.bearer_token ?? null,
    bearerTokenFile: read.bearer_token_file ?? null,
    ca: { tls_ca: read.tls_ca, tls_ca_file: read.tls_ca_file },
    certFile: read.tls_cert_file ?? null,
    keyFile: read.tls_key_file ?? null,
  };
}
