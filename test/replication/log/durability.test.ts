/**
 * When an event counts as held by synchronous standbys: by where they have flushed the log, not by what the settings
 * say.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { judgeEvidence, type ReplicationLook, type StandbyPosition } from "../../../src/replication/log/durability.ts";

const end = 1_000n;
const standby = (name: string, flushed: bigint | null, parts: Partial<StandbyPosition> = {}): StandbyPosition => ({
  ...{ name, address: "10.0.0.1", state: "quorum", flushed },
  ...parts,
});
const judged = (names: string, standbys: readonly StandbyPosition[], parts: Partial<ReplicationLook> = {}) =>
  judgeEvidence({ holds: true, end, names, commit: "on", standbys, ...parts }, end);

describe("durability by flush position", () => {
  test("enough of the named standbys have flushed up to the end: synchronous", () => {
    assert.equal(judged("ANY 1 (a, b)", [standby("a", 1_000n), standby("b", 10n)]), "synchronous");
    assert.equal(judged("ANY 2 (a, b)", [standby("a", 1_000n), standby("B", 2_000n)]), "synchronous");
    assert.equal(judged("a", [standby("a", 1_000n, { state: "sync" })]), "synchronous");
    assert.equal(judged("*", [standby("walreceiver", 1_001n, { state: "sync" })]), "synchronous");
    assert.equal(judged("a", [standby("a", 1_000n)], { commit: "remote_apply" }), "synchronous");
  });

  test("names alone prove nothing: a commit that was released early is on no standby", () => {
    assert.equal(judged("ANY 1 (a, b)", []), "behind");
    assert.equal(judged("ANY 1 (a, b)", [standby("a", 999n), standby("b", 999n)]), "behind");
    assert.equal(judged("ANY 2 (a, b)", [standby("a", 1_000n), standby("b", 999n)]), "behind");
  });

  test("without names, or with commits that wait for nobody, it is asynchronous at once, wherever the standbys are", () => {
    const all = [standby("a", 2_000n, { state: "async" }), standby("b", 2_000n)];
    assert.equal(judged("", all), "asynchronous");
    assert.equal(judged("ANY 1 (a,,b)", all), "asynchronous", "names that cannot be read");
    for (const commit of ["off", "local", "remote_write"])
      assert.equal(judged("ANY 1 (a, b)", all, { commit }), "asynchronous", commit);
  });

  test("an event that this server does not hold is never synchronous", () => {
    assert.equal(judged("a", [standby("a", 2_000n)], { holds: false }), "asynchronous");
  });

  test("only standbys that Postgres counts are counted: not those without a name there, potential ones or hidden positions", () => {
    assert.equal(judged("ANY 1 (a, b)", [standby("reporting", 2_000n)]), "behind");
    assert.equal(judged("FIRST 1 (a, b)", [standby("b", 2_000n, { state: "potential" })]), "behind");
    assert.equal(judged("FIRST 1 (a, b)", [standby("b", 2_000n, { state: "async" })]), "behind");
    assert.equal(judged("a", [standby("a", null)]), "behind");
  });

  test("one standby with two connections counts once, by the lower of its positions", () => {
    assert.equal(judged("ANY 2 (a, b)", [standby("a", 1_000n), standby("a", 1_000n)]), "behind");
    assert.equal(judged("ANY 2 (*)", [standby("a", 1_000n), standby("a", 1_000n)]), "behind");
    assert.equal(judged("ANY 1 (a, b)", [standby("a", 1_000n), standby("a", 10n)]), "behind");
    assert.equal(judged("ANY 1 (a, b)", [standby("a", 1_000n), standby("a", null)]), "behind");
  });
});
