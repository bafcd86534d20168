/** Admitted nodes: which nodes are on the list, what its rows say, and what the next epoch of a process inherits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BootId, Hash, MonotonicMs, NodeId, Position, UnixMs } from "../../../src/events/index.ts";
import { type AdmittedBefore, AdmittedNodes, type Moment } from "../../../src/replication/lease/index.ts";
import type { AdmittedNode, Lessee } from "../../../src/replication/log/index.ts";
import type { Renew } from "../../../src/replication/wire/index.ts";

const wallAtZero = 1_700_000_000_000;
const at = (ms: number): Moment => ({ monotonic: ms as MonotonicMs, wall: (wallAtZero + ms) as UnixMs });
const link = { epoch: 1, position: 10 as Position, hash: "0".repeat(64) as Hash } as Renew["applied"];

function renewOf(node: string, parts: Partial<Renew> = {}): Renew {
  return {
    ...{ node: node as NodeId, boot: `${node}-1` as BootId, nonce: 1, region: "eu", role: "proxy", version: "1" },
    ...{ windowMs: 5_000, applied: link, enforced: link, digest: "", configHash: "", replaces: null, reads: 1 },
    ...{ monotonicMs: 0 },
    ...parts,
  };
}
function rowOf(node: string, parts: Partial<AdmittedNode> = {}): AdmittedNode {
  const { boot, region, role } = renewOf(node);
  const heardAt = wallAtZero as UnixMs;
  return { node: node as NodeId, role, region, boot, heardAt, applied: link.position, ...parts };
}
const lesseeOf = (node: string): Lessee => {
  const { boot, region, role, windowMs } = renewOf(node);
  return { node: node as NodeId, boot, region, role, windowMs };
};
type Parts = Readonly<{ rows: readonly AdmittedNode[]; before: AdmittedBefore | null; lessees: readonly Lessee[] }>;
const listWith = (parts: Partial<Parts> = {}, ms = 0) =>
  new AdmittedNodes({ rows: [], before: null, lessees: [], at: at(ms), ...parts });
const names = (nodes: readonly Readonly<{ node: NodeId }>[]) => nodes.map(({ node }) => node);

/** A beat that commits. */
function beat(list: AdmittedNodes) {
  const rows = list.rowsDue();
  list.rowsWritten(rows);
  return rows;
}

describe("admitted nodes", () => {
  test("a node has its row with the beat after its first renew, and stays however long it is silent", () => {
    const list = listWith();
    list.admit(renewOf("a"), at(100));
    assert.deepEqual(beat(list), { departed: [], admitted: [rowOf("a", { heardAt: (wallAtZero + 100) as UnixMs })] });
    assert.deepEqual(beat(list), { departed: [], admitted: [] }, "it is written once");
    const [status] = list.statuses(at(864_000_100));
    assert.deepEqual([status?.node, status?.silentMs], ["a", 864_000_000]);
  });

  test("a beat that is not clean writes its rows again", () => {
    const list = listWith();
    list.admit(renewOf("a"), at(0));
    assert.equal(list.rowsDue().admitted.length, 1);
    assert.equal(list.rowsDue().admitted.length, 1);
  });

  test("the time in a row is renewed once a minute, and at once with another boot or region", () => {
    const list = listWith();
    list.admit(renewOf("a"), at(0));
    beat(list);
    list.hear(renewOf("a"), at(59_999));
    assert.equal(beat(list).admitted.length, 0);
    list.hear(renewOf("a"), at(60_000));
    assert.deepEqual(beat(list).admitted, [rowOf("a", { heardAt: (wallAtZero + 60_000) as UnixMs })]);
    list.hear(renewOf("a", { boot: "a-2" as BootId }), at(60_001));
    assert.equal(beat(list).admitted[0]?.boot, "a-2");
    list.hear(renewOf("a", { boot: "a-2" as BootId, region: "us" }), at(60_002));
    assert.equal(beat(list).admitted[0]?.region, "us");
  });

  test("a node that comes back under another boot is one node", () => {
    const list = listWith({ rows: [rowOf("a")] });
    list.admit(renewOf("a", { boot: "a-2" as BootId }), at(1_000));
    const all = list.statuses(at(2_000));
    assert.deepEqual(
      all.map(({ node, boot, silentMs }) => [node, boot, silentMs]),
      [["a", "a-2", 1_000]],
    );
  });

  test("a renew of a node that was never admitted adds none", () => {
    const list = listWith();
    list.hear(renewOf("a"), at(0));
    assert.equal(list.size, 0);
  });

  describe("a goodbye", () => {
    const gone = () => false;
    test("removes the node, and its row with the next beat", () => {
      const list = listWith({ rows: [rowOf("a"), rowOf("b")] });
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", gone);
      assert.deepEqual(names(list.statuses(at(0))), ["b"]);
      assert.equal(list.needsBeat, true);
      assert.deepEqual(beat(list).departed, [{ node: "a", role: "proxy" }]);
      assert.equal(list.needsBeat, false);
    });

    test("of an older boot does not remove the node, as in a rolling update", () => {
      const list = listWith({ rows: [rowOf("a")] });
      list.admit(renewOf("a", { boot: "a-2" as BootId }), at(0));
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", (boot) => boot === "a-2");
      assert.deepEqual(names(list.statuses(at(0))), ["a"]);
    });

    test("that was sent before, of a boot that is no lessee, does not silence an absent node", () => {
      const list = listWith({ rows: [rowOf("a", { boot: "a-2" as BootId })] });
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, null, gone);
      assert.deepEqual(names(list.statuses(at(0))), ["a"]);
    });

    test("of a boot that only a leader of an older build has admitted removes the node", () => {
      const list = listWith({ rows: [rowOf("a")] });
      list.leave({ node: "a" as NodeId, boot: "a-9" as BootId }, "proxy", gone);
      assert.equal(list.size, 0);
    });

    test("of one role leaves the process of another role with the same name", () => {
      const list = listWith({ rows: [rowOf("a"), rowOf("a", { role: "broker", boot: "a-2" as BootId })] });
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", gone);
      assert.deepEqual(
        list.statuses(at(0)).map(({ role }) => role),
        ["broker"],
      );
    });

    test("and a return before the beat leave the node on the list, with one row", () => {
      const list = listWith({ rows: [rowOf("a")] });
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", gone);
      list.admit(renewOf("a", { boot: "a-2" as BootId }), at(10));
      const { departed, admitted } = beat(list);
      assert.deepEqual([departed, admitted.map(({ boot }) => boot)], [[], ["a-2"]]);
    });

    test("while the node's row is being written is written with the next beat", () => {
      const list = listWith();
      list.admit(renewOf("a"), at(0));
      const rows = list.rowsDue();
      list.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", gone);
      list.rowsWritten(rows);
      assert.deepEqual(beat(list), { departed: [{ node: "a", role: "proxy" }], admitted: [] });
    });
  });

  describe("the next epoch", () => {
    test("has every row, as silent for as long as the row says, unless the node has a lessee", () => {
      const rows = [rowOf("a"), rowOf("b")];
      const list = listWith({ rows, lessees: [lesseeOf("b")] }, 30_000);
      assert.deepEqual(
        list.statuses(at(31_000)).map(({ node, silentMs }) => [node, silentMs]),
        [
          ["a", 31_000],
          ["b", 1_000],
        ],
      );
    });

    test("of the same process has the nodes whose rows the log has lost, and writes them again", () => {
      const first = listWith();
      first.admit(renewOf("a"), at(0));
      beat(first);
      const next = listWith({ before: first.carryOver() }, 1_000);
      assert.deepEqual(names(next.statuses(at(1_000))), ["a"]);
      assert.deepEqual(names(beat(next).admitted), ["a"]);
    });

    test("of the same process knows who has left, even if no beat has written it", () => {
      const first = listWith({ rows: [rowOf("a")] });
      first.leave({ node: "a" as NodeId, boot: "a-1" as BootId }, "proxy", () => false);
      const next = listWith({ rows: [rowOf("a")], before: first.carryOver() });
      assert.equal(next.size, 0);
      assert.deepEqual(names(beat(next).departed as readonly AdmittedNode[]), ["a"]);
    });

    test("trusts the row of a node whose retirement has an unknown outcome", () => {
      const first = listWith({ rows: [rowOf("a"), rowOf("b")] });
      first.beginRetiring([rowOf("a"), rowOf("b")]);
      const before = first.carryOver();
      assert.deepEqual(names(listWith({ rows: [], before }).statuses(at(0))), [], "it was committed");
      assert.deepEqual(names(listWith({ rows: [rowOf("a"), rowOf("b")], before }).statuses(at(0))), ["a", "b"]);
    });
  });

  test("a retired node leaves the list, and is admitted again when it renews", () => {
    const list = listWith({ rows: [rowOf("a")] });
    list.retire([rowOf("a")]);
    assert.deepEqual([list.size, list.needsBeat], [0, false], "the batch has removed the row");
    list.admit(renewOf("a"), at(0));
    assert.deepEqual(names(beat(list).admitted), ["a"]);
  });

  test("a full list drops the node that was silent for longest, and counts it", () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => rowOf(`n${i}`, { heardAt: (wallAtZero - i) as UnixMs }));
    const list = listWith({ rows });
    list.admit(renewOf("new"), at(0));
    assert.deepEqual([list.size, list.forgotten], [20_000, 1]);
    assert.deepEqual(names(list.rowsDue().departed as readonly AdmittedNode[]), ["n19999"]);
  });
});
