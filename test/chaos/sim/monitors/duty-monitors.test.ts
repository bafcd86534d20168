/**
 * The monitors of duties, announced snapshots and retention: a correct history breaks nothing, and each error is found.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, type Invariant } from "../../../../chaos/sim/monitors/index.ts";
import type { Hash, Link } from "../../../../src/events/index.ts";
import { History } from "./history.ts";

const broker = { process: "broker-1" };
const server = { process: "pg-1", writer: "broker-1" };
const id = "f".repeat(64) as Hash;
const visit = { ...broker, duty: "visits", commandId: "revoke-s1", epoch: 1, incarnation: "i1" };

function isKept(history: History): void {
  assert.deepEqual(history.monitorResult.violations.map(describe), []);
}
function isBroken(history: History, invariant: Invariant, what: RegExp): void {
  const texts = history.monitorResult.violations.filter((each) => each.invariant === invariant).map(describe);
  assert.match(texts.join("\n"), what);
}

test("a duty's command that is written in another epoch is found", () => {
  isKept(History.begun().tell("duty-submitted", visit).revoke("s1"));
  const late = History.begun().tell("duty-submitted", visit).open("broker-1").revoke("s1");
  isBroken(late, "duty-fenced", /a duty in epoch 1 \(visits\), and what it asked for is written in epoch 2/);
});

test("the log may name only a saved snapshot of its own history", () => {
  const taken = (history: History, position = history.head.position) =>
    history.append({ type: "SnapshotTaken", position, manifestHash: id }, "taken");
  const saved = (history: History) =>
    history.tell("snapshot-built", { ...broker, link: history.head, digest: "d2", id });
  isKept(taken(saved(History.begun())));
  isBroken(taken(History.begun()), "snapshot-announced", /which no broker has saved/);
  const elsewhere = saved(History.begun());
  isBroken(taken(elsewhere, (elsewhere.head.position - 1) as never), "snapshot-announced", /which is of 1\.2/);
});

test("35: dropping events that a node with a lease must still read is found; without a lease it is allowed", () => {
  const behind = () => History.begun().create("s2").create("s3");
  const first = behind().head.position;
  isKept(behind().apply().truncate(first));
  isBroken(behind().truncate(first), 35, /node-1, whose lease holds, is at 1\.2/);
  isKept(behind().later(60_000).truncate(first));
});

test("dropping events is found unless two snapshots on the broker's disk cover them, the older one whole and of that log", () => {
  const begun = History.begun();
  const [older, newer] = [begun.head, begun.create("s2").create("s3").apply().head];
  const first = begun.create("s4").apply().head.position;
  const elsewhere = { ...older, hash: newer.hash };
  const [one, two] = [(link: Link, whole = true) => ({ link, whole }), [{ link: newer, whole: true }] as const];
  const cut = (saves: readonly object[], at: number = older.position + 1, held = false): History => {
    const history = History.begun().create("s2").create("s3").apply().create("s4").apply();
    history.tell("retain-asked", { ...broker, first, held, saves });
    return history.tell("truncated", { ...server, first: at });
  };
  isKept(cut([...two, one(older)]));
  isBroken(cut([...two, one(older)], older.position + 2), "retention-held", /lets go of all before \d+ for broker-1/);
  isBroken(cut([...two, one(older, false)]), "retention-held", /\(not whole\) on its disk/);
  isBroken(cut([...two, one(elsewhere)]), "retention-held", /lets go of all before/);
  isBroken(cut([...two]), "retention-held", /lets go of all before/);
  isBroken(cut([...two, one(older)], older.position + 1, true), "retention-held", /was to keep everything/);
  isBroken(
    History.begun().tell("truncated", { ...server, first: 2 }),
    "retention-held",
    /asked for nothing of the kind/,
  );
});
