/** The S3 sink and source against OpenStack Swift, a real object store with the S3 API. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AuditRecord,
  connectS3,
  createRecordFormatter,
  createS3Sink,
  createS3Source,
  parseLine,
} from "../../src/audit/index.ts";
import type { S3SinkConfig } from "../../src/config/index.ts";
import type { UnixMs } from "../../src/events/index.ts";
import { batchOf, decision } from "../audit/support.ts";
import { hasSwift, startSwift } from "../support/swift.ts";

const hourMs = 3_600_000;
const start = Date.UTC(2026, 10, 30, 22);
const record = (seq: number, at = start): AuditRecord => ({
  ...{ kind: "decision", seq },
  ...decision(`/ä/${"x".repeat(500)}`, { at: at as UnixMs }),
});
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

test("OpenStack Swift stores batches once, and returns them in order", { skip: !hasSwift() }, async (t) => {
  const swift = await startSwift();
  t.after(() => swift.stop());
  for (const compression of ["gzip", "zstd"] as const) {
    const config: S3SinkConfig = {
      ...{ name: "s3 swift", format: "json", bucket: `records-${compression}`, prefix: "cardea/audit", compression },
      ...{ endpoint: swift.url, region: swift.region, pathStyle: true, credentials: swift.credentials, ca: null },
      ...{ encryption: null, encryptionKeyId: null, timeoutMs: 20_000 },
      batch: { bytesMax: 8_388_608, recordsMax: 1_000_000, lingerMs: 1 },
    };
    const connection = await connectS3(config, null);
    const { client, library } = connection;
    const formatRecords = createRecordFormatter({ format: "json", cluster: "c" });
    const sink = createS3Sink(config, { connection, node: "node/1 ä", formatRecords, nowMs: () => Date.now() });
    await assert.rejects(sink.write(batchOf(record(1))), /NoSuchBucket \(404\); create it/);
    await client.send(new library.CreateBucketCommand({ Bucket: config.bucket }));

    const large = batchOf(...range(1, 2_000).map((seq) => record(seq)));
    for (let i = 0; i < 2; i++) await sink.write(large); // as after a lost answer
    for (const hour of range(1, 4)) await sink.write(batchOf(record(2_000 + hour, start + hour * hourMs)));

    const source = createS3Source(config, connection);
    const read = async (of: Readonly<{ fromMs?: number; toMs?: number }>): Promise<string[]> => {
      const lines: string[] = [];
      for await (const line of source.lines(of)) lines.push(line);
      return lines;
    };
    const lines = await read({});
    assert.equal(`${lines.slice(0, 2_000).join("\n")}\n`, large.bytes.toString(), "byte for byte, once");
    assert.deepEqual(
      lines.slice(2_000).map((line) => parseLine(line)?.seq),
      range(2_001, 2_004),
    );
    const late = (await read({ fromMs: start + 3 * hourMs })).map((line) => parseLine(line)?.seq);
    assert.ok(late.includes(2_003) && late.includes(2_004) && late.length <= 3, `${late}`);

    const wrong = { ...swift.credentials, secretAccessKey: "another" };
    const stranger = await connectS3({ ...config, credentials: wrong }, null);
    const refused = createS3Sink(config, { connection: stranger, node: "n", formatRecords, nowMs: () => Date.now() });
    await assert.rejects(refused.write(batchOf(record(1))), /SignatureDoesNotMatch \(403\); correct secret_access_key/);
    await Promise.all([refused.close(), sink.close()]);
  }
});
