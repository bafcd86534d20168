/** The monitor of the list of nodes: a history that keeps it, and histories that break it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe } from "../../../../chaos/sim/monitors/index.ts";
import type { NodeId } from "../../../../src/events/index.ts";
import { History } from "./history.ts";

const own = { node: "node-1", boot: "boot-1" };

function listed(history: History, nodes: readonly string[], given: object = {}): History {
  return history.later(6_000).tell("nodes-listed", { process: "broker-1", epoch: history.epoch, nodes, ...given });
}
function missing(history: History): readonly string[] {
  return history.monitorResult.violations.filter(({ invariant }) => invariant === "node-listed").map(describe);
}

test("a node that was granted a lease is shown by each later leader, however long it is silent", () => {
  const silent = (): History => History.begun().tell("killed", { process: "node-1", boot: "boot-1" }).later(90_000);
  assert.deepEqual(missing(listed(silent().open("broker-2"), ["node-1"], { process: "broker-2" })), []);
  const broken = missing(listed(silent().open("broker-2"), [], { process: "broker-2" }));
  assert.match(
    broken.join("\n"),
    /broker-2 leads epoch 2 and does not show node-1, which was granted a lease 96\.\d+ s/,
  );
});

test("a node that said goodbye or was retired need not be shown, until it is granted a lease again", () => {
  const left = (): History => History.begun().tell("goodbye-sent", { ...own, nonce: 9 });
  assert.deepEqual(missing(listed(left(), [])), []);
  assert.deepEqual(missing(listed(left().lease(), [])), [], "a grant that was on its way");
  const again = left().startNode({ boot: "boot-2" }).renew({ boot: "boot-2" }).beat().grant({ boot: "boot-2" });
  assert.equal(missing(listed(again, [])).length, 1);
  const older = History.begun().tell("goodbye-sent", { ...own, boot: "boot-0", nonce: 9 });
  assert.equal(missing(listed(older, [])).length, 1);
  const later = History.begun()
    .later(10)
    .startNode({ boot: "boot-2" })
    .tell("goodbye-sent", { ...own, boot: "boot-2", nonce: 1 });
  assert.deepEqual(missing(listed(later, [])), [], "a later boot that was never granted a lease");
  const nodes = [{ nodeId: "node-1" as NodeId, role: "proxy", region: "eu" }];
  const retired = History.begun().append({ type: "NodesRetired", nodes }, "retire-1");
  assert.deepEqual(missing(listed(retired, [])), []);
});

test("a leader need not know what a later leader has granted, or what a promotion may have lost", () => {
  const later = History.begun();
  assert.deepEqual(missing(listed(later, [], { epoch: 0 })), []);
  const lost = History.begun().tell("promoted", { process: "pg-2", how: "unsafe", head: later.head });
  assert.deepEqual(missing(listed(lost, [])), []);
});

test("a node whose first lease waits for a commit is not missing yet, and one that is refused is", () => {
  const back = (): History =>
    History.begun()
      .later(20_000)
      .tell("renew-arrived", { process: "broker-1", ...own, nonce: 1, epoch: 1 })
      .later(-5_000);
  assert.deepEqual(missing(listed(back(), [])), []);
  const refused = back().tell("grant-refused", { process: "broker-1", ...own, reason: "too old" });
  assert.equal(missing(listed(refused, [])).length, 1);
  const repeated = back().tell("grant-refused", { process: "broker-1", ...own, reason: "repeated" });
  assert.deepEqual(missing(listed(repeated, [])), [], "the renew arrived twice, and its first copy waits for a commit");
  const earlierBoot = { process: "broker-1", node: "node-1", boot: "boot-0" };
  const lateRenew = back()
    .tell("renew-arrived", { ...earlierBoot, nonce: 9, epoch: 1 })
    .tell("grant-refused", { ...earlierBoot, reason: "this boot has left" });
  assert.deepEqual(missing(listed(lateRenew, [])), [], "the renew of another boot was refused");
});
