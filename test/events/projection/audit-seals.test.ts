/** Seals of audit records in the projection: the newest of each boot, and a tree over all of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AuditSegmentSealed,
  auditSealHeadsMax,
  type BootId,
  type Hash,
  leafHash,
  loadProjection,
  MerkleTree,
  type NodeId,
  Projection,
  readsLevel,
  SnapshotChunks,
} from "../../../src/events/index.ts";
import { record } from "../support.ts";

const sealed = (boot: number, last: number, more: Partial<AuditSegmentSealed> = {}): AuditSegmentSealed => ({
  ...{ type: "AuditSegmentSealed", nodeId: "node-1" as NodeId, bootId: `boot-${boot}` as BootId, first: 1, last },
  ...{ root: String(last).padStart(64, "0") as Hash, seal: Buffer.from(`seal ${boot} ${last}`) },
  ...more,
});

function folded(events: readonly AuditSegmentSealed[], projection = new Projection()): Projection {
  const all = projection.level < readsLevel ? [{ type: "UpgradeFinalized", level: readsLevel } as const] : [];
  for (const one of record([...all, ...events], projection.applied)) projection.apply(one);
  return projection;
}

test("the newest seal of each boot, and the tree, survive a snapshot with the same digest", () => {
  const events = [sealed(1, 5), sealed(2, 3), sealed(1, 9), sealed(2, 3, { final: true })];
  const projection = folded(events);
  const head = projection.auditSeals.head("node-1" as NodeId, "boot-1" as BootId);
  assert.deepEqual([head?.last, head?.final], [9, false]);
  assert.equal(projection.auditSeals.head("node-1" as NodeId, "boot-2" as BootId)?.final, true);
  assert.equal(projection.auditSeals.head("node-2" as NodeId, "boot-1" as BootId), undefined);
  const tree = new MerkleTree();
  for (const { seal } of events) tree.append(leafHash(seal ?? new Uint8Array()));
  assert.deepEqual(projection.auditSeals.tree.root, tree.root);
  assert.equal(projection.recomputedDigest(), projection.digest());

  const chunks = new SnapshotChunks(projection.capture());
  const written: Uint8Array[] = [];
  for (let step = chunks.step(100); step !== "done"; step = chunks.step(100)) if (step !== "more") written.push(step);
  const at = { link: projection.applied, digest: projection.digest(), level: projection.level, counts: chunks.counts };
  const loaded = loadProjection(at, written);
  assert.equal(loaded.recomputedDigest(), projection.digest());
  for (const one of [projection, loaded]) folded([sealed(3, 1), sealed(1, 11)], one);
  assert.equal(loaded.digest(), projection.digest());
  assert.equal(loaded.recomputedDigest(), loaded.digest());
  assert.equal(loaded.auditSeals.tree.size, 6);
});

test("the boot that sealed nothing for longest is forgotten, equally on every node", () => {
  const many = Array.from({ length: auditSealHeadsMax }, (_, at) => sealed(at + 2, 1));
  const projection = folded([sealed(1, 1), ...many, sealed(2, 2), sealed(0, 1)]);
  assert.equal(projection.auditSeals.count, auditSealHeadsMax);
  const known = (boot: number) =>
    projection.auditSeals.head("node-1" as NodeId, `boot-${boot}` as BootId) !== undefined;
  assert.deepEqual([known(1), known(2), known(3), known(0)], [false, true, false, true]);
  assert.equal(projection.recomputedDigest(), projection.digest());
});
