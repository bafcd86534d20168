/** Losses that the checker permits: changes lost by a promotion, and late bytes at slow readers. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { unreadIn } from "../../chaos/clients/slow-reader-socket.ts";
import type { Entry, FaultEntry, LateEntry, LoggedEvent, ReceiptEntry } from "../../chaos/judge/history.ts";
import { nsPerMs } from "../../chaos/judge/history.ts";
import { command, ending, faultOf, hashAt, request, revocation, session, violationsOf } from "./support.ts";

const at = (ms: number): number => ms * nsPerMs;

const promotion = (begin: number, end: number): FaultEntry =>
  faultOf(begin, end, { what: "promote-lagging-standby", target: "Postgres" });

/** A log in which every event from a position on was written in epoch 2, by other commands. */
function survivor(from: number) {
  const log = (ending().log ?? []).map(
    (event): LoggedEvent =>
      event.position < from ? event : { ...event, epoch: 2, hash: hashAt(1_000 + event.position), cause: null },
  );
  return ending({}, { log });
}

const durabilityOf = (entries: readonly Entry[], durability: ReceiptEntry["durability"]): Entry[] =>
  entries.map((entry) => (entry.type === "receipt" ? { ...entry, durability } : entry));

describe("after the promotion of a lagging standby", () => {
  const revoked = revocation(140); // acknowledged at 120 ms, at position 20

  test("a change acknowledged meanwhile may be lost if no receipt called it synchronous", () => {
    const entries = [session(), ...durabilityOf(revoked, "asynchronous"), promotion(100, 500)];
    assert.deepEqual(violationsOf(entries, survivor(15)), []);
  });

  test("a change that a receipt called synchronous may not be lost", () => {
    const entries = [session(), ...durabilityOf(revoked, "synchronous"), promotion(100, 500)];
    assert.deepEqual(violationsOf(entries, survivor(15)), ["acknowledged-event-lost"]);
  });

  test("a change acknowledged before or after the promotion, or without any, may not be lost", () => {
    const asynchronous = durabilityOf(revoked, "asynchronous");
    assert.deepEqual(violationsOf([session(), ...asynchronous, promotion(130, 500)], survivor(15)), [
      "acknowledged-event-lost",
    ]);
    assert.deepEqual(violationsOf([session(), ...asynchronous, promotion(10, 90)], survivor(15)), [
      "acknowledged-event-lost",
    ]);
    assert.deepEqual(violationsOf([session(), ...asynchronous], survivor(15)), ["acknowledged-event-lost"]);
  });

  test("a lost revocation whose receipt was complete stays in force", () => {
    const passes = request({ begin: 900, end: 910, arrived: 902, sent: 903 });
    const entries = [session(), ...durabilityOf(revoked, "asynchronous"), promotion(100, 500), passes];
    assert.deepEqual(violationsOf(entries, survivor(15)), ["permitted-after-receipt"]);
  });

  test("a lost removal from a group is undone: the person may be permitted again", () => {
    const intent = { type: "remove-member", user: "alice", group: "eng" } as const;
    const removed = command({ op: "remove-1", intent, begin: 100, end: 120, complete: 140 });
    const passes = request({ begin: 900, end: 910, arrived: 902, sent: 903 }, { route: "eng" });
    const entries = [session(), ...durabilityOf(removed, "asynchronous"), promotion(100, 500), passes];
    assert.deepEqual(violationsOf(entries, survivor(15)), []);
    const surviving = ending({ 20: "command-remove-1" });
    assert.deepEqual(
      violationsOf(entries, surviving),
      ["permitted-after-receipt"],
      "a removal that was not lost is not undone",
    );
  });

  test("a lost session may be sent to sign in; a surviving one may not", () => {
    const refused = request({ begin: 900, end: 910 }, { status: 401 });
    const made = session({ begin: at(200), end: at(220), position: 20 });
    assert.deepEqual(violationsOf([made, promotion(100, 500), refused], survivor(15)), []);
    assert.deepEqual(violationsOf([made, promotion(100, 500), refused], survivor(25)), ["told-to-sign-in"]);
  });

  test("a revocation in the new epoch covers sessions of the old one, though positions restart", () => {
    const intent = { type: "revoke-user", user: "alice" } as const;
    const link = { epoch: 2, position: 16, hash: hashAt(1_016) };
    const all = command({ op: "revoke-all", intent, begin: 600, end: 620, complete: 640 }, { link, changed: false });
    const passes = request({ begin: 900, end: 910, arrived: 902, sent: 903 });
    const early = session({ position: 12 });
    assert.deepEqual(violationsOf([early, ...all, promotion(100, 500), passes], survivor(15)), [
      "permitted-after-receipt",
    ]);
  });
});

describe("bytes that reach a slow reader's machine after a complete receipt", () => {
  const late = (bytes: number): LateEntry => ({
    type: "late",
    ...{ id: "r1", op: "revoke-1", region: null, at: at(150), arrived: 70_000, late: bytes },
  });
  const read = request({ begin: 50, end: 60, arrived: 55, sent: 56 }, { kind: "download" });
  const entriesOf = (status: string, bytes: number): Entry[] => [
    ...[session(), read, late(bytes)],
    ...revocation(140).map((entry) =>
      entry.type === "receipt" ? { ...entry, nodes: [{ node: "proxy-eu-1", status, reason: "" }] } : entry,
    ),
  ];

  test("are a violation, even one byte, if the receipt calls the node applied", () => {
    assert.deepEqual(violationsOf(entriesOf("applied", 1)), ["carried-after-receipt"]);
    assert.deepEqual(violationsOf(entriesOf("applied", 0)), []);
  });

  test("may be as many as the kernel of a fenced node holds, and no more", () => {
    assert.deepEqual(violationsOf(entriesOf("fenced", 4_000_000)), []);
    assert.deepEqual(violationsOf(entriesOf("fenced", 4_000_001)), ["carried-after-receipt"]);
  });
});

test("the number of unread bytes in a kernel is read from /proc/net/tcp", () => {
  const table = [
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0",
    "   1: 0100007F:C350 0100007F:1F90 01 00000000:0001F400 00:00000000 00000000     0        0 2 1 0",
    "   2: 0100007F:1F90 0100007F:C350 01 00270F00:00000000 01:00000014 00000000     0        0 3 1 0",
  ].join("\n");
  assert.equal(unreadIn(table, { localPort: 50_000, remotePort: 8_080 }), 128_000);
  assert.equal(unreadIn(table, { localPort: 50_001, remotePort: 8_080 }), null, "reset: no more bytes can arrive");
});
