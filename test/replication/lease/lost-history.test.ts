/** Leases of a lost history: how the granter and receipts count the row of the lessee table that represents them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  BootId,
  Epoch,
  Hash,
  Incarnation,
  Link,
  MonotonicMs,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
import { fenceAfterMs, LeaseGranter, receiptFor } from "../../../src/replication/lease/index.ts";
import { type Lessee, lostHistory } from "../../../src/replication/log/index.ts";
import type { Renew } from "../../../src/replication/wire/index.ts";

const epoch = 3 as Epoch;
const drift = 0.01;
const [ownMs, lostMs] = [5_000, 60_000];
const head: Link = { epoch, position: 20 as Position, hash: "a".repeat(64) as Hash };
const survivor: Lessee = {
  node: "near" as NodeId,
  boot: "near-boot" as BootId,
  region: "eu",
  role: "proxy",
  windowMs: ownMs,
};
const row = lostHistory(epoch, lostMs);
const view = { at: 10 as MonotonicMs, onChain: () => true, digest: "same" } as const;

function granter(): LeaseGranter {
  return new LeaseGranter({
    ...{ epoch, incarnation: "i" as Incarnation, start: 5 as Position, openedAt: 0 as MonotonicMs },
    ...{ lessees: [survivor, row], deltaMs: ownMs, drift, windowMaxMs: lostMs, exclusive: false },
  });
}

test("a surviving row counts for the longest window of a lost history, because a longer grant to its node may be lost", () => {
  const statuses = granter().statuses(0 as MonotonicMs);
  assert.deepEqual(
    statuses.map(({ node, fencedInMs }) => [node, fencedInMs]),
    [
      [row.node, fenceAfterMs(lostMs, drift)],
      [survivor.node, fenceAfterMs(lostMs, drift)],
    ],
  );
});

test("no boot can renew, confirm or say goodbye for a lost history", () => {
  const leader = granter();
  const { node, boot, region, role } = row;
  const renew: Renew = {
    ...{ node, boot, region, role, nonce: 1, version: "1", windowMs: ownMs, applied: head, enforced: head },
    ...{ digest: "", configHash: "", replaces: null, reads: 1, monotonicMs: 0 },
  };
  assert.equal(leader.renew(renew, "remote", view).type, "refused");
  const replacing = { ...renew, node: survivor.node, boot: "other" as BootId, replaces: boot };
  assert.equal(leader.renew(replacing, "remote", view).type, "refused");
  assert.notEqual(leader.confirm({ node, boot, nonce: 2, enforced: head }, view), "accepted");
  assert.notEqual(leader.goodbye({ node, boot, nonce: 3 }), "accepted");
  const status = leader.statuses(10 as MonotonicMs).find((each) => each.boot === boot);
  assert.equal(status?.enforced, null);
});

test("receipts of every region wait for a lost history", () => {
  const lessees = granter()
    .statuses(0 as MonotonicMs)
    .filter(({ boot }) => boot === row.boot);
  const isComplete = (region: string) =>
    receiptFor(
      { link: head, commandId: null, wait: "region", region },
      { epoch, lessees, regions: [], at: { monotonic: 0 as MonotonicMs, wall: 0 as UnixMs } },
    ).complete;
  assert.deepEqual([isComplete("eu"), isComplete("us")], [false, false]);
});
