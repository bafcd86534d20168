/**
 * Durability evidence: an event counts as synchronous by the flush positions of the standbys, not by the settings
 * alone.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  hasEnoughStandbys,
  judgeEvidence,
  type ReplicationLook,
  type StandbyPosition,
} from "../../../src/replication/log/durability.ts";

const end = 1_000n;
const standby = (name: string, flushed: bigint | null, parts: Partial<StandbyPosition> = {}): StandbyPosition => ({
  ...{ name, address: "10.0.0.1", state: "quorum", flushed },
  ...parts,
});
const evidenceOf = (names: string, standbys: readonly StandbyPosition[], parts: Partial<ReplicationLook> = {}) =>
  judgeEvidence({ holds: true, end, names, commit: "on", standbys, ...parts }, end);

describe("durability by flush position", () => {
  test("an event is synchronous once enough of the named standbys have flushed up to the end", () => {
    assert.equal(evidenceOf("ANY 1 (a, b)", [standby("a", 1_000n), standby("b", 10n)]), "synchronous");
    assert.equal(evidenceOf("ANY 2 (a, b)", [standby("a", 1_000n), standby("B", 2_000n)]), "synchronous");
    assert.equal(evidenceOf("a", [standby("a", 1_000n, { state: "sync" })]), "synchronous");
    assert.equal(evidenceOf("*", [standby("walreceiver", 1_001n, { state: "sync" })]), "synchronous");
    assert.equal(evidenceOf("a", [standby("a", 1_000n)], { commit: "remote_apply" }), "synchronous");
  });

  test("standby names alone prove nothing, because a commit that was released early is on no standby", () => {
    assert.equal(evidenceOf("ANY 1 (a, b)", []), "behind");
    assert.equal(evidenceOf("ANY 1 (a, b)", [standby("a", 999n), standby("b", 999n)]), "behind");
    assert.equal(evidenceOf("ANY 2 (a, b)", [standby("a", 1_000n), standby("b", 999n)]), "behind");
  });

  test("without names, or with commits that wait for no standby, an event is asynchronous at once", () => {
    const all = [standby("a", 2_000n, { state: "async" }), standby("b", 2_000n)];
    assert.equal(evidenceOf("", all), "asynchronous");
    assert.equal(evidenceOf("ANY 1 (a,,b)", all), "asynchronous", "names that cannot be parsed");
    for (const commit of ["off", "local", "remote_write"])
      assert.equal(evidenceOf("ANY 1 (a, b)", all, { commit }), "asynchronous", commit);
  });

  test("a server without enough standbys that count cannot give evidence soon, however far they are behind otherwise", () => {
    const names = "ANY 1 (a, b)";
    assert.equal(hasEnoughStandbys({ names, standbys: [standby("a", 1n)] }), true);
    for (const standbys of [[], [standby("c", 1n)], [standby("a", null)], [standby("a", 1n, { state: "async" })]])
      assert.equal(hasEnoughStandbys({ names, standbys }), false);
    assert.equal(hasEnoughStandbys({ names: "", standbys: [] }), true, "commits wait for none");
  });

  test("an event that this server does not have is never synchronous", () => {
    assert.equal(evidenceOf("a", [standby("a", 2_000n)], { holds: false }), "asynchronous");
  });

  test("only standbys that Postgres counts are counted: no unnamed or potential standby, and no hidden position", () => {
    assert.equal(evidenceOf("ANY 1 (a, b)", [standby("reporting", 2_000n)]), "behind");
    assert.equal(evidenceOf("FIRST 1 (a, b)", [standby("b", 2_000n, { state: "potential" })]), "behind");
    assert.equal(evidenceOf("FIRST 1 (a, b)", [standby("b", 2_000n, { state: "async" })]), "behind");
    assert.equal(evidenceOf("a", [standby("a", null)]), "behind");
  });

  test("a standby with two connections counts once, by the lower of its positions", () => {
    assert.equal(evidenceOf("ANY 2 (a, b)", [standby("a", 1_000n), standby("a", 1_000n)]), "behind");
    assert.equal(evidenceOf("ANY 2 (*)", [standby("a", 1_000n), standby("a", 1_000n)]), "behind");
    assert.equal(evidenceOf("ANY 1 (a, b)", [standby("a", 1_000n), standby("a", 10n)]), "behind");
    assert.equal(evidenceOf("ANY 1 (a, b)", [standby("a", 1_000n), standby("a", null)]), "behind");
  });
});
