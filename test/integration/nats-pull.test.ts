/** Pulling the audit stream of a real NATS server: by any process, over restarts, and never silently past a loss. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import {
  type AuditRecord,
  auditStreamName,
  createFeed,
  createNatsAuditSink,
  createNatsHistory,
  createStatusBoard,
  ensureAuditStream,
  type Feed,
  followAuditStream,
  formatCursor,
  parseCursor,
  publishAuditStatus,
  type RecordCursor,
  type RecordHistory,
  type RecordPage,
  readRecords,
  receiveAuditStatus,
  signStatus,
  statusOf,
} from "../../src/audit/index.ts";
import type { BootId, NodeId } from "../../src/events/index.ts";
import { batchOf, decision, secret, signerOf } from "../audit/support.ts";
import { startNats } from "../support/nats.ts";
import type { NatsCluster } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

const cluster = "test";
const streamBytesMax = 50_000_000;
const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  delay(ms, undefined, signal === undefined ? {} : { signal });
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const bounds = (records = 400) => ({ records, bytes: 10_000_000, signal: new AbortController().signal });

async function startBench(t: TestContext) {
  const nats: NatsCluster = await startNats();
  t.after(() => nats.stop());
  async function connection(): Promise<NatsConnection> {
    const opened = await connect({
      servers: [...nats.urls],
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      timeout: 2_000,
    });
    t.after(() => opened.close());
    return opened;
  }
  /** A process that serves operators. `max`: records in memory. */
  async function reader(max = 50) {
    const own = await connection();
    const history = createNatsHistory({ connection: async () => own, cluster, secrets: [secret] });
    const feed = createFeed({ entriesMax: max, bytesMax: 50_000_000, watchersMax: 10 });
    const follower = followAuditStream({
      ...{ connection: await connection(), cluster, secrets: [secret], replicas: 1, streamBytesMax, feed, sleep },
      now: () => Date.now(),
      onFailure() {},
    });
    t.after(() => follower.stop());
    return { feed, history, sleep };
  }
  async function writer(node: string) {
    const who = { node: node as NodeId, boot: `boot-${node}` as BootId };
    const sink = createNatsAuditSink({
      ...{ connection: await connection(), cluster, region: "here", ...who, replicas: 1, streamBytesMax },
      signer: signerOf({ cluster, ...who }),
    });
    return (...numbers: readonly number[]): Promise<void> =>
      sink.write(
        batchOf(...numbers.map((seq): AuditRecord => ({ kind: "decision", seq, ...decision(`/${seq}`, who) }))),
      );
  }
  return { nats, connection, reader, writer };
}

type Reader = Readonly<{ feed: Feed; history: RecordHistory; sleep: typeof sleep }>;

function hasInMemory({ feed }: Reader, newest: number): boolean {
  const last = feed.cursorBefore(1, () => true);
  return last !== null && feed.read(last, bounds(1))[0]?.record.seq === newest;
}

async function readAll(reader: Reader, from: RecordCursor, portion = 400) {
  const numbers: number[] = [];
  const missed: RecordPage["missed"][] = [];
  for (let after = from; ; ) {
    const page = await readRecords(reader, after, bounds(portion));
    numbers.push(...page.entries.map(({ record }) => record.seq));
    if (page.missed !== null) missed.push(page.missed);
    after = page.after;
    if (page.isAtEnd && page.entries.length === 0) return { numbers, missed, after };
  }
}

test("a reader resumes at another process and after its restart, also far behind what is in memory", async (t) => {
  const bench = await startBench(t);
  const write = await bench.writer("node-a");
  await ensureAuditStream(await bench.connection(), { cluster, replicas: 1, streamBytesMax });
  const one = await bench.reader();
  for (let seq = 1; seq <= 600; seq += 3) await write(seq, seq + 1, seq + 2);
  await waitFor("the newest record", () => hasInMemory(one, 600));
  const begin = { ...(await one.history.end()), number: 0 };
  const first = await readRecords(one, begin, bounds(100));
  assert.deepEqual(
    first.entries.map(({ record }) => record.seq),
    range(1, 100),
  );
  const text = formatCursor(first.after);
  const cursor = parseCursor(text) ?? assert.fail(text);
  const another = await bench.reader();
  await waitFor("the newest record at another process", () => hasInMemory(another, 600));
  const rest = await readAll(another, cursor, 61);
  assert.deepEqual([rest.numbers, rest.missed], [range(101, 600), []]);
  await bench.nats.kill();
  await assert.rejects(another.history.read(cursor, bounds()), { code: "ERR_AUDIT_RECORDS_UNREADABLE" });
  await bench.nats.start();
  await waitFor("the same again after a restart of the server", async () => {
    const again = await readAll(another, cursor).catch(() => null);
    return again !== null && again.numbers.length === 500 && again.missed.length === 0;
  });
  await waitFor("more records", () =>
    write(601).then(
      () => true,
      () => false,
    ),
  );
  await waitFor("the record after the restart", async () => (await readAll(another, rest.after)).numbers.includes(601));
});

test("a cursor of a time leads to the records of that time", async (t) => {
  const bench = await startBench(t);
  const write = await bench.writer("node-a");
  await write(1, 2);
  await delay(300);
  const atMs = Date.now();
  const reader = await bench.reader();
  assert.deepEqual(await reader.history.cursorAt(atMs + 60_000), await reader.history.end());
  await write(3);
  await write(4);
  const cursor = await reader.history.cursorAt(atMs);
  assert.deepEqual((await readAll(reader, cursor)).numbers, [3, 4]);
});

test("messages that the stream removed are counted, and forged ones are passed without being shown", async (t) => {
  const bench = await startBench(t);
  const write = await bench.writer("node-a");
  const reader = await bench.reader(5);
  for (const seq of range(1, 40)) await write(seq);
  const connection = await bench.connection();
  const forged = JSON.stringify({ kind: "decision", seq: 99, ...decision("/forged") });
  await jetstream(connection).publish(`audit.${cluster}.here.node-a`, `${forged}\n`);
  await write(41);
  const manager = await jetstreamManager(connection);
  await manager.streams.purge(auditStreamName(cluster), { seq: 21 });
  const begin = { ...(await reader.history.end()), number: 5 };
  const read = await readAll(reader, begin);
  assert.deepEqual(read.missed, [{ reason: "removed", count: 15 }]);
  assert.deepEqual(read.numbers, range(21, 41));
});

test("a stream that was created again knows no older cursor, nor one beyond its end", async (t) => {
  const bench = await startBench(t);
  const write = await bench.writer("node-a");
  const reader = await bench.reader();
  await write(...range(1, 10));
  const { after } = await readAll(reader, { ...(await reader.history.end()), number: 0 });
  const manager = await jetstreamManager(await bench.connection());
  const beyond = await reader.history.read({ ...after, number: after.number + 7 }, bounds());
  assert.deepEqual([beyond.missed, beyond.entries.length], [{ reason: "cursor_unknown", count: null }, 10]);
  await manager.streams.delete(auditStreamName(cluster));
  await waitFor("the records after that", () =>
    write(11, 12).then(
      () => true,
      () => false,
    ),
  );
  await waitFor("the feed to follow the new stream", () => reader.feed.start()?.sequence !== after.sequence);
  const read = await readAll(reader, after);
  assert.deepEqual(read.missed, [{ reason: "cursor_unknown", count: null }]);
  assert.deepEqual(read.numbers, [11, 12]);
});

test("several readers at once each get everything", async (t) => {
  const bench = await startBench(t);
  const write = await bench.writer("node-a");
  const reader = await bench.reader(10);
  for (let seq = 1; seq <= 300; seq += 10) await write(...range(seq, seq + 9));
  const begin = { ...(await reader.history.end()), number: 0 };
  const reads = await Promise.all(range(1, 12).map(() => readAll(reader, begin, 64)));
  for (const { numbers } of reads) assert.deepEqual(numbers, range(1, 300));
});

test("each node's status reaches those that listen, and nothing else does", async (t) => {
  const bench = await startBench(t);
  const clocks = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const board = createStatusBoard({ cluster, secrets: [secret], ...clocks });
  const listening = await bench.connection();
  receiveAuditStatus(listening, cluster, board);
  await listening.flush();
  const stop = new AbortController();
  t.after(() => stop.abort());
  const stats = { recorded: 1, dropped: 0, unreserved: 0, pending: 5, pendingBytes: 1, spoolBytes: 1, refusal: null };
  const connection = await bench.connection();
  for (const node of ["node-a", "node-b"]) {
    const where = { node, boot: `boot-${node}`, region: "here", spoolBytesMax: 9 };
    const signer = signerOf({ cluster, node, boot: where.boot });
    void publishAuditStatus({
      ...{
        connection: async () => connection,
        cluster,
        signal: stop.signal,
        sleep: (_ms, signal) => sleep(50, signal),
      },
      report: () => signStatus(statusOf({ ...stats, sinks: [] }, { ...where, atMs: Date.now() }), signer),
    });
  }
  connection.publish("audit-status.test", new Uint8Array(100));
  await waitFor("both nodes", () => board.list().length === 2);
  assert.deepEqual(
    board.list().map(({ node }) => node),
    ["node-a", "node-b"],
  );
});
