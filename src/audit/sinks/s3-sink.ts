/**
 * S3 sink: stores batches of records as compressed files of JSON lines in object storage.
 *
 * - The sink has a batch once every object of it is stored. Until then its records are in the spool, so a long
 *   `batch_wait` costs no safety.
 * - A batch that is written again has the same keys (object-key.ts), so it replaces what is there.
 * - No record is ever rejected: what the store refuses is about the bucket, the credentials or the request.
 */
import { promisify } from "node:util";
import { gzip, zstdCompress } from "node:zlib";
import type { S3SinkConfig } from "../../config/index.ts";
import { type AuditSink, AuditSinkBusyError } from "../audit-sink.ts";
import type { RecordFormatter } from "./formatted-sink.ts";
import { objectKeyOf, partsByHour } from "./object-key.ts";
import type { S3Connection } from "./s3-connection.ts";
import { retryAfterMsOf } from "./sink-answer.ts";

type Compress = (bytes: Buffer) => Promise<Buffer>;

const compressors: Readonly<Record<S3SinkConfig["compression"], Compress>> = {
  gzip: promisify<Buffer, Buffer>(gzip),
  zstd: promisify<Buffer, Buffer>(zstdCompress),
  none: async (bytes) => Buffer.from(bytes),
};
const contentTypes = { gzip: "application/gzip", zstd: "application/zstd", none: "application/x-ndjson" } as const;

export function createS3Sink(
  config: S3SinkConfig,
  options: Readonly<{
    connection: S3Connection;
    node: string;
    formatRecords: RecordFormatter;
    nowMs: () => number;
  }>,
): AuditSink {
  const { client, library } = options.connection;
  const { name, bucket, prefix, compression, encryption, encryptionKeyId, timeoutMs } = config;
  const { node, formatRecords, nowMs } = options;

  async function put(key: string, body: Buffer): Promise<void> {
    const command = new library.PutObjectCommand({
      Bucket: bucket,
      Key: key,
      Body: body,
      ContentType: contentTypes[compression],
      ChecksumAlgorithm: "CRC32",
      ...(encryption === null ? {} : { ServerSideEncryption: encryption }),
      ...(encryptionKeyId === null ? {} : { SSEKMSKeyId: encryptionKeyId }),
    });
    try {
      await client.send(command, { abortSignal: AbortSignal.timeout(timeoutMs) });
    } catch (error) {
      throw busyErrorOf(name, error, nowMs());
    }
  }

  return {
    name,
    batching: config.batch,
    async write(batch) {
      for (const part of partsByHour(batch)) {
        const body = await compressors[compression](await formatRecords(part.bytes));
        await put(objectKeyOf({ ...batch, ...part }, { prefix, node, compression }), body);
      }
    },
    close: async () => client.destroy(),
  };
}

const remedies: Readonly<Record<string, string>> = {
  NoSuchBucket: "create it, or correct s3 in audit.sinks",
  AccessDenied: "give the credentials the right s3:PutObject",
  InvalidAccessKeyId: "correct access_key_id in audit.sinks",
  SignatureDoesNotMatch: "correct secret_access_key_file in audit.sinks",
  CredentialsProviderError: "write access_key_id and secret_access_key_file in audit.sinks, or give the machine a role",
  PermanentRedirect: "correct region in audit.sinks",
  AuthorizationHeaderMalformed: "correct region in audit.sinks",
  RequestTimeTooSkewed: "correct the clock",
};

/** The message has the name of the error alone: the store's own text may quote a credential. */
function busyErrorOf(sink: string, error: unknown, nowMs: number): AuditSinkBusyError {
  const name = error instanceof Error ? nameOf(error) : String(error);
  const remedy = remedies[name];
  const status = statusOf(error);
  const retryAfter = retryAfterOf(error);
  const why = `the object store answers ${name}${status === null ? "" : ` (${status})`}${remedy === undefined ? "" : `; ${remedy}`}`;
  return new AuditSinkBusyError(sink, {
    why,
    retryAfterMs: retryAfter === null ? 0 : retryAfterMsOf(retryAfter, nowMs),
    cause: error,
  });
}

/** For errors of the network and of TLS, their code. */
function nameOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}

function statusOf(error: unknown): number | null {
  if (typeof error !== "object" || error === null || !("$metadata" in error)) return null;
  const { httpStatusCode = null } = error.$metadata as Readonly<{ httpStatusCode?: number }>;
  return httpStatusCode;
}

function retryAfterOf(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("$response" in error)) return null;
  const { headers = {} } = (error.$response ?? {}) as Readonly<{ headers?: Readonly<Record<string, unknown>> }>;
  const value = headers["retry-after"];
  return typeof value === "string" ? value : null;
}
