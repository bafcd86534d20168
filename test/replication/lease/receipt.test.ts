/** Receipts: the status of each node, and when a receipt is complete. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type {
  BootId,
  CommandId,
  Epoch,
  Hash,
  Link,
  MonotonicMs,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
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
const moment = { monotonic: 10_000 as MonotonicMs, wall: 1_000_000 as UnixMs };
const lessee = (node: string, parts: Partial<LesseeStatus> = {}): LesseeStatus => ({
  ...{ node: node as NodeId, boot: `${node}-boot` as BootId, region: "eu", role: "proxy" },
  ...{ enforced: at(10), fencedInMs: 3_000, lastGrantAgoMs: 100, renew: null, refusal: null },
  ...{ twin: null, onLostHistory: false, heardAgoMs: 100, confirmations: [] },
  ...parts,
});
const receiptOf = (lessees: readonly LesseeStatus[], parts: Partial<ReceiptQuery> = {}) =>
  receiptFor(question(parts), { epoch, lessees, regions: [], at: moment });

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

  test("an applied node has the time of its first confirmation of the change, by the leader's clock", () => {
    const confirmations = [
      { position: 15, at: 9_000 },
      { position: 21, at: 9_400 },
      { position: 30, at: 9_900 },
    ] as unknown as LesseeStatus["confirmations"];
    const confirmedAt = (parts: Partial<LesseeStatus>) => receiptOf([lessee("n", parts)]).nodes[0]?.confirmedAt;
    assert.equal(confirmedAt({ enforced: at(30), confirmations }), 1_000_000 - 600);
    assert.equal(confirmedAt({ enforced: at(19), confirmations }), undefined, "an unconfirmed node has none");
    assert.equal(confirmedAt({ enforced: at(30) }), null, "the leader does not know");
  });

  test("a receipt names every region with its nodes, its absent nodes and when it was heard from, whichever it waits for", () => {
    const nodes = [
      lessee("a", { enforced: at(20) }),
      lessee("b", { region: "us" }),
      lessee("c", { region: "us", fencedInMs: 0 }),
    ];
    const heard = { region: "ap", absent: 3, cutOff: true, heardAt: 900_000 as UnixMs };
    const regions = receiptFor(question({ wait: "region", region: "eu" }), {
      ...{ epoch, lessees: nodes, at: moment },
      regions: [heard, { region: "us", absent: 0, cutOff: false, heardAt: 999_000 as UnixMs }],
    }).regions;
    assert.deepEqual(regions, [
      { ...heard, applied: 0, fenced: 0, unconfirmed: 0 },
      { region: "eu", applied: 1, fenced: 0, unconfirmed: 0, absent: 0, cutOff: false, heardAt: null },
      { region: "us", applied: 0, fenced: 1, unconfirmed: 1, absent: 0, cutOff: false, heardAt: 999_000 },
    ]);
  });

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
