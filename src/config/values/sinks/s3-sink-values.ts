/** Value type of the sink `s3`: compressed files of records in object storage. Pure. */
import { checkUrl, duration, isLoopback } from "../network-values.ts";
import { readSettings } from "../settings-values.ts";
import {
  booleanValue,
  enumValue,
  filePath,
  formatValue,
  isRefused,
  type Refuse,
  type RefusedValue,
  secretString,
  stringMatching,
  stringValue,
} from "../value-type.ts";
import { batchIn, batchShape, type SinkBatchConfig, sinkName } from "./sink-endpoint-values.ts";
import { formatShape, type SinkFormat } from "./sink-format.ts";

type S3Shared = Readonly<{
  format: SinkFormat;
  bucket: string;
  /** Without a slash at its ends; empty: none. */
  prefix: string;
  /** Null: of Amazon, by region. */
  endpoint: URL | null;
  region: string;
  /** The bucket is in the path of the URL, not in its host. */
  pathStyle: boolean;
  compression: "gzip" | "zstd" | "none";
  /** Null: as the bucket says. */
  encryption: "AES256" | "aws:kms" | null;
  encryptionKeyId: string | null;
  timeoutMs: number;
  batch: SinkBatchConfig;
}>;

export type S3SinkConfig = S3Shared &
  Readonly<{
    /** Unique: the kind and a name. */
    name: string;
    /** Null: from the environment, a shared file, or the role of the machine. */
    credentials: Readonly<{ accessKeyId: string; secretAccessKey: string }> | null;
    /** PEM of the only authority that is trusted; null: those of the system, and `certificate_authority`. */
    ca: string | null;
  }>;

export type S3SinkWritten = S3Shared &
  Readonly<{
    kind: "s3";
    /** Null: named by its bucket. */
    name: string | null;
    accessKeyId: string | null;
    secret: Readonly<Record<"secret_access_key" | "secret_access_key_file", string | undefined>>;
    ca: Readonly<Record<"tls_ca" | "tls_ca_file", string | undefined>>;
  }>;

const shape = {
  ...formatShape,
  ...batchShape({ bytes: 8_388_608, bytesMax: 67_108_864, wait: 60_000 }),
  name: sinkName().optional(),
  prefix: stringMatching({
    label: "prefix",
    json: { type: "string" },
    pattern: /^(?:[A-Za-z0-9!_.*'()=-]{1,200}\/?){0,10}$/,
    what: "a prefix of keys",
    example: "cardea/audit",
  }).prefault(""),
  endpoint: stringValue().optional(),
  region: stringMatching({
    label: "region",
    json: { type: "string" },
    pattern: /^[a-z0-9-]{1,64}$/,
    what: "a region",
    example: "eu-central-1",
  }).prefault("us-east-1"),
  path_style: booleanValue().optional(),
  access_key_id: stringValue().optional(),
  secret_access_key: secretString().optional(),
  secret_access_key_file: filePath().optional(),
  compression: enumValue(["gzip", "zstd", "none"]).prefault("gzip"),
  encryption: enumValue(["AES256", "aws:kms"]).optional(),
  encryption_key_id: stringValue().optional(),
  tls_ca: stringValue().optional(),
  tls_ca_file: filePath().optional(),
  timeout: duration({ min: "1s", max: "10m" }).prefault("60s"),
};

export function readS3Sink(
  target: unknown,
  settings: Record<string, unknown>,
  refuse: Refuse,
): S3SinkWritten | RefusedValue {
  const read = readSettings(shape, settings, { refuse });
  if (isRefused(read)) return read;
  if (typeof target !== "string" || !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(target))
    return refuse(`${formatValue(target)} is not a bucket`, "write its name, such as - s3: audit-records", ["s3"]);
  const endpoint =
    read.endpoint === undefined
      ? null
      : checkUrl(read.endpoint, { schemes: ["https", "http"], path: "none", refuse, at: ["endpoint"] });
  if (isRefused(endpoint)) return endpoint;
  if (endpoint?.protocol === "http:" && !isLoopback(endpoint.hostname))
    return refuse("is plain HTTP, so anyone on the network path can read records", "use https", ["endpoint"]);
  const hasSecret = read.secret_access_key !== undefined || read.secret_access_key_file !== undefined;
  if (hasSecret !== (read.access_key_id !== undefined))
    return refuse(
      "has only one half of the credentials",
      "write access_key_id with secret_access_key_file, or neither",
      [hasSecret ? "secret_access_key" : "access_key_id"],
    );
  if (read.encryption_key_id !== undefined && read.encryption !== "aws:kms")
    return refuse("has no effect without encryption: aws:kms", "write it, or remove this key", ["encryption_key_id"]);
  const { name = null, format, region, compression } = read;
  return {
    kind: "s3",
    name,
    format,
    bucket: target,
    region,
    compression,
    endpoint,
    prefix: read.prefix.replace(/\/$/, ""),
    pathStyle: read.path_style ?? endpoint !== null,
    encryption: read.encryption ?? null,
    encryptionKeyId: read.encryption_key_id ?? null,
    timeoutMs: read.timeout,
    batch: batchIn(read, 1_000_000),
    accessKeyId: read.access_key_id ?? null,
    secret: { secret_access_key: read.secret_access_key, secret_access_key_file: read.secret_access_key_file },
    ca: { tls_ca: read.tls_ca, tls_ca_file: read.tls_ca_file },
  };
}
