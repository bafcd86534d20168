/** Audit over a real NATS server: records arrive once and in order, whatever happens to the server and its stream. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
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
  formatCursor,
  openSpoolFolder,
  type RecordCursor,
  type Recorder,
  readAuditStream,
  type StreamedRecord,
  spoolFolderOf,
} from "../../src/audit/index.ts";
import { proofHeader, proofTagHeader, proveRecords } from "../../src/audit/record-proof.ts";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { recordSource } from "../../src/cli/operator/audit-records.ts";
import type { BootId, NodeId, UnixMs } from "../../src/events/index.ts";
import { ModelDisk } from "../audit/spool/model-disk.ts";
import { batchOf, decision, secret, signerOf } from "../audit/support.ts";
import { run } from "../cli/support.ts";
import { TemporaryFolder } from "../support/child.ts";
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
  recorder(node: string, options?: Readonly<{ bytesMax?: number; disk?: ModelDisk }>): Promise<Recorder>;
  feed(): Promise<Feed>;
  following(): Promise<Readonly<{ feed: Feed }> & Pick<AuditStreamFollower, "counts">>;
}>;

async function startBench(t: TestContext): Promise<Bench> {
  const nats = await startNats();
  t.after(() => nats.stop());
  async function connection(): Promise<NatsConnection> {
    const opened = await connect({
      servers: [...nats.urls],
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      pingInterval: 2_000,
      timeout: 2_000,
    });
    t.after(() => opened.close());
    return opened;
  }
  const sink = async (node: string, boot: string): Promise<AuditSink> =>
    createNatsAuditSink({
      ...{ connection: await connection(), cluster, region: "here", node, boot, replicas: 3, streamBytesMax },
      signer: signerOf({ cluster, node, boot }),
    });
  async function following() {
    const feed = createFeed({ entriesMax: 50_000, bytesMax: 50_000_000, watchersMax: 10 });
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
      const { disk = new ModelDisk(), bytesMax = 100_000_000 } = options;
      const recorder = await createRecorder({
        node: node as NodeId,
        boot: boot as string as BootId,
        spool: { disk, bytesMax, sinks: [await sink(node, boot)] },
        nowMs: () => Date.now(),
        monotonicMs: () => performance.now(),
        sleep,
        onFailure() {},
        onDamage: () => assert.fail("nothing is damaged"),
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

/** All records and cursors of a feed, in order of arrival. */
function watchAll(feed: Feed): Readonly<{ of(node: string): AuditRecord[]; cursors: string[] }> {
  let after: RecordCursor | null = null;
  const seen: AuditRecord[] = [];
  const cursors: string[] = [];
  const drain = (): void => {
    after ??= feed.start();
    for (;;) {
      if (after === null) return;
      if (feed.start()?.sequence !== after.sequence) after = feed.start() as RecordCursor;
      assert.ok(feed.covers(after), "nothing left the memory unread");
      const entries = feed.read(after, { records: 500, bytes: 10_000_000 });
      if (entries.length === 0) return;
      after = entries.at(-1)?.cursor ?? after;
      seen.push(...entries.map(({ record }) => record));
      cursors.push(...entries.map(({ cursor }) => formatCursor(cursor)));
    }
  };
  return {
    of(node) {
      drain();
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
  assert.equal(new Set(feed.cursors).size, feed.cursors.length, "every cursor is unique");
});

test("without a connection the client queues nothing, and the batch arrives once NATS is back", async (t) => {
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
  await waitFor("the sink to notice the lost connection", async () => {
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

test("a batch that is written again is stored once, and a large batch arrives in several messages", async (t) => {
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
  assert.ok(before.state.messages > 1, "split into several messages");
  await sink.write(batchOf(...batch));
  const after = await manager.streams.info(auditStreamName(cluster));
  assert.equal(after.state.messages, before.state.messages);
  const feed = watchAll(await bench.feed());
  await waitFor("all records", () => feed.of("node-a").length >= 1_000);
  assert.deepEqual(numbers(feed.of("node-a")), range(1, 1_000));
});

/** What a client without any secret receives on the audit subjects. */
async function overhear(bench: Bench) {
  const connection = await bench.connection();
  const messages: Readonly<{ subject: string; data: Uint8Array; headers: MsgHdrs | undefined }>[] = [];
  connection.subscribe(`audit.${cluster}.>`, {
    callback: (_error, { subject, data, headers }) => {
      if (headers?.has(proofHeader)) messages.push({ subject, data: Uint8Array.from(data), headers });
    },
  });
  await connection.flush();
  const client = jetstream(connection);
  return {
    messages,
    /** Publishes with any headers, and without a message id unless they contain one. */
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

test("forged, altered and replayed records of a client without the secret are counted, and the feed shows only genuine ones", async (t) => {
  const bench = await startBench(t);
  const { feed, counts } = await bench.following();
  const watched = watchAll(feed);
  const outsider = await overhear(bench);
  const sink = await bench.sink("node-a", "boot-a");
  await sink.write(batchOf(one(1), one(2)));
  const genuine = await waitFor("a genuine message", () => outsider.messages[0]);
  const { subject } = genuine;
  const far = Number.MAX_SAFE_INTEGER;
  const line = (...records: readonly AuditRecord[]): Uint8Array => batchOf(...records).bytes;
  const ownSecret = randomBytes(32);
  const own = signerOf({ cluster, node: "node-a", boot: "boot-a", secret: ownSecret });

  await outsider.publish(subject, line(one(3, { result: "permit", path: "/forged" })));
  await outsider.publish(subject, line(one(far)), proofOf(genuine));
  await outsider.publish(
    subject,
    line(one(far)),
    proveRecords({ subject, first: far, last: far, bytes: line(one(far)) }, own, Date.now()),
  );
  await outsider.publish(
    subject,
    line({ ...one(far), kind: "gap", first: 3, last: far, why: "hidden" } as AuditRecord),
  );
  await outsider.publish(`audit.${cluster}.here.node-b`, genuine.data, proofOf(genuine));
  await outsider.publish(subject, genuine.data, proofOf(genuine));
  await outsider.publish(subject, randomBytes(500_000));
  await outsider.publish(subject, Buffer.alloc(600_000, "{"), {
    [proofHeader]: "x".repeat(3_000),
    [proofTagHeader]: "y",
  });
  await outsider.publish(subject, line(one(4)), { "X-Large": "z".repeat(5_000) });
  // With a guessable message id, the stream would drop the later genuine message as a duplicate.
  await outsider.publish(subject, line(one(3)), { "Nats-Msg-Id": "boot-a:3-3" });

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

test("a node can write only its own records: those with another node's name, subject or boot are refused", async (t) => {
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
  const { foreign, "not-authentic": notAuthentic, "far-ahead": farAhead, malformed } = counts().refused;
  assert.deepEqual(
    { foreign, notAuthentic, farAhead, malformed },
    { foreign: 4, notAuthentic: 2, farAhead: 2, malformed: 1 },
  );
});

test("a server restart delays records and loses none", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a");
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

test("an outage that overflows the spool leaves a gap record that names exactly the missing records", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a", { bytesMax: 60_000 });
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
  const covered = feed.of("node-a").flatMap((r) => (r.kind === "gap" ? range(r.first, r.last) : [r.seq]));
  assert.deepEqual(covered, range(1, 550));
  assert.ok(feed.of("node-a").some(({ kind }) => kind === "gap"));
});

test("what a boot could not publish, the next boot of its node does; both boots' records are accepted", async (t) => {
  const bench = await startBench(t);
  const { feed, counts } = await bench.following();
  const seen = watchAll(feed);
  const disk = new ModelDisk();
  const first = await bench.recorder("node-a", { disk });
  first.record(decision("/seen"));
  await waitFor("the first record", () => seen.of("node-a").length === 1);
  const [server] = bench.nats.nodes;
  await server?.kill();
  for (let i = 0; i < 20; i++) first.record(decision("/left"));
  await first.close(500);
  await server?.start();
  const second = await bench.recorder("node-a", { disk });
  second.record(decision("/new"));
  await waitFor("every record", () => seen.of("node-a").length >= 22, { withinMs: 30_000 });
  const paths = seen.of("node-a").map((record) => (record.kind === "decision" ? record.path : "gap"));
  assert.deepEqual(paths, ["/seen", ...Array.from({ length: 20 }, () => "/left"), "/new"]);
  assert.equal(new Set(seen.of("node-a").map((record) => record.boot)).size, 2);
  assert.deepEqual([counts().missing, Object.values(counts().refused).reduce((a, b) => a + b)], [0, 0]);
});

test("a stream deleted under load is created again, and the feed continues with the new one", async (t) => {
  const bench = await startBench(t);
  const feed = watchAll(await bench.feed());
  const recorder = await bench.recorder("node-a");
  const load = setInterval(() => recorder.record(decision()), 2);
  t.after(() => clearInterval(load));
  await waitFor("the first records", () => feed.of("node-a").length > 100);
  const manager = await jetstreamManager(await bench.connection());
  let lostMax = 0;
  for (let round = 0; round < 2; round++) {
    const readBefore = feed.of("node-a").length;
    await manager.streams.delete(auditStreamName(cluster));
    lostMax += recorder.stats().recorded - readBefore;
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
    "in order, without repetitions",
  );
  assert.equal(new Set(feed.cursors).size, feed.cursors.length, "cursors of two streams never coincide");
  // Only records that the feed had not read from the old stream may be missing.
  assert.ok(recorded - seen.length <= lostMax, `${recorded - seen.length} of ${recorded} are missing with the stream`);
});

test("a request for three replicas yields one replica on a single server", async (t) => {
  const bench = await startBench(t);
  const info = await ensureAuditStream(await bench.connection(), { cluster: "single", replicas: 3, streamBytesMax });
  assert.equal(info.config.num_replicas, 1);
  const again = await ensureAuditStream(await bench.connection(), { cluster: "single", replicas: 3, streamBytesMax });
  assert.equal(again.created, info.created);
});

test("the stream gets a byte limit if it has none, and keeps a limit that the operator set", async (t) => {
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

test("a server with less space than the limit gets a smaller stream", async (t) => {
  const bench = await startBench(t);
  const connection = await bench.connection();
  const { config } = await ensureAuditStream(connection, { cluster, replicas: 1, streamBytesMax: 2 ** 49 });
  assert.ok(config.max_bytes > 0 && config.max_bytes < 2 ** 49, String(config.max_bytes));
});

test("three servers with less space than the limit get a smaller stream, with three replicas", async (t) => {
  const nats = await startNats({ size: 3 });
  t.after(() => nats.stop());
  const connection = await connect({ servers: [...nats.urls], timeout: 5_000 });
  t.after(() => connection.close());
  const { config } = await ensureAuditStream(connection, { cluster, replicas: 3, streamBytesMax: 2 ** 49 });
  assert.ok(config.max_bytes > 0 && config.max_bytes < 2 ** 49, String(config.max_bytes));
  assert.equal(config.num_replicas, 3);
});

test("the records of all nodes are read from a given time to the end of the stream, for commands over past decisions", async (t) => {
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
  const configuration = {
    audit: { files: [{ path: "never-read.jsonl", format: "json" }], nats: true } as const,
    nats,
    broker: { clusterName: cluster },
    ...secrets,
  };
  let read = 0;
  for await (const one of recordSource(configuration, { input: undefined, from, kept: undefined }).read())
    read += "value" in one ? 1 : 0;
  assert.equal(read, 700, "as `policy replay` and `audit explain` read it");
});

async function all(records: AsyncGenerator<StreamedRecord>): Promise<StreamedRecord[]> {
  const read: StreamedRecord[] = [];
  for await (const one of records) read.push(one);
  return read;
}

test("stopping takes a bounded time, even while the server is down", async (t) => {
  const bench = await startBench(t);
  const feed = createFeed({ entriesMax: 10, bytesMax: 1_000_000, watchersMax: 1 });
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

test("what a node that was renamed has left is delivered by a command, and readers accept it", async (t) => {
  const bench = await startBench(t);
  using folder = new TemporaryFolder("orphaned-spool");
  const spoolDir = join(folder.path, "spools");
  const disk = openSpoolFolder(spoolFolderOf(spoolDir, "old-name" as NodeId));
  const down: AuditSink = {
    name: "nats",
    write: () => Promise.reject(new Error("down")),
    close: async () => undefined,
  };
  const boot = "old-boot" as BootId;
  const left = await createRecorder({
    ...{ node: "old-name" as NodeId, boot, spool: { disk, bytesMax: 100_000_000, sinks: [down] } },
    ...{ nowMs: () => Date.now(), monotonicMs: () => performance.now(), sleep, onFailure() {}, onDamage() {} },
  });
  for (let n = 1; n <= 20; n++) left.record(decision(`/${n}`, { node: "old-name" as NodeId, boot }));
  await left.close(200);
  disk.release();
  const config = join(folder.path, "cardea.yaml");
  const shared = randomBytes(32);
  const keys = {
    ...{ services: ["proxy"], shared_secret: shared.toString("base64"), node_name: "new-name" },
    ...{ cookie_secret: shared.toString("base64"), insecure_server: true, data_dir: folder.path },
    ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example.com", idp_client_id: "cardea" },
    authenticate_service_url: "https://authenticate.example.com",
    broker: { urls: ["http://127.0.0.1:2"], cluster_name: cluster },
    nats: { servers: bench.nats.urls },
    audit: { spool_dir: spoolDir, sinks: [{ nats: true }] },
    routes: [{ from: "https://app.example.com", to: "http://127.0.0.1:1", allow_any_authenticated_user: true }],
  };
  writeFileSync(config, JSON.stringify(keys), { mode: 0o600 });
  const from = Date.now();
  const delivered = await run(["audit", "spool", "-c", config, "--deliver", "old-name", "--timeout", "60s"]);
  assert.equal(delivered.code, 0, delivered.err);
  const read = await all(readAuditStream(await bench.connection(), { cluster, secrets: [shared], fromMs: from }));
  const ids = read.map((one) =>
    "record" in one ? `${one.record.node} ${one.record.boot}:${one.record.seq}` : one.refused,
  );
  assert.deepEqual(
    ids,
    Array.from({ length: 20 }, (_, n) => `old-name old-boot:${n + 1}`),
  );
});
