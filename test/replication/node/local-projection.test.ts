/** Local projection: a node's copy of the log, and the denials it retains when a history is lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CardeaEvent,
  type DeviceId,
  deviceStream,
  genesis,
  type NeededLink,
  neededLink,
  Projection,
  type Recorded,
  type ServiceAccountId,
  serviceAccountStream,
  sessionStream,
  type UnixMs,
  userStream,
} from "../../../src/events/index.ts";
import { type EpochMark, emptyHistory, extendHistory } from "../../../src/replication/lease/chain-history.ts";
import { createPersonKeys } from "../../../src/replication/node/index.ts";
import { LocalProjection } from "../../../src/replication/node/local-projection.ts";
import type { LoadedSnapshot } from "../../../src/replication/node/messages.ts";
import { created, History, history, revoked, secret, sessionId, userId } from "../support.ts";

/** A copy that has applied one history and is then rebuilt from another. */
function rebuilt(old: History, log: History): LocalProjection {
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  copy.finishRebuild("lost");
  return copy;
}

function lost(...events: readonly CardeaEvent[]): { old: History; log: History } {
  const shared = new History().open(1).add(created(1, 1)).add(created(2, 2)).add(created(3, 1));
  const old = shared.fork(4);
  for (const event of events) old.add(event);
  return { old, log: shared.fork(4).open(2).add(created(50, 3)) };
}

/** A snapshot of a whole history, as a node stores it or a broker serves it. */
function snapshotOf(of: History): LoadedSnapshot {
  const projection = new Projection();
  for (const recorded of of.recorded(0, of.entries.length)) projection.apply(recorded);
  return { projection, link: of.head, epochs: marksOf(of), keys: [], retained: [] };
}

function marksOf(of: History): EpochMark[] {
  return extendHistory(emptyHistory, of.recorded(0, of.entries.length)).epochs.slice();
}

test("the applied link names its epoch's incarnation, and a rebuild keeps it until the new history is there", () => {
  const { old, log } = lost(created(9, 1));
  const copy = new LocalProjection(createPersonKeys([secret]));
  assert.deepEqual(copy.appliedLink, genesis);
  copy.fold(old.recorded(0, old.entries.length));
  const needs = (of: History): NeededLink =>
    neededLink({ link: of.head, incarnation: marksOf(of).at(-1)?.incarnation ?? undefined });
  assert.deepEqual(copy.appliedLink, needs(old));
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  assert.deepEqual(copy.appliedLink, needs(old));
  copy.finishRebuild("lost");
  assert.deepEqual(copy.appliedLink, needs(log));
  assert.notEqual(copy.appliedLink.incarnation, undefined);
});

test("a revocation in a lost suffix stays in force, outside the digest", () => {
  const { old, log } = lost(revoked(1, 1));
  const copy = rebuilt(old, log);
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
  assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(2))));
  assert.equal(copy.projection.digest(), rebuilt(new History(), log).projection.digest());
});

test("a revocation that the surviving log also has is not retained", () => {
  const shared = new History().open(1).add(created(1, 1)).add(revoked(1, 1));
  const copy = rebuilt(shared.fork(3).add(created(2)), shared.fork(3).open(2));
  assert.equal(copy.retained.size, 0);
});

test("lost loosening events are dropped: a session created in the lost suffix is unknown", () => {
  const { old, log } = lost(created(9, 1));
  const copy = rebuilt(old, log);
  assert.equal(copy.projection.sessionStatus(sessionId(9)).status, "unknown");
  assert.equal(copy.retained.size, 0);
});

test("a lost revocation of all sessions of a person denies those sessions, but not the person's new ones", () => {
  const { old, log } = lost({ type: "UserSessionsRevoked", userId: userId(1), upTo: null, reason: "operator" });
  const copy = rebuilt(old, log.add(created(60, 1)));
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))) && copy.isDeniedLocally(sessionStream(sessionId(3))));
  assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(2))));
  assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
  assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(60))));
});

test("a lost suspension denies the person until a later restoration, and the person's old sessions permanently", () => {
  const { old, log } = lost({ type: "UserSuspended", userId: userId(1), reason: "test" });
  const copy = rebuilt(old, log);
  assert.ok(copy.isDeniedLocally(userStream(userId(1))));
  log.add({ type: "UserRestored", userId: userId(1) });
  copy.fold(log.recorded(log.entries.length - 1, log.entries.length));
  assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
});

test("a lost suspension without an end stays in force beside one that ends by itself, and after that end", () => {
  const { old, log } = lost({ type: "UserSuspended", userId: userId(1), reason: "left" });
  log.add({ type: "UserSuspended", userId: userId(1), reason: "lost laptop", until: 100 as UnixMs });
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  const handedBack = copy.finishRebuild("lost").events.filter(({ type }) => type === "UserSuspended");
  assert.deepEqual(
    handedBack.map(({ until }) => until),
    [undefined],
    "it is handed back to the brokers",
  );
  log.add({ type: "SuspensionExpired", userId: userId(1), at: 100 as UnixMs });
  copy.fold(log.recorded(log.entries.length - 1, log.entries.length));
  assert.equal(copy.projection.user(userId(1))?.status, "active");
  assert.ok(copy.isDeniedLocally(userStream(userId(1))), "only an operator's restoration lifts it");
});

test("a lost suspension with an end is covered by one that ends later, and handed back with its end otherwise", () => {
  const suspended = (until: number): CardeaEvent => ({
    type: "UserSuspended",
    userId: userId(1),
    reason: "lost laptop",
    until: until as UnixMs,
  });
  for (const [there, here] of [
    [100, 200],
    [200, 100],
  ] as const) {
    const { old, log } = lost(suspended(there));
    log.add(suspended(here));
    const copy = new LocalProjection(createPersonKeys([secret]));
    copy.fold(old.recorded(0, old.entries.length));
    copy.beginRebuild();
    copy.fold(log.recorded(0, log.entries.length));
    const handedBack = copy.finishRebuild("lost").events.filter(({ type }) => type === "UserSuspended");
    assert.deepEqual(
      handedBack.map(({ until }) => until),
      here > there ? [] : [200],
    );
  }
});

test("lost removals of devices and revocations of service accounts stay in force", () => {
  const device = "device-1" as DeviceId;
  const account = "account-1" as ServiceAccountId;
  const { old, log } = lost(
    { type: "DeviceRemoved", deviceId: device, userId: userId(1) },
    { type: "ServiceAccountRevoked", serviceAccountId: account, userId: userId(1), reason: "operator" },
  );
  const copy = rebuilt(old, log);
  assert.ok(copy.isDeniedLocally(deviceStream(device)) && copy.isDeniedLocally(serviceAccountStream(account)));
});

test("a lost suffix longer than the remembered history keeps every earlier denial in force", () => {
  const old = history(1, 1);
  for (let n = 0; n < 17_000; n++) old.add(revoked(n));
  const copy = rebuilt(old, history(1, 2));
  assert.ok(
    copy.isDeniedLocally(sessionStream(sessionId(0))),
    "no longer remembered by itself, but retained with all the others",
  );
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(16_999))));
});

test("during a rebuild the old projection stays visible and keeps denying", () => {
  const { old, log } = lost(revoked(1, 1));
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  copy.fold(log.recorded(0, 3));
  assert.equal(copy.projection.sessionStatus(sessionId(1)).status, "revoked");
  assert.deepEqual(copy.projection.applied, old.head);
  copy.fold(log.recorded(3, log.entries.length));
  copy.finishRebuild("lost");
  assert.deepEqual(copy.projection.applied, log.head);
});

test("decisive events are distinguished from events that no decision reads", () => {
  const copy = new LocalProjection(createPersonKeys([secret]));
  const log = history(1).add(created(1));
  assert.equal(copy.fold(log.recorded(0, 1)).decisive, false);
  const { touched, decisive } = copy.fold(log.recorded(1, 2));
  assert.ok(decisive && touched.flat().includes(sessionStream(sessionId(1))));
});

test("an unknown tightening event denies its subject, even when it is lost", () => {
  const { old, log } = lost(revoked(1, 1));
  const entry = old.entries.at(-1);
  assert.ok(entry);
  const unknown: Recorded = {
    ...entry.recorded,
    type: "SessionBanished",
    event: { type: "Unknown", name: "SessionBanished" },
  };
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold([...old.recorded(0, 4), unknown]);
  assert.equal(copy.projection.sessionStatus(sessionId(1)).status, "revoked");
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  assert.equal(copy.finishRebuild("lost").events.length, 1);
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
});

test("tightenings covered by a snapshot are retained when the history of that snapshot is lost as well", () => {
  const { old, log } = lost(
    { type: "UserSuspended", userId: userId(1), reason: "test" },
    { type: "UserErased", userId: userId(2) },
  );
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  copy.rebuildFrom(snapshotOf(old), marksOf(old));
  copy.beginRebuild(); // the history of that snapshot is lost too
  copy.fold(log.recorded(0, log.entries.length));
  const { events } = copy.finishRebuild("lost");
  assert.deepEqual(
    events.map(({ type }) => type).filter((type) => type !== "SessionRevoked"),
    ["UserSuspended", "UserErased"],
  );
  assert.ok(copy.isDeniedLocally(userStream(userId(1))) && copy.isDeniedLocally(userStream(userId(2))));
});

test("tightenings in a snapshot of the surviving history are retained if that history is lost later", () => {
  const shared = new History().open(1).add(created(1, 1)).add(revoked(1, 1)).add(created(2, 2));
  const { old, log } = { old: shared.fork(4).add(created(8, 1)), log: shared.fork(4).open(2) };
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  copy.rebuildFrom(snapshotOf(log), marksOf(old));
  assert.deepEqual(copy.finishRebuild("lost").events, []);
  assert.equal(copy.retained.size, 0);
  const third = shared.fork(2).open(3);
  copy.beginRebuild();
  copy.fold(third.recorded(0, third.entries.length));
  assert.equal(copy.finishRebuild("lost").events.length, 1, "the revocation is reasserted");
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
});

test("a restoration lifts a lost suspension only if the restoration itself survives", () => {
  const { old, log } = lost({ type: "UserSuspended", userId: userId(1), reason: "test" });
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  copy.beginRebuild();
  const restored = log.fork(log.entries.length).add({ type: "UserRestored", userId: userId(1) });
  copy.fold(restored.recorded(0, restored.entries.length));
  copy.beginRebuild(); // that history is lost before it has been read to its head
  copy.fold(log.recorded(0, log.entries.length));
  copy.finishRebuild("lost");
  assert.ok(copy.isDeniedLocally(userStream(userId(1))));
});

test("a denial known only from a snapshot stays in force when the history at that snapshot is lost", () => {
  const shared = new History().open(1).add(created(1, 1)).add(created(2, 2)).add(revoked(2, 2));
  const old = shared.fork(4).add(revoked(1, 1));
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(shared.recorded(0, 4));
  // Behind retention, the copy continues from a later snapshot of the same history.
  copy.beginRebuild();
  copy.rebuildFrom(snapshotOf(old), marksOf(old));
  copy.finishRebuild("nothing lost");
  copy.beginRebuild();
  const log = shared.fork(4).open(2);
  copy.fold(log.recorded(0, log.entries.length));
  copy.finishRebuild("lost");
  assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))), "although the log has an older denial");
});
