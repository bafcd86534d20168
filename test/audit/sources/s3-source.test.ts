/** The S3 source: reads back what the S3 sink stored, in order, by time, page by page, over cut downloads. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  type AuditRecord,
  connectS3,
  createRecordFormatter,
  createS3Sink,
  createS3Source,
  parseLine,
} from "../../../src/audit/index.ts";
import type { S3SinkConfig } from "../../../src/config/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { S3Server, s3Credentials } from "../../support/s3-server.ts";
import { batchOf, decision } from "../support.ts";

const hourMs = 3_600_000;
const start = Date.UTC(2026, 10, 30, 22);
const record = (seq: number, at: number): AuditRecord => ({
  ...{ kind: "decision", seq },
  ...decision("/", { at: at as UnixMs }),
});

async function world(t: TestContext, compression: S3SinkConfig["compression"] = "gzip") {
  const server = await new S3Server().start();
  t.after(() => server.stop().catch(() => undefined));
  const config: S3SinkConfig = {
    ...{ name: "s3 test", format: "json", bucket: server.bucket, prefix: "cardea", region: server.region, compression },
    ...{ endpoint: server.url, pathStyle: true, encryption: null, encryptionKeyId: null, timeoutMs: 2_000, ca: null },
    ...{ batch: { bytesMax: 8_388_608, recordsMax: 1_000_000, lingerMs: 5 }, credentials: s3Credentials },
  };
  const connection = await connectS3(config, null);
  const open = (node: string) =>
    createS3Sink(config, {
      ...{ connection, node, nowMs: () => Date.now() },
      formatRecords: createRecordFormatter({ format: "json", cluster: "c" }),
    });
  const source = createS3Source(config, connection);
  t.after(() => source.close());
  const read = async (of: Readonly<{ fromMs?: number; toMs?: number }> = {}): Promise<string[]> => {
    const found: string[] = [];
    for await (const line of source.lines(of)) found.push(line);
    return found;
  };
  return { server, open, source, read };
}

const numbers = (lines: readonly string[]): number[] => lines.map((line) => parseLine(line)?.seq ?? 0);
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

test("all records are read, node by node and in order, also with many pages", async (t) => {
  for (const compression of ["gzip", "zstd", "none"] as const) {
    const { server, open, read } = await world(t, compression);
    server.pageKeysMax = 3;
    server.objects.set("cardea/node=node-1/README.txt", { body: Buffer.from("not records"), headers: {} });
    for (const node of ["node-1", "node/2 ä"])
      for (let seq = 1; seq <= 40; seq += 2)
        await open(node).write(
          batchOf(record(seq, start + seq * 600_000), record(seq + 1, start + (seq + 1) * 600_000)),
        );
    assert.deepEqual(numbers(await read()), [...range(1, 40), ...range(1, 40)], compression);
    assert.deepEqual(server.complaints, []);
  }
});

test("records whose times go back a little around a full hour are read in the order of their numbers", async (t) => {
  const { server, open, read } = await world(t);
  server.pageKeysMax = 2;
  const before = start + hourMs - 50;
  const times = [before, start + hourMs, before + 10, start + hourMs + 5, before + 20, start + hourMs + 6];
  const sink = open("node-1");
  for (let at = 0; at < times.length; at += 2)
    await sink.write(batchOf(...[0, 1].map((n) => record(at + n + 1, times[at + n] ?? 0))));
  for (const seq of [7, 8, 9, 10]) await sink.write(batchOf(record(seq, start + (seq - 4) * hourMs - (seq % 2) * 7)));
  assert.deepEqual(numbers(await read()), range(1, 10));
});

test("lines are those of the spool, byte for byte", async (t) => {
  const { open, read } = await world(t);
  const batch = batchOf({ ...record(1, start), path: "/ä/\u2028/😀" } as AuditRecord, record(2, start));
  await open("node-1").write(batch);
  assert.equal(`${(await read()).join("\n")}\n`, batch.bytes.toString());
});

test("of a time range only the hours around it are downloaded", async (t) => {
  const { server, open, read } = await world(t);
  for (const seq of range(1, 48)) await open("node-1").write(batchOf(record(seq, start + (seq - 1) * hourMs)));
  const downloaded: string[] = [];
  server.before = ({ method, key }) => {
    if (method === "GET" && key !== "") downloaded.push(key);
    return false;
  };
  const found = numbers(await read({ fromMs: start + 20 * hourMs, toMs: start + 22 * hourMs }));
  for (const seq of [21, 22, 23]) assert.ok(found.includes(seq), `${found}`);
  assert.ok(downloaded.length <= 6, `${downloaded.length} objects`);
});

test("a download that is cut is repeated, and no line comes twice", async (t) => {
  const { server, open, read } = await world(t, "none");
  await open("node-1").write(batchOf(...range(1, 500).map((seq) => record(seq, start))));
  let cuts = 0;
  server.after = ({ method, key }, response) => {
    if (method !== "GET" || cuts >= 2) return false;
    cuts++;
    const { body } = server.objects.get(key) ?? { body: Buffer.alloc(0) };
    response.writeHead(200, { "content-length": body.length });
    response.write(body.subarray(0, Math.floor((body.length * cuts) / 3)), () => response.destroy());
    return true;
  };
  assert.deepEqual(numbers(await read()), range(1, 500));
  assert.equal(cuts, 2);
});

test("an object that is damaged is named", async (t) => {
  const { server, open, read } = await world(t);
  await open("node-1").write(batchOf(record(1, start)));
  const [key = ""] = [...server.objects.keys()];
  server.objects.set(key, { body: gzipSync("x".repeat(10_000)).subarray(0, 40), headers: {} });
  await assert.rejects(read(), { code: "ERR_AUDIT_OBJECT_UNREADABLE", message: new RegExp(key) });
});

test("reading ends when its caller says so", async (t) => {
  const { open, source } = await world(t);
  await open("node-1").write(batchOf(record(1, start), record(2, start)));
  const stop = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of source.lines({ signal: stop.signal })) stop.abort();
    for await (const _ of source.lines({ signal: stop.signal })) assert.fail();
  });
});
