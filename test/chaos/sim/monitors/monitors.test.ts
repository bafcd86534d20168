/** The monitors: for each invariant a history that keeps it and a history that breaks it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, type Invariant } from "../../../../chaos/sim/monitors/index.ts";
import {
  type BootId,
  type Epoch,
  genesis,
  type Hash,
  type Link,
  type NodeId,
  type SessionId,
  type Stream,
  type UserId,
} from "../../../../src/events/index.ts";
import { History } from "./history.ts";

const suspended = { type: "UserSuspended", userId: "ada" as UserId, reason: "left" } as const;
const cutAll = { type: "UserSessionsRevoked", userId: "ada" as UserId, upTo: null, reason: "operator" } as const;

function isKept(history: History): void {
  assert.deepEqual(history.monitorResult.violations.map(describe), []);
}
function isBroken(history: History, invariant: Invariant, what: RegExp): void {
  const texts = history.monitorResult.violations.filter((each) => each.invariant === invariant).map(describe);
  assert.ok(texts.length > 0, `nothing found of ${invariant}; found: ${history.found.join(", ")}`);
  assert.match(texts.join("\n"), what);
}

test("a history without errors breaks nothing", () => {
  const history = History.begun();
  history.permit().later(100).carry();
  history.later(500).create("s2").later(10).apply().later(400).lease();
  history.permit({ session: "s2" }).later(50);
  const from = history.applied;
  history.revoke("s1").later(5);
  history.applied = history.head;
  history.tell("applied", { node: "node-1", boot: "boot-1", from, to: history.head, digest: null });
  history.tell("exchange-ended", { node: "node-1", boot: "boot-1", request: 1, how: "cut" }).enforce();
  history.later(5).receipt().later(10);
  history.request({ session: "s1" }).later(1).decide({ session: "s1", verdict: "deny", reason: "session-revoked" });
  history.later(700).lease().permit({ session: "s2" }).later(10).over();
  isKept(history);
});

test("1: a write that does not continue the server's head is found", () => {
  const history = History.begun();
  const before = history.head;
  history.create("s2");
  isKept(history);
  history.head = before;
  history.create("s3");
  isBroken(history, 1, /its log ends at 1\.3\./);
});

test("1: a page with a gap is found", () => {
  const history = History.begun();
  const after = history.head;
  history.create("s2").create("s3");
  const page = { process: "broker-1", to: "node-1", after, last: history.head, head: history.head, outcome: "page" };
  isKept(history.tell("page-served", { ...page, count: 2 }));
  isBroken(history.tell("page-served", { ...page, count: 1 }), 1, /hands out 1 events/);
});

test("2: a primary that is promoted without acknowledged events is found", () => {
  const history = History.begun();
  const before = history.head;
  history.create("s2").tell("killed", { process: "pg-1", boot: null });
  const kept = history.head;
  isKept(history.tell("promoted", { process: "pg-2", how: "procedure", head: kept }));
  isBroken(history.tell("promoted", { process: "pg-3", how: "procedure", head: before }), 2, /part behind 2/);
});

test("3: an answer before its commit is acknowledged, and an acknowledged event that the log lost, are found", () => {
  const early = History.begun();
  const previous = early.head;
  const { recorded, bytes } = early.entry(suspended, { cause: "c" });
  early.write([{ recorded, bytes }], previous, { commands: [{ commandId: "c", first: recorded.position, count: 1 }] });
  isBroken(early.answer("c"), 3, /not acknowledged/);

  const lost = History.begun();
  const before = lost.head;
  lost.create("s2").tell("promoted", { process: "pg-2", how: "procedure", head: before });
  lost.head = before;
  lost.open("broker-1", { process: "pg-2" }).create("s3", {}).over();
  isBroken(lost, 2, /part/);
});

test("3: losses of an asynchronous failover are counted and are no violation", () => {
  const history = History.begun();
  const before = history.head;
  history.create("s2").tell("killed", { process: "pg-1", boot: null });
  history.tell("promoted", { process: "pg-2", how: "unsafe", head: before });
  history.head = before;
  history.open("broker-1", { process: "pg-2" }).over();
  assert.equal(history.monitorResult.lostAcknowledged, 1);
  isKept(history);
});

test("4: a hash that does not match its bytes is found", () => {
  const history = History.begun();
  const previous = history.head;
  const { recorded, bytes } = history.entry(suspended);
  const forged = { ...recorded, hash: "f".repeat(64) as Hash };
  isBroken(history.write([{ recorded: forged, bytes }], previous), 4, /does not match its bytes/);
});

test("5: an epoch that decreases, or begins without its first event, is found", () => {
  const back = History.begun().open("broker-1");
  back.epoch = 1 as Epoch;
  isBroken(back.create("s2"), 5, /epoch 1 stands behind one of epoch 2/);
  const bare = History.begun();
  bare.epoch = 2 as Epoch;
  isBroken(bare.create("s2"), 5, /begins without its first event/);
});

test("6: a second writer in one epoch is found", () => {
  const history = History.begun();
  const previous = history.head;
  const entry = history.entry(suspended);
  isBroken(
    history.write([entry], previous, { writer: "broker-2" }),
    6,
    /broker-2 wrote in epoch 1, which broker-1 opened/,
  );
});

test("7: a write or beat of an older epoch is found", () => {
  const history = History.begun().open("broker-2");
  isKept(history);
  isBroken(history.write([], history.head, { op: "beat", epoch: 1, incarnation: "i1" }), 7, /where epoch 2 is open/);
});

test("8: a gap in a stream's versions is found", () => {
  const history = History.begun();
  const previous = history.head;
  isKept(history);
  isBroken(history.write([history.entry(suspended, { version: 4 })], previous), 8, /user:ada has version 4/);
});

test("9: a command that is executed twice, or answered in two ways, is found", () => {
  const twice = History.begun();
  twice.append(suspended, "c").append(cutAll, "c");
  isBroken(twice, 9, /is carried out at 4, and was at 3/);
  isBroken(twice, 9, /answered in two ways/);
});

test("9: an answer may name any later position once the log has dropped the command's events, and not before", () => {
  const answered = (first: number): History => {
    const history = History.begun().append(suspended, "c").create("s2").create("s3").apply();
    const own = { ...history.head };
    return history.truncate(first).answer("c").create("s4").answer("c", { link: own });
  };
  isKept(answered(4));
  isBroken(answered(3), 9, /answered in two ways/);
  isBroken(answered(3), 9, /which it did not make/);
});

test("10: a command that precedes an event acknowledged before it was sent is found", () => {
  const history = History.begun();
  const before = history.head;
  history.create("s2");
  const late = { process: "client-1", commandId: "late", command: {}, attempt: 1, to: "broker-1" };
  history.tell("command-invoked", late);
  isBroken(history.answer("late", { link: before, changed: false }), 10, /stands at 2, and was asked after 3/);
});

test("11: publishing, serving, granting, applying and appending above the acknowledged end are found", () => {
  const history = History.begun();
  isKept(history.tell("append-sent", { process: "broker-1", previous: history.head }));
  const previous = history.head;
  history.write([history.entry(suspended)], previous);
  const published = { process: "broker-1", how: "core", epoch: 1, incarnation: "i1", previous, last: history.head };
  isBroken(history.tell("append-sent", { process: "broker-1", previous: history.head }), 11, /stand behind/);
  isBroken(history.tell("published", published), 11, /no commit behind it was clean/);
  isBroken(history.apply(), 11, /node-1 applies/);
});

test("12 and 13: two digests at one link are found", () => {
  const history = History.begun();
  const broker = { process: "broker-1", node: "broker-1", boot: "boot-b", link: history.head };
  isKept(history.tell("snapshot-built", { ...broker, digest: "d2" }));
  isBroken(history.renew({ digest: "other" }), 12, /another digest/);
  isBroken(history.tell("snapshot-built", { ...broker, digest: "third" }), 13, /another digest/);
});

test("14: a projection that moves back, and a rebuild without a cause, are found", () => {
  const history = History.begun();
  const before = history.head;
  const own = { node: "node-1", boot: "boot-1" };
  history.create("s2").apply();
  isBroken(history.tell("rebuilding", { ...own, lost: history.head }), 14, /though the log holds/);
  const back = History.begun().create("s2").apply();
  isBroken(back.tell("snapshot-loaded", { ...own, from: "disk", link: before, digest: "d2" }), 14, /went from/);
});

test("15: a gap and an event applied twice are found", () => {
  const gap = History.begun();
  gap.create("s2");
  gap.applied = gap.head;
  isBroken(gap.create("s3").apply(), 15, /is at 1\.2.* and applied from 1\.3/);
  const twice = History.begun();
  isBroken(twice.apply(), 15, /applied from/);
});

test("16: a permit after an unreadable event, and one that an unknown final event denies, are found", () => {
  const blind = History.begun();
  let previous = blind.head;
  const entry = { unknown: "RightsTurned", stream: "cluster:log" as Stream, effect: "either" as const };
  blind
    .write([blind.entry(entry)], previous)
    .clean()
    .apply()
    .lease();
  isBroken(blind.permit(), 16, /permits after RightsTurned at 3/);
  for (const base of [genesis, blind.head]) {
    const own = { node: "node-1", boot: "boot-1" };
    blind.tell("rebuilding", { ...own, lost: blind.head });
    const found = (): number => blind.monitorResult.counts.get(16) ?? 0;
    const before = found();
    blind
      .tell("rebuilt", { ...own, to: blind.head, digest: "d3", base })
      .lease()
      .permit();
    assert.equal(found() > before, base === genesis, "a rebuild from a broker's snapshot has folded it");
  }

  const final = History.begun();
  previous = final.head;
  const end = { unknown: "SessionBanned", stream: "session:s1" as Stream, effect: "tightens" as const };
  final
    .write([final.entry(end)], previous)
    .clean()
    .apply()
    .lease();
  isBroken(final.permit(), 16, /an unknown final event said no/);
});

test("17: a permit that began after a complete receipt and has not seen it is found", () => {
  const history = History.begun();
  history.revoke("s1").later(5).permit(); // has not seen it, but no receipt promised anything
  isKept(history);
  history.receipt().later(1).permit();
  isBroken(history, 17, /complete receipt for 1\.3.*denies it: it was revoked/);
});

test("17: a request that had begun before the receipt may still be permitted", () => {
  const history = History.begun();
  history.revoke("s1").later(5).request().receipt().later(1).decide();
  assert.ok(!history.found.includes(17));
});

test("18: a permit without an event acknowledged before its window is found", () => {
  const history = History.begun();
  history.revoke("s1");
  history.later(4_900).permit({ route: "admin" });
  assert.ok(!history.found.includes(18));
  history.later(300).permit({ route: "admin" });
  isBroken(history, 18, /acknowledged 5\.\d+ s before/);
});

test("19: permits after the lease, after the grace and after a pause are found", () => {
  const history = History.begun();
  isKept(history.later(4_000).permit({ route: "admin" }));
  isKept(history.later(3_000).permit());
  isBroken(history.permit({ route: "admin" }), 19, /where 5\.000 s are allowed/);
  const grace = History.begun().later(15_500).permit();
  isBroken(grace, 19, /where 15\.000 s are allowed/);

  const paused = History.begun().tell("paused", { how: "stopped" }).later(2_000).tell("resumed", { pausedMs: 2_000 });
  isBroken(paused.permit(), 19, /since it was resumed/);
  const short = History.begun().tell("paused", { how: "stopped" }).later(900).tell("resumed", { pausedMs: 900 });
  isKept(short.permit());
});

test("19: a grant that was requested before a pause counts for nothing after it", () => {
  const history = History.begun().later(500).renew().later(5).beat().grant();
  history.tell("paused", { how: "stopped" }).later(2_000).tell("resumed", { pausedMs: 2_000 }).take();
  isBroken(history.permit(), 19, /since it was resumed/);
  isKept(
    History.begun()
      .tell("paused", { how: "stopped" })
      .later(2_000)
      .tell("resumed", { pausedMs: 2_000 })
      .lease()
      .permit(),
  );
});

test("19: a grant whose head is not reached does not count yet", () => {
  const history = History.begun().later(4_900).create("s2").later(1).lease().later(200);
  isBroken(history.permit({ route: "admin" }), 19, /5\.\d+ s after the renew/);
});

test("20: a permit of a boot without a grant is found", () => {
  const history = History.begun().tell("killed", { boot: "boot-1" });
  history.startNode({ boot: "boot-2" }).apply(history.head, { boot: "boot-2" });
  isBroken(history.permit({ boot: "boot-2" }), 20, /no grant of this boot/);
});

test("21: a permit for a session that was revoked, or never created, is found", () => {
  const history = History.begun();
  isBroken(history.revoke("s1").apply().lease().permit(), 21, /it was revoked/);
  isBroken(History.begun().permit({ session: "s9" }), 21, /never created/);
});

test("21: a session id that is used again is found", () => {
  const history = History.begun();
  isBroken(history.append({ ...created, expiresAt: 0 } as never, "again"), 21, /created a second time/);
});

test("22: a permit after a cut of the user's sessions, or a suspension, is found; a new session is not cut", () => {
  isBroken(History.begun().append(cutAll, "c").apply().lease().permit(), 22, /were cut/);
  isBroken(
    History.begun().append(suspended, "c").create("s2").apply().lease().permit({ session: "s2" }),
    22,
    /suspended/,
  );
  isKept(History.begun().append(cutAll, "c").create("s2").apply().lease().permit({ session: "s2" }));
});

test("23: a permit on a group's route for a non-member is found", () => {
  isBroken(History.begun().permit({ route: "team" }), 23, /ada is not in team/);
  isKept(History.begun().addMember("ada").apply().lease().permit({ route: "team" }));
  isBroken(
    History.begun().addMember("ada").removeMember("ada").apply().lease().permit({ route: "team" }),
    23,
    /not in team/,
  );
});

test("24: a decision at another position than the node's, or by another configuration, is found", () => {
  const history = History.begun().create("s2");
  isBroken(history.request().decide({ link: history.head }), 24, /and stands at 1\.2/);
  isBroken(History.begun().permit({ configHash: "c0" }), 24, /by configuration c0/);
});

test("25: a byte after a complete receipt, or after the node confirmed the denial, is found", () => {
  const late = History.begun().permit().revoke("s1").later(5).receipt().later(1).carry();
  isBroken(late, 25, /after the complete receipt/);
  const own = History.begun().permit().revoke("s1").later(5).apply().later(1).carry();
  isBroken(own, 25, /though it enforces/);
  const open = History.begun().permit().later(5).create("s2").apply().receipt().later(1).carry();
  isKept(open);
});

test("25: confirmations of a history that a node left deny no exchange checked since, except permanent denials", () => {
  const own = { node: "node-1", boot: "boot-1" };
  /** The node stands in another history, and has not said yet what it enforces of that. */
  function gone(lose: (history: History) => History): History {
    const history = History.begun();
    const kept = history.head;
    lose(history.create("s2"));
    history.apply().tell("killed", { process: "pg-1", boot: null });
    history.tell("promoted", { process: "pg-2", how: "unsafe", head: kept });
    history.tell("rebuilding", { ...own, lost: history.head });
    history.head = kept;
    history.open("broker-1", { process: "pg-2" }).create("s3", { process: "pg-2" });
    return history.tell("rebuilt", { ...own, to: history.head, digest: "d", base: genesis }).standing();
  }
  const [anew, restored] = [{ session: "s3" }, { type: "UserRestored" as const, userId: "ada" as UserId }];
  const suspend = (history: History): History => history.append(suspended, "suspend");
  assert.ok(
    !gone((history) => history)
      .permit(anew)
      .carry()
      .found.includes(25),
  );
  isBroken(gone((history) => history.revoke("s1")).permit(), 25, /though it enforces 1\.4.*: it was revoked/);
  isBroken(gone(suspend).permit(anew), 25, /though it enforces 1\.4.*: ada is suspended/);
  const lifted = gone(suspend).append(restored, "restore", { process: "pg-2" });
  lifted.tell("applied", { ...own, from: lifted.applied, to: lifted.head, digest: "d" }).standing();
  assert.ok(!lifted.permit(anew).carry().found.includes(25));
  // An exchange that was open before is checked against the new history once the node confirms it.
  const open = gone((history) => history.apply().permit({ session: "s2" })).carry();
  assert.ok(!open.found.includes(25));
  isBroken(open.enforce().carry(), 25, /though it enforces 2\.4.*: it was never created there/);
});

test("26: a receipt that does not become complete after the last fault is found", () => {
  const request = {
    process: "client-1",
    receipt: 9,
    target: {},
    wait: "all",
    region: null,
    timeoutMs: 60_000,
    to: "broker-1",
  };
  const history = History.begun().tell("faults-over", { process: "world" }).later(20_000).lease();
  history.tell("receipt-asked", request).later(30_000);
  isBroken(history.lease().over(), 26, /is not complete at the end/);
});

test("27: a permit that a lost suffix denied, and a denial that never returns to the log, are found", () => {
  const own = { node: "node-1", boot: "boot-1" };
  function forked(denied = "s1"): History {
    const history = History.begun();
    const before = history.head;
    if (denied !== "s1") history.create(denied);
    history.revoke(denied).apply().tell("killed", { process: "pg-1", boot: null });
    history.tell("promoted", { process: "pg-2", how: "unsafe", head: before });
    const lost = history.applied;
    history.head = before;
    history.open("broker-1", { process: "pg-2" }).tell("rebuilding", { ...own, lost });
    history
      .tell("rebuilt", { ...own, to: history.head, digest: "d3", base: genesis })
      .tell("faults-over", { process: "world" });
    history.applied = history.head;
    return history.enforce().renew().beat({ process: "pg-2" }).grant().take();
  }
  isBroken(forked().permit(), 27, /SessionRevoked at 1\.3.* denied before that history was lost/);
  isKept(forked().later(5_000).over());
  isBroken(forked().later(25_000).over(), 27, /25\.\d+ s later the log does not deny s1/);
  // The log no longer knows this session and would accept its creation again.
  isBroken(forked("s2").later(25_000).over(), 27, /25\.\d+ s later the log does not deny s2/);
  const again = forked("s2");
  const [sessionId, userId] = ["s2" as SessionId, "ada" as UserId];
  again.append({ type: "SessionRevoked", sessionId, userId, reason: "reasserted" }, "again", {
    process: "pg-2",
    version: 1,
  });
  assert.ok(!again.later(25_000).over().found.includes(27));

  /** The next boot, on the same disk or on an older copy of it. */
  const restarted = (from: Link): History => {
    const history = forked();
    const saved = { process: "node-1", digest: "d" };
    history
      .tell("snapshot-built", { ...saved, link: from, digest: null })
      .tell("snapshot-built", { ...saved, link: history.head, digest: null });
    history.tell("killed", { boot: "boot-1" }).startNode({ boot: "boot-2" });
    return history;
  };
  const loaded = { node: "node-1", boot: "boot-2", from: "disk", digest: null };
  const same = restarted(History.begun().head);
  same.tell("snapshot-loaded", { ...loaded, link: same.head }).permit({ boot: "boot-2", link: same.head });
  isBroken(same, 27, /SessionRevoked at 1\.3.* denied before that history was lost/);
  const older = restarted(History.begun().head);
  older.tell("snapshot-loaded", { ...loaded, link: History.begun().head }).permit({ boot: "boot-2" });
  assert.ok(!older.found.includes(27));
});

test("28: a request that is decided behind its token is found; a 503 is not", () => {
  const history = History.begun().create("s2");
  const token = history.head;
  isKept(history.request({ token }).decide({ verdict: "unavailable" }));
  isBroken(history.request({ token }).decide({ verdict: "deny" }), 28, /behind its token/);
});

test("29: a permit with a token of a lost suffix is found", () => {
  const history = History.begun();
  const foreign: Link = { ...history.head, hash: "e".repeat(64) as Hash };
  isKept(history.request({ token: foreign }).decide({ verdict: "deny" }));
  isBroken(history.permit({ token: foreign }), 29, /of another history/);
});

test("30: a permit after the session's expiry is found", () => {
  const history = History.begun();
  history.later(3_500_000).lease();
  isKept(history.permit());
  history.later(110_000).lease();
  isBroken(history.permit(), 30, /after its end/);
});

test("37: at the end, a lagging node, a node without a lease and a command without an outcome are found", () => {
  const over = { process: "world" };
  const good = History.begun().tell("faults-over", over).follow().later(16_000).lease().over();
  isKept(good);
  const late = History.begun().tell("faults-over", over).follow().create("s2").apply().later(16_000).lease().over();
  isBroken(late, 37, /broker-1 stands at 1\.2/);
  const stale = History.begun().tell("faults-over", over).later(16_000).over();
  isBroken(stale, 37, /no fresh lease/);
  const awaiting = (ms: number): History => {
    const history = History.begun().tell("faults-over", over).follow().later(16_000).create("s2");
    return history.follow().renew().later(5).beat().later(5).grant().later(5).take().later(ms).over();
  };
  isKept(awaiting(500)); // its newest grant names a head that is on its way
  isBroken(awaiting(3_000), 37, /no fresh lease/);
  const behind = History.begun().tell("faults-over", over).create("s2").later(16_000).lease().over();
  isBroken(behind, 37, /node-1 stands at 1\.2/);
  const invocation = { process: "client-1", commandId: "c", command: {}, attempt: 1, to: "broker-1" };
  const open = History.begun()
    .tell("faults-over", over)
    .tell("command-invoked", invocation)
    .later(16_000)
    .lease()
    .over();
  isBroken(open, 37, /command c has no outcome/);
  const two = History.begun().tell("faults-over", over).later(16_000).lease();
  isBroken(two.tell("leading", { process: "broker-2", epoch: 1, leading: true }).over(), 37, /broker-1 .*broker-2/);
});

test("38: a resource above its bound is found", () => {
  const history = History.begun().tell("sized", { what: "commands", size: 10, sizeMax: 10 });
  isKept(history);
  isBroken(history.tell("sized", { what: "commands", size: 11, sizeMax: 10 }), 38, /11 commands, of 10/);
});

test("a grant without a row, on a stale head or from no broker, and the removal of a running boot are found", () => {
  const rowless = History.begun().later(10).renew().grant({ windowMs: 16_000 });
  isBroken(rowless, "lessee-row", /but no row records that/);
  const history = History.begun().create("s2");
  const head = history.applied;
  isBroken(history.renew().later(5).grant({ head }), "grant-complete", /was acknowledged before the renew left/);
  isBroken(History.begun().renew().take(), "grant-origin", /no broker answered so/);
  const twoLeaders = History.begun();
  const old = twoLeaders.head;
  twoLeaders.create("s2").apply().renew().beat().grant().grant({ process: "broker-2", head: old });
  assert.ok(
    !twoLeaders.take().found.includes("grant-origin"),
    "the node accepts the answer of the first of two leaders",
  );
  const left = { process: "broker-1", node: "node-1", boot: "boot-1", how: "goodbye" };
  isBroken(History.begun().tell("boot-left", left), "left-alive", /which is running/);
  const goodbye = History.begun().tell("goodbye-sent", { node: "node-1", boot: "boot-1", nonce: 9 });
  isKept(goodbye.tell("boot-left", left));
});

test("a lease by age that is younger than the lease it rests on is found", () => {
  const region = { process: "region-1", node: "region-1", boot: "boot-r" };
  const identity = { role: "broker", lessee: "broker", region: "west", build: "1", unknownTypes: [] };
  const row = { node: region.node, boot: region.boot, region: "west", role: "broker", windowMs: 15_000 };
  function acceptedAs(anchorAgeMs: number): History {
    const history = History.begun().tell("started", { ...region, ...identity });
    history.tell("applied", { ...region, from: genesis, to: history.head, digest: null });
    history.tell("enforced", { ...region, link: history.head });
    history.tell("age-mark", { ...region, mark: "on the disk", how: "kept" });
    history
      .renew(region)
      .later(5)
      .beat({ lessees: [row] })
      .later(5)
      .grant({ node: region.node, boot: region.boot });
    history.later(5).take(region).later(985);
    history.renew().later(1).grant({ process: region.process, agedMs: 1_000 }).later(1);
    return history.take({ by: region.process, agedMs: 1_000, anchorAgeMs });
  }
  isKept(acceptedAs(1_003));
  isBroken(acceptedAs(990), "lease-by-age", /counts its lease from 0\.990 s ago, .* left 1\.002 s ago/);
});

test("a false receipt is found", () => {
  const unready = History.begun().revoke("s1").later(5).receipt();
  isBroken(unready, "receipt-true", /has applied 1\.3.*and it enforces 1\.2/);
  isBroken(
    unready,
    "receipt-true",
    /calls the receipt for 1\.3.* complete, and node-1.*may decide for another 15\.\d+ s/,
  );
  const fenced = { nodes: [] };
  isBroken(History.begun().revoke("s1").later(14_000).receipt(fenced), "receipt-true", /may decide for another/);
  isKept(History.begun().revoke("s1").later(15_400).receipt(fenced));
  isKept(History.begun().revoke("s1").apply().receipt());
  const lost = { status: "lost", complete: false, link: null, nodes: [] } as const;
  isBroken(
    History.begun().revoke("s1").apply().receipt(lost),
    "receipt-true",
    /calls 1\.3.* lost, and the log holds it/,
  );
});

test("a receipt may report what a node applied before it followed an old primary, for a short while only", () => {
  const answered = (afterMs: number, slept: "never" | "until the answer" | "until just before" = "never"): History => {
    const history = History.begun();
    const before = history.head;
    history.revoke("s1").apply();
    const [lost, enforced] = [history.head, history.applied];
    if (slept !== "never") history.tell("paused", { process: "broker-1", how: "suspended" }).later(1);
    history.tell("promoted", { process: "pg-2", how: "unsafe", head: before });
    history.head = before;
    const own = { node: "node-1", boot: "boot-1" };
    history.open("broker-2", { process: "pg-2" }).tell("rebuilding", { ...own, lost });
    history.tell("rebuilt", { ...own, to: history.head, digest: "d3", base: genesis });
    history.applied = history.head;
    history.enforce().tell("killed", { process: "pg-1", boot: null }).later(afterMs);
    const said = {
      node: "node-1" as NodeId,
      boot: "boot-1" as BootId,
      region: "eu",
      role: "proxy",
      fencedInMs: null,
      reason: "",
    } as const;
    const nodes = [{ ...said, status: "applied", enforced }] as const;
    const woke = { process: "broker-1", pausedMs: afterMs, at: history.at + (slept === "until the answer" ? 5 : 4) };
    if (slept !== "never") history.tell("resumed", woke);
    return history.receipt({ status: "incomplete", complete: false, link: lost, nodes });
  };
  isKept(answered(100));
  isBroken(answered(6_000), "receipt-true", /says that node-1 has applied 1\.3.*and it enforces 2\.3/);
  // A broker concluded before its sleep what it says as it wakes.
  isKept(answered(6_000, "until the answer"));
  isBroken(answered(6_000, "until just before"), "receipt-true", /says that node-1 has applied 1\.3/);
});

test("a receipt that ignores a waiting grant under which the node may still decide is found", () => {
  const history = History.begun().create("s2").later(1);
  const before = history.head;
  history.later(10_000).renew().later(5).beat().later(5).grant().later(5).take(); // its head is not reached
  history.revoke("s1").later(6_000).receipt({ nodes: [] });
  assert.notDeepEqual(before, history.applied);
  isBroken(history, "receipt-true", /may decide for another/);
});

test("a node that confirms what it does not enforce, or while a denied exchange is open, is found", () => {
  const early = History.begun().revoke("s1");
  isBroken(early.renew({ enforced: early.head }), "enforced-true", /says that it enforces 1\.3.*and enforces 1\.2/);
  const confirm = { node: "node-1", boot: "boot-1", nonce: 9 };
  const word = History.begun().revoke("s1");
  isBroken(word.tell("confirm-sent", { ...confirm, enforced: word.head }), "enforced-true", /enforces 1\.2/);
  isBroken(History.begun().permit().revoke("s1").apply(), "enforced-true", /request 1 is open, though it was revoked/);
  const inTime = History.begun().revoke("s1").apply();
  isKept(inTime.create("s2").apply().permit({ session: "s2" }).later(5).create("s3").apply());
});

test("19: a wall clock too far from the leader's ends freshness, but not the grace", () => {
  const off = History.begun().later(500).tell("clock-set", { rate: 1, wallOffsetMs: 3_000 });
  isKept(off.permit({ route: "admin" }).tell("exchange-ended", { node: "node-1", boot: "boot-1", request: 1 }));
  off.lease().later(50).permit({ route: "wiki" });
  isKept(off);
  isBroken(off.permit({ route: "admin" }), 19, /where 5\.000 s are allowed/);
  const right = History.begun().later(500).tell("clock-set", { rate: 1, wallOffsetMs: 1_900 }).lease().later(50);
  isKept(right.permit({ route: "admin" }));
});

test("a finalized level binds builds that cannot read it, and must wait for their leases", () => {
  const finalized = (build: string): History => {
    const history = new History();
    return history.begin({ build }).append({ type: "UpgradeFinalized", level: 2 }, "finalize");
  };
  isKept(finalized("1").permit());
  isBroken(finalized("1").apply().permit(), "level-kept", /raised the level to 2: it reads 1/);
  isKept(finalized("2").apply().permit());
  isBroken(finalized("1").open("broker-2"), "level-kept", /broker-2 leads epoch 2/);

  const finalizing = { process: "broker-1", level: 2 };
  isBroken(History.begun().tell("finalizing", finalizing), "level-ready", /node-1, which cannot read it, has a lease/);
  isKept(History.begun().later(15_100).tell("finalizing", finalizing));
  isKept(new History().begin({ build: "2" }).tell("finalizing", finalizing));
});

test("a protocol that denies everyone fails the availability check", () => {
  const denied = History.begun();
  for (let i = 0; i < 40; i += 1) denied.later(20).request().decide({ verdict: "unavailable" });
  isBroken(denied.over(), "availability", /0 of 40 rightful requests/);
  const broken = History.begun().tell("fault-began", { process: "world", id: 1, kind: "cut", about: "" });
  for (let i = 0; i < 40; i += 1) broken.later(20).request().decide({ verdict: "unavailable" });
  isKept(broken.over());
});

const created = {
  type: "SessionCreated",
  sessionId: "s1",
  userId: "ada",
  idpId: "idp",
  issuedAt: 0,
  profile: new Uint8Array(),
};
