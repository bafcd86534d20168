/** Audit over a real NATS server: what is recorded arrives, once and in order, whatever happens to the server and its stream. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import {
  type AuditRecord,
  type AuditSink,
  auditStreamName,
  createFeed,
  createNatsAuditSink,
  createRecorder,
  ensureAuditStream,
  type Feed,
  followAuditStream,
  type Recorder,
  readAuditStream,
} from "../../src/audit/index.ts";
import { recordSource } from "../../src/cli/audit-records.ts";
import type { BootId, NodeId, UnixMs } from "../../src/events/index.ts";
import { batchOf, decision } from "../audit/support.ts";
import { startNats } from "../support/nats.ts";
import type { NatsCluster } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

const cluster = "test";
const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  delay(ms, undefined, signal === undefined ? {} : { signal });

type Bench = Readonly<{
  nats: NatsCluster;
  connection(): Promise<NatsConnection>;
  sink(node: string, boot: string): Promise<AuditSink>;
  recorder(node: string, options?: Readonly<{ queueMax?: number }>): Promise<Recorder>;
  feed(): Promise<Feed>;
}>;

async function startBench(t: TestContext): Promise<Bench> {
  const nats = await startNats();
  t.after(() => nats.stop());
  async function connection(): Promise<NatsConnection> {
    const made = await connect({
      servers: [...nats.urls],
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      pingInterval: 2_000,
      timeout: 2_000,
    });
    t.after(() => made.close());
    return made;
  }
  const sink = async (node: string, boot: string): Promise<AuditSink> =>
    createNatsAuditSink({ connection: await connection(), cluster, region: "here", node, boot, replicas: 3 });
  return {
    nats,
    connection,
    sink,
    async recorder(node, options = {}) {
      const boot = randomUUID();
      const recorder = createRecorder({
        node: node as NodeId,
        boot: boot as string as BootId,
        sinks: [await sink(node, boot)],
        queueMax: options.queueMax ?? 10_000,
        gatherMs: 20,
        now: () => Date.now() as UnixMs,
        sleep,
        onFailure() {},
      });
      t.after(() => recorder.close(500));
      const record = recorder.record;
      return {
        ...recorder,
        record: (made) => record({ ...made, node: node as NodeId, boot: boot as string as BootId }),
      };
    },
    async feed() {
      const feed = createFeed({ id: randomUUID(), keep: 50_000, watchersMax: 10 });
      const follower = followAuditStream({
        connection: await connection(),
        cluster,
        replicas: 3,
        feed,
        now: () => Date.now(),
        sleep,
        onFailure() {},
      });
      t.after(() => follower.stop());
      return feed;
    },
  };
}

/** Everything that a feed shows, as it comes. */
function watchAll(feed: Feed): Readonly<{ of(node: string): AuditRecord[]; cursors: string[] }> {
  const watcher = feed.watch({ newest: 1_000 });
  const seen: AuditRecord[] = [];
  const cursors: string[] = [];
  const take = (): void => {
    for (;;) {
      const { entries, missed } = watcher.take(500);
      assert.equal(missed, false);
      if (entries.length === 0) return;
      seen.push(...entries.map(({ record }) => record));
      cursors.push(...entries.map(({ cursor }) => cursor));
    }
  };
  return {
    of(node) {
      take();
      return seen.filter((record) => record.node === node);
    },
    cursors,
  };
}

const numbers = (records: readonly AuditRecord[]): number[] => records.map(({ seq }) => seq);
const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

test("records of several nodes arrive in a feed, each node's in order", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorders = await Promise.all([bench.recorder("node-a"), bench.recorder("node-b")]);
  for (let i = 0; i < 300; i++) {
    for (const recorder of recorders) recorder.record(decision(`/${i}`));
    if (i % 50 === 0) await delay(10);
  }
  for (const node of ["node-a", "node-b"]) {
    await waitFor(`the records of ${node}`, () => feed.of(node).length === 300);
    assert.deepEqual(numbers(feed.of(node)), range(1, 300));
  }
  assert.equal(new Set(feed.cursors).size, feed.cursors.length, "no cursor twice");
});

test("a batch that is offered again is kept once, and one for each of a great many records comes through", async (t) => {
  const bench = await startBench(t);
  const sink = await bench.sink("node-a", "boot-a");
  const batch = range(1, 1_000).map(
    (seq): AuditRecord => ({
      kind: "decision",
      seq,
      ...decision(`/${"x".repeat(900)}`, { boot: "boot-a" as BootId, node: "node-a" as NodeId }),
    }),
  );
  await sink.write(batchOf(...batch));
  const manager = await jetstreamManager(await bench.connection());
  const before = await manager.streams.info(auditStreamName(cluster));
  assert.ok(before.state.messages > 1, "cut into several messages");
  await sink.write(batchOf(...batch));
  const after = await manager.streams.info(auditStreamName(cluster));
  assert.equal(after.state.messages, before.state.messages);
  const feed = watchAll(await bench.feed());
  await waitFor("all of them", () => feed.of("node-a").length >= 1_000);
  assert.deepEqual(numbers(feed.of("node-a")), range(1, 1_000));
});

test("what was repeated beyond the server's memory is passed on once all the same", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const one = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision("/", { boot: "boot-a" as BootId }) });
  const first = await bench.sink("node-1", "boot-a");
  await first.write(batchOf(one(1), one(2)));
  const forgetful = await bench.sink("node-1", "another-id-for-the-same-records");
  await forgetful.write(batchOf(one(1), one(2)));
  await first.write(batchOf(one(3)));
  await waitFor("the third", () => feed.of("node-1").length >= 3);
  assert.deepEqual(numbers(feed.of("node-1")), [1, 2, 3]);
});

test("a server that is restarted delays records and loses none", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a", { queueMax: 100_000 }); // however long the server takes to start
  let recorded = 0;
  const load = setInterval(() => {
    recorder.record(decision());
    recorded++;
  }, 2);
  t.after(() => clearInterval(load));
  await waitFor("the first records", () => feed.of("node-a").length > 20);
  const [server] = bench.nats.nodes;
  await server?.kill();
  await delay(1_000);
  await server?.start();
  const { length } = feed.of("node-a");
  await waitFor("records after the restart", () => feed.of("node-a").length > length + 100, { withinMs: 30_000 });
  clearInterval(load);
  await waitFor("the rest", () => feed.of("node-a").length === recorded, { withinMs: 30_000 });
  assert.deepEqual(numbers(feed.of("node-a")), range(1, recorded));
});

test("a server that is away longer than the queue is long leaves a gap that says exactly what is missing", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a", { queueMax: 100 });
  for (let i = 0; i < 50; i++) recorder.record(decision());
  await waitFor("the first records", () => feed.of("node-a").length === 50);
  const [server] = bench.nats.nodes;
  await server?.kill();
  for (let i = 0; i < 500; i++) {
    recorder.record(decision());
    if (i % 50 === 0) await delay(10);
  }
  await server?.start();
  await waitFor("the last record", () => feed.of("node-a").at(-1)?.seq === 550, { withinMs: 30_000 });
  const told = feed.of("node-a").flatMap((r) => (r.kind === "gap" ? range(r.first, r.last) : [r.seq]));
  assert.deepEqual(told, range(1, 550));
  assert.ok(feed.of("node-a").some(({ kind }) => kind === "gap"));
});

test("a stream that is deleted under load is made again, and the feed goes on with the new one", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a");
  const load = setInterval(() => recorder.record(decision()), 2);
  t.after(() => clearInterval(load));
  await waitFor("the first records", () => feed.of("node-a").length > 100);
  const manager = await jetstreamManager(await bench.connection());
  let mayGo = 0;
  for (let round = 0; round < 2; round++) {
    const had = feed.of("node-a").length;
    await manager.streams.delete(auditStreamName(cluster));
    mayGo += recorder.stats().recorded - had;
    const { length } = feed.of("node-a");
    await waitFor("records of the new stream", () => feed.of("node-a").length > length + 100, { withinMs: 30_000 });
  }
  clearInterval(load);
  const { recorded } = recorder.stats();
  await waitFor("the last record", () => feed.of("node-a").at(-1)?.seq === recorded, { withinMs: 30_000 });
  const seen = numbers(feed.of("node-a"));
  assert.deepEqual(
    seen,
    [...new Set(seen)].sort((a, b) => a - b),
    "in order, and none twice",
  );
  assert.equal(new Set(feed.cursors).size, feed.cursors.length, "cursors of two streams never look alike");
  // What the old stream held and nobody had read is gone with it; everything else came.
  assert.ok(recorded - seen.length <= mayGo, `${recorded - seen.length} of ${recorded} went with the stream`);
});

test("three copies are asked for, and one is taken where there is one server", async (t) => {
  const bench = await startBench(t);
  const info = await ensureAuditStream(await bench.connection(), "single", 3);
  assert.equal(info.config.num_replicas, 1);
  const again = await ensureAuditStream(await bench.connection(), "single", 3);
  assert.equal(again.created, info.created);
});

test("what all nodes have recorded is read from a moment on, to where it ends, for commands that look back", async (t) => {
  const bench = await startBench(t);
  const from = Date.now();
  assert.deepEqual(
    await all(readAuditStream(await bench.connection(), { cluster, fromMs: from })).catch(() => "none"),
    "none",
  );
  const [a, b] = [await bench.recorder("node-a"), await bench.recorder("node-b")];
  for (let n = 0; n < 700; n++) (n % 2 === 0 ? a : b).record(decision(`/${n}`));
  await Promise.all([a.close(60_000), b.close(60_000)]);
  const lines = await all(readAuditStream(await bench.connection(), { cluster, fromMs: from }));
  assert.equal(new Set(lines.map((line) => (JSON.parse(line) as { path: string }).path)).size, 700);
  assert.deepEqual(await all(readAuditStream(await bench.connection(), { cluster, fromMs: Date.now() + 60_000 })), []);
  const nats = {
    ...{ servers: [...bench.nats.urls], user: null, password: null },
    credentialsFile: null,
    tlsCa: null,
    homeDomain: null,
    placementCluster: null,
  };
  const kept = { audit: { files: ["never-read.jsonl"], nats: true }, nats, broker: { clusterName: cluster } };
  let read = 0;
  for await (const one of recordSource(kept, { input: undefined, from, kept: undefined }).read())
    read += "value" in one ? 1 : 0;
  assert.equal(read, 700, "as `policy replay` and `audit explain` read it");
});

async function all(lines: AsyncGenerator<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const line of lines) found.push(line);
  return found;
}

test("stopping is bounded, also while the server is away", async (t) => {
  const bench = await startBench(t);
  const feed = createFeed({ id: "x", keep: 10, watchersMax: 1 });
  const connection = await bench.connection();
  const follower = followAuditStream({ connection, cluster, replicas: 1, feed, now: Date.now, sleep, onFailure() {} });
  const recorder = await bench.recorder("node-a");
  recorder.record(decision());
  await delay(300);
  await bench.nats.nodes[0]?.kill();
  recorder.record(decision());
  const before = performance.now();
  await Promise.all([follower.stop(), recorder.close(1_000)]);
  assert.ok(performance.now() - before < 30_000);
});
