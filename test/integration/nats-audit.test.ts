/**
 * Audit over a real NATS server: what is recorded arrives, once and in order, whatever happens to the server and its
 * stream.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type MsgHdrs, type NatsConnection } from "@nats-io/transport-node";
import {
  type AuditRecord,
  type AuditSink,
  type AuditStreamFollower,
  auditStreamName,
  createFeed,
  createNatsAuditSink,
  createRecorder,
  ensureAuditStream,
  type Feed,
  followAuditStream,
  type Recorder,
  readAuditStream,
  type StreamedRecord,
} from "../../src/audit/index.ts";
import { proofHeader, proofTagHeader, proveRecords } from "../../src/audit/record-proof.ts";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { recordSource } from "../../src/cli/operator/audit-records.ts";
import type { BootId, NodeId, UnixMs } from "../../src/events/index.ts";
import { batchOf, decision, secret, signerOf } from "../audit/support.ts";
import { startNats } from "../support/nats.ts";
import type { NatsCluster } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

const cluster = "test";
const streamBytesMax = 50_000_000;
const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  delay(ms, undefined, signal === undefined ? {} : { signal });

type Bench = Readonly<{
  nats: NatsCluster;
  connection(): Promise<NatsConnection>;
  sink(node: string, boot: string): Promise<AuditSink>;
  recorder(node: string, options?: Readonly<{ queueMax?: number }>): Promise<Recorder>;
  feed(): Promise<Feed>;
  following(): Promise<Readonly<{ feed: Feed }> & Pick<AuditStreamFollower, "counts">>;
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
    createNatsAuditSink({
      ...{ connection: await connection(), cluster, region: "here", node, boot, replicas: 3, streamBytesMax },
      signer: signerOf({ cluster, node, boot }),
    });
  async function following() {
    const feed = createFeed({ id: randomUUID(), entriesMax: 50_000, bytesMax: 50_000_000, watchersMax: 10 });
    const follower = followAuditStream({
      connection: await connection(),
      cluster,
      secrets: [secret],
      replicas: 3,
      streamBytesMax,
      feed,
      now: () => Date.now(),
      sleep,
      onFailure() {},
    });
    t.after(() => follower.stop());
    return { feed, counts: follower.counts };
  }
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
    feed: async () => (await following()).feed,
    following,
  };
}

/** Everything that a feed shows, as it comes. */
function watchAll(feed: Feed): Readonly<{ of(node: string): AuditRecord[]; cursors: string[] }> {
  const watcher = feed.watch({ newest: 1_000 });
  const seen: AuditRecord[] = [];
  const cursors: string[] = [];
  const take = (): void => {
    for (;;) {
      const { entries, missed } = watcher.read(500);
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

test("without a connection nothing piles up in the client, and the batch arrives once NATS is back", async (t) => {
  const bench = await startBench(t);
  const connection = await bench.connection();
  const who = { node: "node-a" as NodeId, boot: "boot-a" as BootId };
  const sink = createNatsAuditSink({
    ...{ connection, cluster, region: "here", ...who, replicas: 1, streamBytesMax },
    signer: signerOf({ cluster, ...who }),
  });
  const batchWith = (seq: number) => batchOf({ kind: "decision", seq, ...decision("/", who) });
  await sink.write(batchWith(1));
  await bench.nats.kill();
  await waitFor("the sink to find the connection lost", async () => {
    const error: unknown = await sink.write(batchWith(2)).catch((caught: unknown) => caught);
    return error instanceof Error && "code" in error && error.code === "ERR_AUDIT_SINK_DISCONNECTED";
  });
  const { outMsgs } = connection.stats();
  for (let i = 0; i < 100; i++) await assert.rejects(sink.write(batchWith(2)), { code: "ERR_AUDIT_SINK_DISCONNECTED" });
  assert.equal(connection.stats().outMsgs, outMsgs);
  await bench.nats.start();
  await waitFor("the batch to be written", () =>
    sink.write(batchWith(2)).then(
      () => true,
      () => false,
    ),
  );
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

/** What a client without any secret hears on the audit subjects. */
async function overhear(bench: Bench) {
  const connection = await bench.connection();
  const heard: Readonly<{ subject: string; data: Uint8Array; headers: MsgHdrs | undefined }>[] = [];
  connection.subscribe(`audit.${cluster}.>`, {
    callback: (_error, { subject, data, headers }) => {
      if (headers?.has(proofHeader)) heard.push({ subject, data: Uint8Array.from(data), headers });
    },
  });
  await connection.flush();
  const client = jetstream(connection);
  return {
    heard,
    /** Publishes with headers of one's choice, under no message id. */
    async publish(subject: string, data: Uint8Array, names: Readonly<Record<string, string>> = {}) {
      const all = headers();
      for (const [name, value] of Object.entries(names)) all.set(name, value);
      await client.publish(subject, data, { headers: all });
    },
  };
}

const one = (seq: number, more: Partial<DecisionRecord> = {}): AuditRecord => ({
  ...{ kind: "decision", seq },
  ...decision("/", { boot: "boot-a" as BootId, node: "node-a" as NodeId, ...more }),
});

const proofOf = (of: Readonly<{ headers: MsgHdrs | undefined }>): Record<string, string> =>
  Object.fromEntries([proofHeader, proofTagHeader].map((name) => [name, of.headers?.get(name) ?? ""]));

test("a stranger forges, changes, hides and replays: the feed shows none of it, counts it, and shows every genuine record", async (t) => {
  const bench = await startBench(t);
  const { feed, counts } = await bench.following();
  const watched = watchAll(feed);
  const stranger = await overhear(bench);
  const sink = await bench.sink("node-a", "boot-a");
  await sink.write(batchOf(one(1), one(2)));
  const genuine = await waitFor("a genuine message", () => stranger.heard[0]);
  const { subject } = genuine;
  const far = Number.MAX_SAFE_INTEGER;
  const line = (...records: readonly AuditRecord[]): Uint8Array => batchOf(...records).bytes;
  const ownSecret = randomBytes(32);
  const own = signerOf({ cluster, node: "node-a", boot: "boot-a", secret: ownSecret });

  await stranger.publish(subject, line(one(3, { result: "permit", path: "/forged" })));
  await stranger.publish(subject, line(one(far)), proofOf(genuine));
  await stranger.publish(
    subject,
    line(one(far)),
    proveRecords({ subject, first: far, last: far, bytes: line(one(far)) }, own, Date.now()),
  );
  await stranger.publish(
    subject,
    line({ ...one(far), kind: "gap", first: 3, last: far, why: "hidden" } as AuditRecord),
  );
  await stranger.publish(`audit.${cluster}.here.node-b`, genuine.data, proofOf(genuine));
  await stranger.publish(subject, genuine.data, proofOf(genuine));
  await stranger.publish(subject, randomBytes(500_000));
  await stranger.publish(subject, Buffer.alloc(600_000, "{"), {
    [proofHeader]: "x".repeat(3_000),
    [proofTagHeader]: "y",
  });
  await stranger.publish(subject, line(one(4)), { "X-Large": "z".repeat(5_000) });
  // A message id that can be guessed would have the stream drop the genuine message that comes later.
  await stranger.publish(subject, line(one(3)), { "Nats-Msg-Id": "boot-a:3-3" });

  await sink.write(batchOf(one(3)));
  await waitFor("the genuine record", () => watched.of("node-a").length >= 3);
  await waitFor("all refusals", () => Object.values(counts().refused).reduce((a, b) => a + b, 0) === 10);
  assert.deepEqual(numbers(watched.of("node-a")), [1, 2, 3]);
  assert.ok(watched.of("node-a").every((record) => record.kind === "decision" && record.path === "/"));
  assert.deepEqual(watched.of("node-b"), []);
  assert.deepEqual(counts().refused, {
    ...{ unsigned: 6, repeated: 3, "too-large": 1 },
    ...{ "not-authentic": 0, altered: 0, foreign: 0, outdated: 0, "far-ahead": 0, malformed: 0 },
  });
  const read = await all(readAuditStream(await bench.connection(), { cluster, secrets: [secret], fromMs: 0 }));
  assert.deepEqual(
    read.flatMap((each) => ("record" in each ? [each.record.seq] : [])),
    [1, 2, 3],
  );
});

test("a member of the cluster writes for itself alone: another node's records, subject or boot are refused", async (t) => {
  const bench = await startBench(t);
  const { feed, counts } = await bench.following();
  const watched = watchAll(feed);
  const member = await overhear(bench);
  await (await bench.sink("node-a", "boot-a")).write(batchOf(one(1)));
  await waitFor("the genuine record", () => watched.of("node-a").length === 1);
  const signer = signerOf({ cluster, node: "node-b", boot: "boot-b" });
  const publish = async (subject: string, records: readonly AuditRecord[], as = signer): Promise<void> => {
    const { first, last, bytes } = batchOf(...records);
    await member.publish(subject, bytes, proveRecords({ subject, first, last, bytes }, as, Date.now()));
  };
  const [subjectA, subjectB] = ["node-a", "node-b"].map((name) => `audit.${cluster}.here.${name}`) as [string, string];
  const b = { boot: "boot-b" as BootId, node: "node-b" as NodeId };
  await publish(subjectA, [one(2)]);
  await publish(subjectB, [one(2)]);
  await publish(subjectB, [one(1, { ...b, boot: "boot-a" as BootId })]);
  await publish(subjectA, [one(1, b)]);
  await publish(subjectB, [one(1, b)], signerOf({ cluster: "another", node: "node-b", boot: "boot-b" }));
  await publish(subjectB, [one(1, b)], signerOf({ cluster, node: "node-b", boot: "boot-b", role: "authenticate" }));
  await publish(subjectB, [one(1, { ...b, at: (Date.now() + 3_600_000) as UnixMs })]);
  await publish(subjectB, [one(1, b), one(3, b)]);
  await publish(subjectB, [one(1, b)]);
  await publish(subjectB, [one(20_000_000, b)]);
  await publish(subjectB, [one(5, b)]);
  await waitFor("its genuine records", () => watched.of("node-b").length === 2);
  assert.deepEqual(numbers(watched.of("node-b")), [1, 5]);
  assert.deepEqual(numbers(watched.of("node-a")), [1]);
  assert.equal(counts().missing, 3);
  const { foreign, "not-authentic": strange, "far-ahead": far, malformed } = counts().refused;
  assert.deepEqual({ foreign, strange, far, malformed }, { foreign: 4, strange: 2, far: 2, malformed: 1 });
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
  const info = await ensureAuditStream(await bench.connection(), { cluster: "single", replicas: 3, streamBytesMax });
  assert.equal(info.config.num_replicas, 1);
  const again = await ensureAuditStream(await bench.connection(), { cluster: "single", replicas: 3, streamBytesMax });
  assert.equal(again.created, info.created);
});

test("the stream is limited in bytes, one without a limit gets one, and one that the operator set stays", async (t) => {
  const bench = await startBench(t);
  const connection = await bench.connection();
  const ensured = async () => (await ensureAuditStream(connection, { cluster, replicas: 1, streamBytesMax })).config;
  assert.deepEqual([(await ensured()).max_bytes, (await ensured()).discard], [streamBytesMax, "old"]);
  const manager = await jetstreamManager(connection);
  const name = auditStreamName(cluster);
  await manager.streams.update(name, { max_bytes: -1 });
  assert.equal((await ensured()).max_bytes, streamBytesMax);
  await manager.streams.update(name, { max_bytes: 5_000_000 });
  assert.equal((await ensured()).max_bytes, 5_000_000);
});

test("a server with less room than the limit keeps a smaller stream", async (t) => {
  const bench = await startBench(t);
  const connection = await bench.connection();
  const { config } = await ensureAuditStream(connection, { cluster, replicas: 1, streamBytesMax: 2 ** 49 });
  assert.ok(config.max_bytes > 0 && config.max_bytes < 2 ** 49, String(config.max_bytes));
});

test("what all nodes have recorded is read from a moment on, to where it ends, for commands that look back", async (t) => {
  const bench = await startBench(t);
  const from = Date.now();
  assert.deepEqual(
    await all(readAuditStream(await bench.connection(), { cluster, secrets: [secret], fromMs: from })).catch(
      () => "none",
    ),
    "none",
  );
  const [a, b] = [await bench.recorder("node-a"), await bench.recorder("node-b")];
  for (let n = 0; n < 700; n++) (n % 2 === 0 ? a : b).record(decision(`/${n}`));
  await Promise.all([a.close(60_000), b.close(60_000)]);
  const lines = await all(readAuditStream(await bench.connection(), { cluster, secrets: [secret], fromMs: from }));
  assert.equal(
    new Set(lines.map((one) => "record" in one && one.record.kind === "decision" && one.record.path)).size,
    700,
  );
  assert.deepEqual(
    await all(readAuditStream(await bench.connection(), { cluster, secrets: [secret], fromMs: Date.now() + 600_000 })),
    [],
  );
  const nats = {
    ...{ servers: [...bench.nats.urls], user: null, password: null },
    credentialsFile: null,
    tlsCa: null,
    homeDomain: null,
    placementCluster: null,
  };
  const secrets = { sharedSecret: secret, sharedSecretPrevious: null };
  const kept = {
    audit: { files: ["never-read.jsonl"], nats: true },
    nats,
    broker: { clusterName: cluster },
    ...secrets,
  };
  let read = 0;
  for await (const one of recordSource(kept, { input: undefined, from, kept: undefined }).read())
    read += "value" in one ? 1 : 0;
  assert.equal(read, 700, "as `policy replay` and `audit explain` read it");
});

async function all(records: AsyncGenerator<StreamedRecord>): Promise<StreamedRecord[]> {
  const found: StreamedRecord[] = [];
  for await (const one of records) found.push(one);
  return found;
}

test("stopping is bounded, also while the server is away", async (t) => {
  const bench = await startBench(t);
  const feed = createFeed({ id: "x", entriesMax: 10, bytesMax: 1_000_000, watchersMax: 1 });
  const connection = await bench.connection();
  const follower = followAuditStream({
    connection,
    cluster,
    secrets: [secret],
    replicas: 1,
    streamBytesMax,
    feed,
    now: Date.now,
    sleep,
    onFailure() {},
  });
  const recorder = await bench.recorder("node-a");
  recorder.record(decision());
  await delay(300);
  await bench.nats.nodes[0]?.kill();
  recorder.record(decision());
  const before = performance.now();
  await Promise.all([follower.stop(), recorder.close(1_000)]);
  assert.ok(performance.now() - before < 30_000);
});
