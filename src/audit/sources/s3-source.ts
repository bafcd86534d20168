/**
 * S3 source: reads the records that the S3 sink stored, node by node, hour by hour.
 *
 * - Memory: the names of two hours (object-order.ts), and one object as a stream.
 * - A download that is cut is repeated from its beginning, without the lines that were read already.
 * - Of a time range, the hours around it are read too: the clock of a node may have been set back a little.
 */
import type { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import type { S3SinkConfig } from "../../config/index.ts";
import { CodedError } from "../../events/index.ts";
import { compressionOf, hourAt, hourFolderOf, nodesFolderOf } from "../sinks/object-key.ts";
import type { S3Connection } from "../sinks/s3-connection.ts";
import { inNumberOrder } from "./object-order.ts";
import type { RecordSource } from "./record-source.ts";

export class AuditObjectUnreadableError extends CodedError<"ERR_AUDIT_OBJECT_UNREADABLE"> {
  override readonly code = "ERR_AUDIT_OBJECT_UNREADABLE";
  constructor(key: string, options: ErrorOptions) {
    super(`the object ${key} cannot be read, or is not a file of audit records`, options);
  }
}

/** A record has 512 KiB at most; its envelope adds some hundred bytes. A longer line is cut: it is no record. */
const lineBytesMax = 1_048_576;
const attemptsMax = 3;

export function createS3Source(
  { bucket, prefix }: Pick<S3SinkConfig, "bucket" | "prefix">,
  { client, library }: S3Connection,
): RecordSource {
  async function* listed(
    query: Readonly<{ Prefix: string; StartAfter?: string; Delimiter?: string }>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Readonly<{ key: string; isFolder: boolean }>> {
    for (let token: string | undefined; ; ) {
      const command = new library.ListObjectsV2Command({
        Bucket: bucket,
        ...query,
        ...(token === undefined ? {} : { ContinuationToken: token }),
      });
      const page = await client.send(command, signal === undefined ? {} : { abortSignal: signal });
      for (const { Prefix: key } of page.CommonPrefixes ?? []) if (key !== undefined) yield { key, isFolder: true };
      for (const { Key: key } of page.Contents ?? []) if (key !== undefined) yield { key, isFolder: false };
      token = page.NextContinuationToken;
      if (page.IsTruncated !== true || token === undefined) return;
    }
  }

  async function download(key: string, signal: AbortSignal | undefined): Promise<Readable> {
    const command = new library.GetObjectCommand({ Bucket: bucket, Key: key });
    const { Body } = await client.send(command, signal === undefined ? {} : { abortSignal: signal });
    const raw = Body as Readable; // in Node.js
    const compression = compressionOf(key);
    if (compression === "none") return raw;
    const plain = compression === "gzip" ? createGunzip() : createZstdDecompress();
    raw.on("error", (error) => plain.destroy(error));
    plain.on("close", () => raw.destroy());
    return raw.pipe(plain);
  }

  async function* linesIn(key: string, signal: AbortSignal | undefined): AsyncGenerator<string> {
    let read = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        let number = 0;
        for await (const line of splitLines(await download(key, signal))) {
          number++;
          if (number <= read) continue;
          read = number;
          yield line;
        }
        return;
      } catch (error) {
        signal?.throwIfAborted();
        if (attempt >= attemptsMax) throw new AuditObjectUnreadableError(key, { cause: error });
      }
    }
  }

  return {
    name: `s3 ${bucket}`,
    async *lines({ fromMs, toMs, signal }) {
      const nodes = listed({ Prefix: nodesFolderOf(prefix), Delimiter: "/" }, signal);
      for await (const { key: node, isFolder } of nodes) {
        if (!isFolder) continue;
        const after = fromMs === undefined ? {} : { StartAfter: node + hourFolderOf(Math.max(0, hourAt(fromMs) - 1)) };
        const end = toMs === undefined ? null : node + hourFolderOf(hourAt(toMs) + 2);
        for await (const key of inNumberOrder(keysUpTo(end, listed({ Prefix: node, ...after }, signal))))
          yield* linesIn(key, signal);
      }
    },
    close: async () => client.destroy(),
  };
}

async function* keysUpTo(end: string | null, found: AsyncIterable<Readonly<{ key: string }>>): AsyncGenerator<string> {
  for await (const { key } of found) {
    if (end !== null && key >= end) return;
    yield key;
  }
}

async function* splitLines(stream: Readable): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      yield Buffer.concat([...parts, chunk.subarray(from, end)]).toString("utf8");
      parts = [];
      bytes = 0;
      from = end + 1;
    }
    const rest = chunk.subarray(from, Math.min(chunk.length, from + lineBytesMax - bytes));
    if (rest.length === 0) continue;
    parts.push(rest);
    bytes += rest.length;
  }
  if (bytes > 0) yield Buffer.concat(parts).toString("utf8");
}
