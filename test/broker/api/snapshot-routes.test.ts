/**
 * Snapshots over real HTTP: which broker sends what to which role, and how a node handles forged, altered and
 * interrupted ones.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { startDatabrokerServer } from "../../../src/broker/index.ts";
import {
  type Epoch,
  encode,
  type Incarnation,
  type Position,
  type Projection,
  type Stream,
  type UnixMs,
  type WrappedKey,
} from "../../../src/events/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { createNodeSnapshots, type NodeSnapshots } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  SnapshotFolder,
  type SnapshotManifest,
  type SnapshotSupply,
  sealManifest,
  supplyFrom,
} from "../../../src/replication/snapshot/index.ts";
import { type BrokerClient, createBrokerClient, createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { build, projectionOf, signer } from "../../replication/snapshot/support.ts";
import { brokerOn, cluster, quiet, secret } from "../support.ts";

const open = createBrokerOpener({ cluster, secrets: [secret] });
const run = promisify(execFile);
const keys: readonly WrappedKey[] = [
  { userId: "user-1" as WrappedKey["userId"], keyId: randomBytes(16), wrapped: randomBytes(48) },
];

function folderOf(t: TestContext): SnapshotFolder {
  const path = mkdtempSync(join(tmpdir(), "cardea-snapshot-routes-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return new SnapshotFolder({ path, open });
}

function manifest(parts: Awaited<ReturnType<typeof build>>): SnapshotManifest {
  const epochs = [{ epoch: 1 as Epoch, start: 1 as Position, incarnation: "one" as Incarnation }];
  return { ...parts, cluster, epochs, takenAt: 5 as UnixMs };
}

async function saved(folder: SnapshotFolder, projection: Projection): Promise<void> {
  await folder.putManifest(sealManifest(signer({ secret, cluster }), manifest(await build(projection, folder))));
}

async function served(t: TestContext, supply: SnapshotSupply | null): Promise<URL> {
  const broker = brokerOn(createMemoryLog());
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port: 0 } },
    snapshots: supply,
  });
  t.after(async () => {
    await server.close();
    await broker.stop();
  });
  return new URL(server.url);
}

function clientOf(t: TestContext, urls: readonly URL[], role: "proxy" | "operator" = "proxy"): BrokerClient {
  const client = createBrokerClient({
    ...{ urls, cluster, role, name: "proxy-1", secret, clock: systemClock, logger: quiet },
    randomBytes: (size) => randomBytes(size),
  });
  t.after(() => client.close());
  return client;
}

function nodeOf(
  supply: SnapshotSupply,
  parts: Readonly<{ folder?: SnapshotFolder | null; deniedFile?: string | null; logger?: Logger }> = {},
): NodeSnapshots {
  const { folder = null, deniedFile = null, logger = quiet } = parts;
  return createNodeSnapshots({ supply, open, logger, folder, deniedFile });
}

const load = (node: NodeSnapshots, first: number | null = null) =>
  node.load({ first, signal: new AbortController().signal });

const supplyOf = (folder: SnapshotFolder): SnapshotSupply => supplyFrom(folder, async () => keys);

test("a node with an empty disk gets snapshot and keys from a broker, and the next time from its own disk", async (t) => {
  const folder = folderOf(t);
  const projection = projectionOf(3_000);
  await saved(folder, projection);
  const { snapshots } = clientOf(t, [await served(t, supplyOf(folder))]);
  const own = folderOf(t);
  const node = nodeOf(snapshots, { folder: own });
  assert.equal(await node.local(new AbortController().signal), null);
  const loaded = (await load(node)) ?? assert.fail();
  assert.equal(loaded.projection.recomputedDigest(), projection.digest());
  assert.deepEqual(
    loaded.keys.map(({ userId }) => userId),
    ["user-1"],
  );
  const again = await node.local(new AbortController().signal);
  assert.equal(again?.projection.recomputedDigest(), projection.digest());
  assert.equal(await node.refresh(), false, "there is no newer one");
  for (const name of readdirSync(join(own.path, "chunks")))
    assert.equal(statSync(join(own.path, "chunks", name)).mode & 0o077, 0);
});

test("without a token of this cluster nothing is sent; positions, hashes and ids are validated", async (t) => {
  const folder = folderOf(t);
  await saved(folder, projectionOf(50));
  const url = await served(t, supplyOf(folder));
  for (const path of ["/v1/snapshot", `/v1/snapshot/chunks/${"0".repeat(64)}`, "/v1/keys"])
    assert.equal((await fetch(new URL(path, url))).status, 401);
  const { snapshots } = clientOf(t, [url]);
  assert.equal(await snapshots.chunk("0".repeat(64) as Parameters<typeof snapshots.chunk>[0]), undefined);
  const odd = ["../../etc/passwd", "%2e%2e%2fmanifests", "0".repeat(63), ""];
  for (const hash of odd)
    await assert.rejects(snapshots.chunk(hash as Parameters<typeof snapshots.chunk>[0]), {
      code: /^ERR_REPLICATION_BROKER_(UNAVAILABLE|REFUSED)$/,
    });
  await assert.rejects(snapshots.manifest(-1 as Position), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  assert.equal(await snapshots.manifest(1_000_000 as Position), null);
});

test("a broker without any snapshot, as with a log in memory, says so, and the node reads the log", async (t) => {
  const urls = [await served(t, null), await served(t, null)];
  assert.equal(await load(nodeOf(clientOf(t, urls).snapshots)), null);
  assert.equal((await fetch(new URL("/v1/snapshot", urls[0]))).status, 401);
});

test("a broker without a snapshot, or with an older one, sends the node to the next broker", async (t) => {
  const [empty, full] = [folderOf(t), folderOf(t)];
  await saved(full, projectionOf(200));
  const urls = [await served(t, null), await served(t, supplyOf(empty)), await served(t, supplyOf(full))];
  const loaded = await load(nodeOf(clientOf(t, urls).snapshots), 150);
  assert.equal(loaded?.projection.counts.sessions, 200);
  await assert.rejects(load(nodeOf(clientOf(t, urls).snapshots), 10_000), { code: "ERR_REPLICATION_SNAPSHOT_REFUSED" });
});

test("endless requests for chunks by one caller do not block others", async (t) => {
  const folder = folderOf(t);
  await saved(folder, projectionOf(50));
  const waiting: (() => void)[] = [];
  const slow: SnapshotSupply = {
    ...supplyOf(folder),
    chunk: () => new Promise((resolve) => waiting.push(() => resolve(undefined))),
  };
  const client = clientOf(t, [await served(t, slow)]);
  const calls = Array.from({ length: 24 }, () =>
    client.snapshots.chunk("1".repeat(64) as Parameters<SnapshotSupply["chunk"]>[0]).then(
      () => "answered",
      () => "turned away",
    ),
  );
  const early = await Promise.race(calls);
  assert.equal(early, "turned away");
  assert.ok(waiting.length <= 16, `${waiting.length} at once`);
  assert.notEqual(await client.snapshots.manifest(0 as Position), null);
  for (const answer of waiting) answer();
  await Promise.all(calls);
});

test("a forged manifest, a foreign chunk and a chunk with a flipped bit are refused and leave no usable snapshot", async (t) => {
  const folder = folderOf(t);
  await saved(folder, projectionOf(3_000));
  const real = supplyOf(folder);
  const other = folderOf(t);
  const forgedParts = manifest(await build(projectionOf(3_000), other));
  const forgeries: readonly Readonly<{ name: string; supply: SnapshotSupply; code: string }>[] = [
    ...[
      { name: "another cluster's", by: signer({ secret, cluster: "other" }) },
      { name: "another secret's", by: signer({ secret: Buffer.alloc(32, 8), cluster }) },
      { name: "a proxy's", by: signer({ secret, cluster, role: "proxy" }) },
      { name: "of an epoch that had not come", by: signer({ secret, cluster, epoch: 0 }) },
    ].map(({ name, by }) => ({
      name,
      supply: { ...supplyOf(other), manifest: async () => sealManifest(by, forgedParts).envelope },
      code: "ERR_REPLICATION_SNAPSHOT_REFUSED",
    })),
    {
      name: "an altered manifest",
      supply: {
        ...real,
        async manifest() {
          const bytes = Uint8Array.from((await real.manifest(0 as Position)) ?? []);
          bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
          return bytes;
        },
      },
      code: "ERR_REPLICATION_SNAPSHOT_REFUSED",
    },
    {
      name: "an altered chunk",
      supply: {
        ...real,
        async chunk(hash) {
          const bytes = Uint8Array.from((await real.chunk(hash)) ?? []);
          bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
          return bytes;
        },
      },
      code: "ERR_REPLICATION_SNAPSHOT_CORRUPT",
    },
    {
      name: "a chunk of something else",
      supply: { ...real, chunk: async () => readFileSync(anyChunk(other)) },
      code: "ERR_REPLICATION_SNAPSHOT_CORRUPT",
    },
  ];
  for (const { name, supply, code } of forgeries) {
    const own = folderOf(t);
    await saved(own, projectionOf(20));
    const before = (await own.list()).snapshots[0]?.id;
    const node = nodeOf(clientOf(t, [await served(t, supply)]).snapshots, { folder: own });
    await assert.rejects(load(node, 1_000), { code }, name);
    await assert.rejects(node.refresh(), { code }, name);
    const { snapshots, bad } = await own.list();
    assert.deepEqual([snapshots.map(({ id }) => id), bad], [[before], []], `${name}: the stored snapshot is unchanged`);
    assert.equal((await node.local(new AbortController().signal))?.projection.counts.sessions, 20, name);
  }
});

test("an answer from another sender than the broker, or one altered in transit, is refused", async (t) => {
  const folder = folderOf(t);
  await saved(folder, projectionOf(300));
  const url = await served(t, supplyOf(folder));
  const between = createServer((asked, answer) => {
    const passed = httpRequest(new URL(asked.url ?? "/", url), { headers: asked.headers }, (given) => {
      const pieces: Buffer[] = [];
      given.on("data", (piece: Buffer) => pieces.push(piece));
      given.on("end", () => {
        const body = Buffer.concat(pieces);
        if (body.length > 10) body[body.length - 3] = (body[body.length - 3] ?? 0) ^ 1;
        answer.writeHead(given.statusCode ?? 500, given.headers).end(body);
      });
    });
    passed.end();
  });
  await new Promise<void>((resolve) => between.listen(0, "127.0.0.1", resolve));
  t.after(() => between.close());
  const client = clientOf(t, [new URL(`http://127.0.0.1:${(between.address() as AddressInfo).port}`)]);
  await assert.rejects(load(nodeOf(client.snapshots)), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  assert.ok(client.refused().altered > 0);
});

test("a fetch interrupted between two chunks resumes there, and is unusable until then", async (t) => {
  const folder = folderOf(t);
  const projection = projectionOf(6_000);
  await saved(folder, projection);
  const real = supplyOf(folder);
  let left = 2;
  const fetched: string[] = [];
  const breaking: SnapshotSupply = {
    ...real,
    async chunk(hash) {
      if (left === 0) return undefined;
      left -= 1;
      fetched.push(hash);
      return real.chunk(hash);
    },
  };
  const own = folderOf(t);
  const node = nodeOf(clientOf(t, [await served(t, breaking)]).snapshots, { folder: own });
  await assert.rejects(load(node), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
  assert.deepEqual(await own.list(), { snapshots: [], bad: [] });
  // The process died while it was writing, and restarts.
  writeFileSync(join(own.path, "chunks", `${"a".repeat(64)}.77-1.part`), "half a chunk");
  left = 1_000;
  const next = nodeOf(clientOf(t, [await served(t, breaking)]).snapshots, { folder: own });
  assert.equal(await next.local(new AbortController().signal), null);
  const loaded = await load(next);
  assert.equal(loaded?.projection.recomputedDigest(), projection.digest());
  assert.equal(new Set(fetched).size, fetched.length, "no chunk was fetched twice");
  assert.ok(readdirSync(join(own.path, "chunks")).every((name) => !name.endsWith(".part")));
});

/** @returns undefined if nothing can be mounted here: the test is skipped */
async function smallDisk(t: TestContext, size: string): Promise<string | undefined> {
  const disk = mkdtempSync(join(tmpdir(), "cardea-full-disk-"));
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", disk]);
  } catch {
    rmSync(disk, { recursive: true });
    t.skip("a small file system cannot be mounted here");
    return undefined;
  }
  t.after(async () => {
    await run("umount", [disk]);
    rmSync(disk, { recursive: true });
  });
  return disk;
}

test("a full disk keeps its old snapshot; the node still serves and logs the failure", async (t) => {
  const disk = await smallDisk(t, "160k");
  if (disk === undefined) return;
  const own = new SnapshotFolder({ path: disk, open });
  await saved(own, projectionOf(50));
  const folder = folderOf(t);
  const projection = projectionOf(3_000);
  await saved(folder, projection);
  const errorMessages: string[] = [];
  const errors: object[] = [];
  const logger: Logger = {
    ...quiet,
    error(fields, message) {
      errorMessages.push(message);
      errors.push(fields);
    },
  };
  const node = nodeOf(clientOf(t, [await served(t, supplyOf(folder))]).snapshots, { folder: own, logger });
  const loaded = await load(node);
  assert.equal(loaded?.projection.recomputedDigest(), projection.digest());
  assert.match(errorMessages.join("\n"), /could not save the snapshot to disk/);
  const error = (errors[0] as { err?: Error } | undefined)?.err;
  assert.match(error?.message ?? "", /the disk is full; free some space there/);
  await assert.rejects(node.refresh(), { code: "ERR_REPLICATION_SNAPSHOT_NOT_SAVED" });
  await assert.rejects(saved(own, projectionOf(3_000)), { code: "ERR_REPLICATION_SNAPSHOT_NOT_SAVED" });
  const { snapshots, bad } = await own.list();
  assert.deepEqual([snapshots.length, bad], [1, []]);
  const kept = await nodeOf(supplyOf(own), { folder: own }).local(new AbortController().signal);
  assert.equal(kept?.projection.counts.sessions, 50);
});

test("a node knows its denials after a restart, whatever it starts from; a damaged file raises an alarm", async (t) => {
  const deniedFile = join(folderOf(t).path, "denied");
  const nodeAt = (logger: Logger = quiet) => nodeOf(supplyOf(folderOf(t)), { deniedFile, logger });
  const retained = new Set(["session:a", "user:b"] as Stream[]);
  assert.deepEqual(await nodeAt().persistedDenials(), { retained: [], denials: [] });
  const node = nodeAt();
  node.persistDenials({ retained: new Set(), tightened: 1, newest: () => [] });
  node.persistDenials({ retained, tightened: 2, newest: () => [] });
  await node.denialsPersisted();
  assert.deepEqual(await nodeAt().persistedDenials(), { retained: [...retained], denials: [] });
  writeFileSync(deniedFile, encode(["0".repeat(64), encode({ sticky: ["session:a"], denials: [] })]));
  const errorMessages: string[] = [];
  const kept = await nodeAt({
    ...quiet,
    error: (_fields, message) => void errorMessages.push(message),
  }).persistedDenials();
  assert.deepEqual(kept, { retained: [], denials: [] });
  assert.match(errorMessages.join(), /could not read/);
});

test("on a full disk a node's denials are not written: it logs that, keeps the older file, and writes with the next change once there is room", async (t) => {
  const disk = await smallDisk(t, "64k");
  if (disk === undefined) return;
  const deniedFile = join(disk, "denied");
  const errors: unknown[] = [];
  const logger: Logger = { ...quiet, error: (fields) => void errors.push(Reflect.get(fields, "err")) };
  const nodeAt = () => nodeOf(supplyOf(folderOf(t)), { deniedFile, logger });
  const node = nodeAt();
  const denying = async (...streams: readonly string[]): Promise<void> => {
    const retained = new Set(streams as Stream[]);
    node.persistDenials({ retained, tightened: 1, newest: () => [] });
    await node.denialsPersisted();
  };
  await denying("session:a");
  const filler = join(disk, "filler");
  assert.throws(() => writeFileSync(filler, Buffer.alloc(1_000_000)), { code: "ENOSPC" });
  await denying("session:a", "session:b");
  assert.match(String(errors), /ENOSPC/);
  assert.deepEqual((await nodeAt().persistedDenials()).retained, ["session:a"], "the stored denials are intact");
  rmSync(filler);
  await denying("session:a", "session:b");
  assert.deepEqual((await nodeAt().persistedDenials()).retained, ["session:a", "session:b"]);
  assert.equal(errors.length, 1);
});

test("a broker that does not lead, and a role without permission, take no snapshot on demand", async (t) => {
  const url = await served(t, supplyOf(folderOf(t)));
  await assert.rejects(clientOf(t, [url]).takeSnapshot(), { code: "ERR_REPLICATION_BROKER_REFUSED" });
  await assert.rejects(clientOf(t, [url], "operator").takeSnapshot(), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
});

function anyChunk(folder: SnapshotFolder): string {
  const [name = ""] = readdirSync(join(folder.path, "chunks"));
  return join(folder.path, "chunks", name);
}
