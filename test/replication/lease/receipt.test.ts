/** Receipts: the status of each node, and when a receipt is complete. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BootId, CommandId, Epoch, Hash, Link, NodeId, Position } from "../../../src/events/index.ts";
import { type LesseeStatus, type ReceiptQuery, receiptFor } from "../../../src/replication/lease/index.ts";
import { fc } from "../../support/property.ts";

const epoch = 3 as Epoch;
const at = (position: number): Link => ({
  ...{ epoch, position: position as Position },
  hash: position.toString(16).padStart(64, "0") as Hash,
});
const question = (parts: Partial<ReceiptQuery> = {}): ReceiptQuery => ({
  ...{ link: at(20), commandId: null, wait: "all", region: null },
  ...parts,
});
const lessee = (node: string, parts: Partial<LesseeStatus> = {}): LesseeStatus => ({
  ...{ node: node as NodeId, boot: `${node}-boot` as BootId, region: "eu", role: "proxy" },
  ...{ enforced: at(10), fencedInMs: 3_000, lastGrantAgoMs: 100, renew: null, refusal: null },
  ...{ twin: null, onLostHistory: false },
  ...parts,
});
const receiptOf = (lessees: readonly LesseeStatus[], parts: Partial<ReceiptQuery> = {}) =>
  receiptFor(question(parts), { epoch, lessees });

describe("receipt", () => {
  const table: readonly (readonly [string, Partial<LesseeStatus>, string, number | null])[] = [
    ["has confirmed the position", { enforced: at(20) }, "applied", null],
    ["has confirmed a later position", { enforced: at(21) }, "applied", null],
    ["has confirmed it and is fenced as well", { enforced: at(20), fencedInMs: 0 }, "applied", null],
    ["has confirmed only the position before", { enforced: at(19) }, "unconfirmed", 3_000],
    ["has confirmed nothing", { enforced: null }, "unconfirmed", 3_000],
    ["has less than a millisecond left on its lease", { fencedInMs: 0.01 }, "unconfirmed", 1],
    ["has no lease left", { fencedInMs: 0 }, "fenced", 0],
    ["had a lease in an earlier epoch", { enforced: null, lastGrantAgoMs: null }, "unconfirmed", 3_000],
    ["gets no more grants", { refusal: "its clock is off" }, "unconfirmed", 3_000],
  ];
  for (const [what, parts, status, fencedInMs] of table) {
    test(`a node that ${what} is ${status}`, () => {
      const receipt = receiptOf([lessee("n", parts)]);
      const [node] = receipt.nodes;
      assert.deepEqual([node?.status, node?.fencedInMs], [status, fencedInMs]);
      assert.equal(receipt.complete, status !== "unconfirmed");
      assert.equal(receipt.status, status === "unconfirmed" ? "incomplete" : "complete");
      assert.equal(node?.reason === "", status === "applied");
      assert.equal(receipt.completeInMs, status === "unconfirmed" ? fencedInMs : 0);
    });
  }

  test("a receipt is complete when no node holds a lease", () => assert.equal(receiptOf([]).complete, true));
  test("a command that is not in the log is lost and never complete", () => {
    const receipt = receiptOf([lessee("n", { enforced: at(99) })], { link: null, commandId: "c" as CommandId });
    assert.deepEqual([receipt.status, receipt.complete, receipt.commandId], ["lost", false, "c"]);
  });
  test("a receipt for a region waits for that region's nodes and lists all nodes", () => {
    const nodes = [lessee("far", { region: "us" }), lessee("near", { enforced: at(20) })];
    const regional = receiptOf(nodes, { wait: "region", region: "eu" });
    assert.deepEqual([regional.complete, regional.nodes.length], [true, 2]);
    assert.equal(receiptOf(nodes, { wait: "region", region: "us" }).complete, false);
    assert.equal(receiptOf(nodes, { wait: "region", region: null }).complete, false);
    assert.equal(receiptOf(nodes).complete, false);
  });
  test("`wait: none` does not make a receipt complete", () =>
    assert.equal(receiptOf([lessee("n")], { wait: "none" }).complete, false));
  test("a receipt will be complete when the last node that it waits for is fenced", () => {
    const nodes = [lessee("a", { fencedInMs: 900 }), lessee("b", { fencedInMs: 4_000, region: "us" })];
    assert.equal(receiptOf(nodes).completeInMs, 4_000);
    assert.equal(receiptOf(nodes, { wait: "region", region: "eu" }).completeInMs, 900);
  });
  test("a node that only answers decisions for another proxy is reported as decision-only", () => {
    assert.equal(receiptOf([lessee("n", { role: "authorize" })]).nodes[0]?.role, "decision-only");
  });

  test("a receipt is complete exactly if each node that it waits for has confirmed the position or is fenced", () => {
    const lesseeParts = fc.record({
      enforced: fc.option(fc.integer({ min: 0, max: 40 }).map(at)),
      fencedInMs: fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 60_000, noNaN: true })),
      region: fc.constantFrom("eu", "us"),
    });
    const wait = fc.constantFrom("all" as const, "region" as const, "none" as const);
    fc.assert(
      fc.property(fc.array(lesseeParts, { maxLength: 6 }), wait, (all, how) => {
        const lessees = all.map((parts, index) => lessee(`n${index}`, parts));
        const receipt = receiptOf(lessees, { wait: how, region: "eu" });
        const waitedFor = lessees.filter(({ region }) => how !== "region" || region === "eu");
        const holds = waitedFor.every((l) => (l.enforced?.position ?? -1) >= 20 || l.fencedInMs === 0);
        assert.equal(receipt.complete, holds);
        for (const [index, node] of receipt.nodes.entries()) {
          if (node.status === "applied") assert.ok((lessees[index]?.enforced?.position ?? -1) >= 20);
          if (node.status === "fenced") assert.equal(lessees[index]?.fencedInMs, 0);
        }
      }),
    );
  });
});
