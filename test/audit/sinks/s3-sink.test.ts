/** The S3 sink against a server that checks signatures and checksums: layout, idempotence, faults, and its errors. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import {
  type AuditRecord,
  type AuditSink,
  connectS3,
  createRecordFormatter,
  createS3Sink,
  parseLine,
  withoutEnvelope,
} from "../../../src/audit/index.ts";
import type { S3SinkConfig } from "../../../src/config/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { Authority } from "../../support/pki.ts";
import { S3Server, s3Credentials, sendError } from "../../support/s3-server.ts";
import { waitFor } from "../../support/wait-for.ts";
import { checkSink } from "../sink-contract.ts";
import { ModelDisk } from "../spool/model-disk.ts";
import { startSpool } from "../spool/spool-support.ts";
import { batchOf, decision } from "../support.ts";

const morning = Date.UTC(2026, 10, 30, 4, 59, 59);
const record = (seq: number, at = morning, path = "/"): AuditRecord => ({
  ...{ kind: "decision", seq },
  ...decision(path, { at: at as UnixMs }),
});

function configOf(server: S3Server, more: Partial<S3SinkConfig> = {}): S3SinkConfig {
  return {
    ...{ name: "s3 test", format: "json", bucket: server.bucket, prefix: "cardea/audit", region: server.region },
    ...{ endpoint: server.url, pathStyle: true, compression: "gzip", encryption: null, encryptionKeyId: null },
    ...{ timeoutMs: 2_000, batch: { bytesMax: 8_388_608, recordsMax: 1_000_000, lingerMs: 5 } },
    ...{ credentials: s3Credentials, ca: null },
    ...more,
  };
}

async function openSink(config: S3SinkConfig, authority: string | null = null): Promise<AuditSink> {
  return createS3Sink(config, {
    connection: await connectS3(config, authority),
    node: "node-1",
    formatRecords: createRecordFormatter({ format: config.format, cluster: "c" }),
    nowMs: () => Date.now(),
  });
}

async function startServer(t: TestContext): Promise<S3Server> {
  const server = await new S3Server().start();
  t.after(() => server.stop().catch(() => undefined));
  return server;
}

const linesOf = (text: Buffer): string[] =>
  text
    .toString()
    .split("\n")
    .filter((line) => line !== "");
const recordsOf = ({ objects }: S3Server): AuditRecord[] =>
  [...objects.values()].flatMap(({ body }) => linesOf(gunzipSync(body)).flatMap((line) => parseLine(line) ?? []));
const folder = "cardea/audit/node=node-1/date=2026-11-30";

checkSink("s3", async (t) => {
  const server = await startServer(t);
  return {
    open: () => openSink(configOf(server)),
    records: async () => recordsOf(server),
    breakDown: () => server.stop(),
    repair: async () => {
      await server.start();
    },
  };
});

describe("objects", () => {
  test("are named by node, hour and records, and have the exact lines", async (t) => {
    const server = await startServer(t);
    const sink = await openSink(configOf(server, { encryption: "aws:kms", encryptionKeyId: "key-1" }));
    const batch = batchOf(record(7), record(8, morning, "/ä/\u2028/😀"));
    await sink.write(batch);
    await sink.close();
    const [[key, object] = ["", { body: Buffer.alloc(0), headers: {} }]] = [...server.objects];
    assert.equal(key, `${folder}/hour=04/boot-1-000000000007-000000000008.ndjson.gz`);
    assert.ok(gunzipSync(object.body).equals(batch.bytes));
    assert.equal(object.headers["x-amz-server-side-encryption"], "aws:kms");
    assert.equal(object.headers["x-amz-server-side-encryption-aws-kms-key-id"], "key-1");
    assert.equal(object.headers["content-type"], "application/gzip");
    assert.deepEqual(server.complaints, []);
  });

  test("hold one hour each; a record that is a little older than the one before stays with it", async (t) => {
    const server = await startServer(t);
    const sink = await openSink(configOf(server, { prefix: "", compression: "none" }));
    const next = morning + 1_500;
    await sink.write(batchOf(record(1), record(2, next), record(3), record(4, next), record(5, next + 3 * 3_600_000)));
    await sink.close();
    assert.deepEqual(
      [...server.objects.keys()],
      [
        "node=node-1/date=2026-11-30/hour=04/boot-1-000000000001-000000000001.ndjson",
        "node=node-1/date=2026-11-30/hour=05/boot-1-000000000002-000000000004.ndjson",
        "node=node-1/date=2026-11-30/hour=08/boot-1-000000000005-000000000005.ndjson",
      ],
    );
  });

  test("of a batch that is written again are replaced; a gap has a name of its own", async (t) => {
    const server = await startServer(t);
    for (let i = 0; i < 2; i++) {
      const sink = await openSink(configOf(server));
      await sink.write(batchOf(record(1), record(2)));
      await sink.write({ ...batchOf(record(2)), isGap: true });
      await sink.close();
    }
    assert.equal(server.puts.length, 4);
    assert.deepEqual(
      [...server.objects.keys()].map((key) => key.split("/").at(-1)),
      ["boot-1-000000000001-000000000002.ndjson.gz", "boot-1-000000000002-000000000002-gap.ndjson.gz"],
    );
  });

  test("are compressed with zstd, and formatted, if the configuration says so", async (t) => {
    const server = await startServer(t);
    const sink = await openSink(configOf(server, { compression: "zstd", format: "cloudevents" }));
    const records = Array.from({ length: 300 }, (_, i) => record(i + 1, morning, `/${"x".repeat(500)}`));
    await sink.write(batchOf(...records));
    await sink.close();
    const [[key, object] = ["", { body: Buffer.alloc(0) }]] = [...server.objects];
    assert.match(key, /\.ndjson\.zst$/);
    const lines = linesOf(zstdDecompressSync(object.body));
    assert.deepEqual(
      lines.map((line) => withoutEnvelope(JSON.parse(line))),
      records,
    );
  });
});

describe("faults", () => {
  test("an object that was stored, and whose answer was lost, is replaced by the same one", async (t) => {
    const server = await startServer(t);
    let left = 2;
    server.after = (_, response) => {
      left--;
      if (left >= 0) response.destroy();
      return left >= 0;
    };
    const recorder = await startSpool(new ModelDisk(), [await openSink(configOf(server))]);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("an attempt", () => server.puts.length > 0);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("all records", () => recorder.stats().sinks[0]?.queued === 0, { withinMs: 20_000 });
    await recorder.close(1_000);
    assert.ok(server.puts.length > server.objects.size);
    const numbers = recordsOf(server).map(({ seq }) => seq);
    assert.deepEqual(numbers, [...new Set(numbers)], "no record is in two objects");
    assert.equal(numbers.length, 10);
  });

  test("the second hour of a batch fails: the whole batch is written again, with the same keys", async (t) => {
    const server = await startServer(t);
    const sink = await openSink(configOf(server));
    server.before = ({ key }, response) => key.includes("hour=05") && sendError(response, 503, "SlowDown");
    const batch = batchOf(record(1), record(2, morning + 1_500));
    await assert.rejects(sink.write(batch), { code: "ERR_AUDIT_SINK_BUSY" });
    server.before = () => false;
    await sink.write(batch);
    await sink.close();
    assert.equal(server.objects.size, 2);
    assert.equal(recordsOf(server).length, 2);
  });

  test("a store that is silent, cuts the connection or answers garbage: the batch waits, within the timeout", async (t) => {
    const server = await startServer(t);
    const sink = await openSink(configOf(server, { timeoutMs: 1_000 }));
    for (const fault of [
      () => true,
      (_: unknown, response: Parameters<typeof server.before>[1]) => {
        response.destroy();
        return true;
      },
      (_: unknown, response: Parameters<typeof server.before>[1]) => {
        response.writeHead(500).end("<<<not xml");
        return true;
      },
    ]) {
      server.before = fault;
      const begunMs = performance.now();
      await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY" });
      assert.ok(performance.now() - begunMs < 4_000);
    }
    await sink.close();
  });

  test("refusals wait, name the remedy and quote nothing of the store", async (t) => {
    const server = await startServer(t);
    const { secretAccessKey } = s3Credentials;
    const refusalOf = async (config: S3SinkConfig): Promise<string> => {
      const sink = await openSink(config);
      const error: unknown = await sink.write(batchOf(record(1))).catch((each: unknown) => each);
      await sink.close();
      assert.ok(error instanceof Error);
      assert.doesNotMatch(error.message, /text of the store|AKIDEXAMPLE|wJalr/);
      return error.message;
    };
    const { accessKeyId } = s3Credentials;
    assert.match(
      await refusalOf(configOf(server, { bucket: "other" })),
      /NoSuchBucket \(404\); create it, or correct s3/,
    );
    const wrong = { accessKeyId, secretAccessKey: `${secretAccessKey}x` };
    assert.match(
      await refusalOf(configOf(server, { credentials: wrong })),
      /SignatureDoesNotMatch \(403\); correct secret_/,
    );
    server.before = (_, response) => sendError(response, 403, "AccessDenied");
    assert.match(
      await refusalOf(configOf(server)),
      /AccessDenied \(403\); give the credentials the right s3:PutObject/,
    );
    await server.stop();
    assert.match(await refusalOf(configOf(server)), /answers ECONNREFUSED/);
  });

  test("the store says when to try again", async (t) => {
    const server = await startServer(t);
    server.before = (_, response) => {
      response.setHeader("retry-after", "7");
      return sendError(response, 503, "SlowDown");
    };
    const sink = await openSink(configOf(server));
    const error: unknown = await sink.write(batchOf(record(1))).catch((each: unknown) => each);
    await sink.close();
    assert.equal((error as { retryAfterMs: number }).retryAfterMs, 7_000);
  });
});

test("TLS: the given authority is trusted, and no other", async (t) => {
  const [authority, stranger] = [await Authority.root(), await Authority.root()];
  const { cert, key } = await authority.issue({ hosts: ["localhost"] });
  const server = await new S3Server({ cert, key }).start();
  t.after(() => server.stop());
  const write = async (ca: string | null, own: string | null): Promise<void> => {
    const sink = await openSink(configOf(server, { ca }), own);
    try {
      await sink.write(batchOf(record(1)));
    } finally {
      await sink.close();
    }
  };
  await write(authority.pem, null);
  await write(null, authority.pem);
  await assert.rejects(write(null, null), { code: "ERR_AUDIT_SINK_BUSY" });
  await assert.rejects(write(stranger.pem, authority.pem), { code: "ERR_AUDIT_SINK_BUSY" });
  assert.equal(server.puts.length, 2);
});
