/** Snapshot folder: snapshots on disk, from writing to loading, with damaged files and foreign manifests. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encode, MalformedSnapshotError } from "../../../src/events/index.ts";
import { loadSnapshot } from "../../../src/replication/snapshot/load-snapshot.ts";
import {
  openManifest,
  SnapshotRefusedError,
  sameContent,
  sealManifest,
} from "../../../src/replication/snapshot/manifest.ts";
import { SnapshotCorruptError, SnapshotFolder } from "../../../src/replication/snapshot/snapshot-folder.ts";
import { createBrokerOpener, sealEnvelope } from "../../../src/replication/wire/index.ts";
import { build, cluster, folderFor, manifestOf, opener, projectionOf, secret, signer } from "./support.ts";

test("another process finds a snapshot on disk and loads the same projection from it", async (t) => {
  const folder = folderFor(t);
  const projection = projectionOf(3_000);
  const signed = sealManifest(signer(), manifestOf(await build(projection, folder)));
  await folder.putManifest(signed);
  const other = new SnapshotFolder({ path: folder.path, open: opener });
  const { snapshots, bad } = await other.list();
  assert.deepEqual(bad, []);
  assert.deepEqual(snapshots[0]?.manifest, signed.manifest);
  assert.equal(snapshots[0]?.id, signed.id);
  assert.ok(signed.manifest.chunks.length > 1);
  const loaded = await loadSnapshot(signed.manifest, (ref) => other.chunk(ref));
  assert.deepEqual(loaded.applied, projection.applied);
  assert.equal(loaded.recomputedDigest(), projection.digest());
});

test("two brokers that build at the same link produce the same content under different signatures", async (t) => {
  const projection = projectionOf(500);
  const [one, two] = [await build(projection, folderFor(t)), await build(projection, folderFor(t))];
  const [a, b] = [sealManifest(signer(), manifestOf(one)), sealManifest(signer({ epoch: 2 }), manifestOf(two))];
  assert.ok(sameContent(a.manifest, b.manifest));
  const other = manifestOf(await build(projectionOf(500), folderFor(t)));
  assert.ok(!sameContent(a.manifest, other));
});

test("a truncated, changed or missing chunk is named in the error, and nothing is loaded", async (t) => {
  const folder = folderFor(t);
  const manifest = manifestOf(await build(projectionOf(3_000), folder));
  const ref = manifest.chunks[1];
  assert.ok(ref !== undefined);
  const path = join(folder.path, "chunks", ref.hash);
  const whole = readFileSync(path);
  const broken = async (bytes: Buffer): Promise<void> => {
    writeFileSync(path, bytes);
    await assert.rejects(
      loadSnapshot(manifest, (each) => folder.chunk(each)),
      (error) => error instanceof SnapshotCorruptError && error.message.includes(ref.hash),
    );
  };
  await broken(whole.subarray(0, whole.length >> 1));
  await broken(Buffer.from(whole.map((byte, at) => (at === whole.length >> 1 ? byte ^ 1 : byte))));
  await broken(Buffer.of());
  await broken(readFileSync(join(folder.path, "chunks", manifest.chunks[2]?.hash ?? "")));
  await broken(Buffer.alloc(10_000));
  const missing = { ...ref, hash: "0".repeat(64) as typeof ref.hash };
  await assert.rejects(folder.chunk(missing), /missing/);
  await assert.rejects(folder.putPacked(ref, Buffer.from("nonsense")), SnapshotCorruptError);
});

test("a manifest is accepted only from a broker of this cluster, and a refusal says why", async (t) => {
  const folder = folderFor(t);
  const manifest = manifestOf(await build(projectionOf(10), folder));
  const refused = (envelope: Uint8Array, why: RegExp, open = opener): void =>
    assert.throws(
      () => openManifest(envelope, open),
      (error) => error instanceof SnapshotRefusedError && why.test(error.message),
    );
  const good = sealManifest(signer(), manifest);
  assert.equal(openManifest(good.envelope, opener).id, good.id);
  refused(good.envelope, /cluster/, createBrokerOpener({ cluster: "other", secrets: [secret] }));
  refused(good.envelope, /not signed by this cluster/, createBrokerOpener({ cluster, secrets: [Buffer.alloc(32)] }));
  refused(sealManifest(signer({ secret: Buffer.alloc(32, 9) }), manifest).envelope, /not signed by this cluster/);
  refused(sealManifest(signer({ role: "proxy" }), manifest).envelope, /role proxy/);
  refused(sealManifest(signer({ epoch: 0 }), manifest).envelope, /did not lead/);
  refused(sealManifest(signer(), { ...manifest, cluster: "other" }).envelope, /another cluster/);
  refused(sealManifest(signer(), { ...manifest, projectorVersion: 2 }).envelope, /projector version 2/);
  refused(sealManifest(signer(), { ...manifest, level: 99 }).envelope, /finalized level 99/);
  refused(sealEnvelope(signer(), "batch", Buffer.of()), /batch is not a snapshot/);
  refused(sealEnvelope(signer(), "snapshot", encode(["cardea snapshot", 77])), /format 77/);
  refused(sealEnvelope(signer(), "snapshot", encode(["cardea snapshot", 2, 2])), /malformed/);
  refused(
    sealEnvelope(signer(), "snapshot", encode(["cardea snapshot", 1])),
    /format 1, and this build reads format 2/,
  );
  refused(sealEnvelope(signer(), "snapshot", Buffer.of(0xc1)), /cannot be read|not a manifest/);
  refused(
    good.envelope.map((byte, at) => (at === good.envelope.length - 100 ? byte ^ 1 : byte)),
    /signature|envelope|manifest|certificate/,
  );
});

test("a bad manifest on disk is reported, and the others are still listed", async (t) => {
  const folder = folderFor(t);
  const signed = sealManifest(signer(), manifestOf(await build(projectionOf(10), folder)));
  await folder.putManifest(signed);
  const manifests = join(folder.path, "manifests");
  const [name = ""] = readdirSync(manifests);
  writeFileSync(join(manifests, `0000000000000099-${"a".repeat(64)}`), readFileSync(join(manifests, name)));
  writeFileSync(join(manifests, `0000000000000098-${"b".repeat(64)}`), "nonsense");
  writeFileSync(join(manifests, "0000000000000097-x.1.part"), "half");
  const { snapshots, bad } = await folder.list();
  assert.deepEqual(
    snapshots.map(({ id }) => id),
    [signed.id],
  );
  assert.equal(bad.length, 2);
  assert.match(bad.map(({ problem }) => problem).join(), /does not match its file name/);
  await folder.tidy();
  assert.equal(readdirSync(manifests).length, 3);
  truncateSync(join(manifests, name), 10);
  assert.deepEqual((await folder.list()).snapshots, []);
});

test("only the newest snapshots and their chunks are kept, and no other user may read them", async (t) => {
  const folder = folderFor(t);
  const ids: string[] = [];
  for (const sessions of [10, 20, 30, 40]) {
    const signed = sealManifest(signer(), manifestOf(await build(projectionOf(sessions), folder)));
    await folder.putManifest(signed);
    ids.unshift(signed.id);
  }
  await folder.keep((await folder.list()).snapshots.slice(0, 3));
  const { snapshots } = await folder.list();
  assert.deepEqual(
    snapshots.map(({ id }) => id),
    ids.slice(0, 3),
  );
  for (const { manifest } of snapshots) await loadSnapshot(manifest, (ref) => folder.chunk(ref));
  const chunks = readdirSync(join(folder.path, "chunks"));
  const needed = new Set(snapshots.flatMap(({ manifest }) => manifest.chunks.map(({ hash }) => hash as string)));
  assert.deepEqual(chunks.sort(), [...needed].sort());
  for (const name of chunks) assert.equal(statSync(join(folder.path, "chunks", name)).mode & 0o077, 0);
});

test("a snapshot with its chunks in another order is refused, even if each chunk matches its hash", async (t) => {
  const folder = folderFor(t);
  const manifest = manifestOf(await build(projectionOf(3_000), folder));
  const reversed = { ...manifest, chunks: [...manifest.chunks].reverse() };
  await assert.rejects(
    loadSnapshot(reversed, (ref) => folder.chunk(ref)),
    MalformedSnapshotError,
  );
});
