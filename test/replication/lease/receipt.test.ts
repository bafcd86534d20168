import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BootId, CommandId, Epoch, Hash, Link, NodeId, Position } from "../../../src/events/index.ts";
import { type LesseeStatus, type ReceiptQuery, receiptFor } from "../../../src/replication/index.ts";
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
const ask = (lessees: readonly LesseeStatus[], parts: Partial<ReceiptQuery> = {}) =>
  receiptFor(question(parts), { epoch, lessees });

describe("receipt", () => {
  const table: readonly (readonly [string, Partial<LesseeStatus>, string, number | null])[] = [
    ["has confirmed the place", { enforced: at(20) }, "applied", null],
    ["has confirmed a later place", { enforced: at(21) }, "applied", null],
    ["has confirmed it and is fenced besides", { enforced: at(20), fencedInMs: 0 }, "applied", null],
    ["has confirmed the place before", { enforced: at(19) }, "unconfirmed", 3_000],
    ["has confirmed nothing", { enforced: null }, "unconfirmed", 3_000],
    ["has a lease for less than a millisecond more", { fencedInMs: 0.01 }, "unconfirmed", 1],
    ["has no lease any more", { fencedInMs: 0 }, "fenced", 0],
    ["had one in an earlier epoch", { enforced: null, lastGrantAgoMs: null }, "unconfirmed", 3_000],
    ["gets no grants any more", { refusal: "its clock is off" }, "unconfirmed", 3_000],
  ];
  for (const [what, parts, status, fencedInMs] of table) {
    test(`a node that ${what} is ${status}`, () => {
      const receipt = ask([lessee("n", parts)]);
      const [node] = receipt.nodes;
      assert.deepEqual([node?.status, node?.fencedInMs], [status, fencedInMs]);
      assert.equal(receipt.complete, status !== "unconfirmed");
      assert.equal(receipt.status, status === "unconfirmed" ? "incomplete" : "complete");
      assert.equal(node?.reason === "", status === "applied");
      assert.equal(receipt.completeInMs, status === "unconfirmed" ? fencedInMs : 0);
    });
  }

  test("nobody holds a lease: complete", () => assert.equal(ask([]).complete, true));
  test("what is not in the log is lost, and never complete", () => {
    const receipt = ask([lessee("n", { enforced: at(99) })], { link: null, commandId: "c" as CommandId });
    assert.deepEqual([receipt.status, receipt.complete, receipt.commandId], ["lost", false, "c"]);
  });
  test("a region waits for its own nodes, and lists them all", () => {
    const nodes = [lessee("far", { region: "us" }), lessee("near", { enforced: at(20) })];
    const regional = ask(nodes, { wait: "region", region: "eu" });
    assert.deepEqual([regional.complete, regional.nodes.length], [true, 2]);
    assert.equal(ask(nodes, { wait: "region", region: "us" }).complete, false);
    assert.equal(ask(nodes, { wait: "region", region: null }).complete, false);
    assert.equal(ask(nodes).complete, false);
  });
  test("not waiting does not make it complete", () =>
    assert.equal(ask([lessee("n")], { wait: "none" }).complete, false));
  test("the longest of those that are waited for says when it will be complete", () => {
    const nodes = [lessee("a", { fencedInMs: 900 }), lessee("b", { fencedInMs: 4_000, region: "us" })];
    assert.equal(ask(nodes).completeInMs, 4_000);
    assert.equal(ask(nodes, { wait: "region", region: "eu" }).completeInMs, 900);
  });
  test("a node that only answers decisions for somebody else's proxy is named so", () => {
    assert.equal(ask([lessee("n", { role: "authorize" })]).nodes[0]?.role, "decision-only");
  });

  test("complete means that each node it waits for confirmed the place or holds nothing any more", () => {
    const standing = fc.record({
      enforced: fc.option(fc.integer({ min: 0, max: 40 }).map(at)),
      fencedInMs: fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 60_000, noNaN: true })),
      region: fc.constantFrom("eu", "us"),
    });
    const wait = fc.constantFrom("all" as const, "region" as const, "none" as const);
    fc.assert(
      fc.property(fc.array(standing, { maxLength: 6 }), wait, (all, how) => {
        const lessees = all.map((parts, index) => lessee(`n${index}`, parts));
        const receipt = ask(lessees, { wait: how, region: "eu" });
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
