/** Node core: one node's whole behaviour under a driven clock, from its start to its goodbye. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  clusterStream,
  type Link,
  type Position,
  Projection,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import { bootHasLeft, digestMismatch, emptyHistory, extendHistory } from "../../../src/replication/lease/index.ts";
import type { LoadedSnapshot } from "../../../src/replication/node/index.ts";
import { created, History, history, revoked, sessionId, userId } from "../support.ts";
import { DrivenNode } from "./driven-node.ts";

const never = Number.POSITIVE_INFINITY;

/** A snapshot of a history at a position. */
function snapshotOf(log: History, position: number): LoadedSnapshot {
  const projection = new Projection();
  for (const recorded of log.recorded(0, position)) projection.apply(recorded);
  const { epochs } = extendHistory(emptyHistory, log.recorded(0, position));
  return { projection, link: log.linkAt(position), epochs, keys: [], retained: [] };
}

describe("start", () => {
  test("a node requests a snapshot before it reads, and without one reads the log from its beginning", () => {
    const log = history(30);
    const node = new DrivenNode().start();
    assert.deepEqual(
      node.all("loadSnapshot").map(({ first }) => first),
      [null],
    );
    assert.equal(node.pass(1_000).all("read").length, 0);
    node.noSnapshot();
    assert.equal(node.last("read").after.position, 0);
    node.read(log, 20).pass(1_000).read(log);
    assert.deepEqual(node.core.applied, log.head);
    assert.equal(node.overdue, never, "not before a grant");
    node.renew().grant(log);
    assert.ok(node.overdue <= 0);
    assert.equal(node.reasons, "");
  });

  test("a node starts from a broker's snapshot, reads the later events, and serves once it has a grant", () => {
    const log = history(30);
    const node = new DrivenNode().start();
    const { id } = node.last("loadSnapshot");
    node.feed({ type: "snapshotLoaded", id, snapshot: snapshotOf(log, 20) });
    assert.deepEqual(node.core.applied, log.linkAt(20));
    assert.equal(node.last("read").after.position, 20);
    node.read(log).renew().grant(log);
    assert.ok(node.overdue <= 0);
    assert.equal(node.core.projection.digest(), snapshotOf(log, 30).projection.digest());
  });

  test("persisted denials are in force from the start, and are reasserted if the log has lost them", () => {
    const shared = new History().open(1).add(created(1, 1)).add(created(2, 2)).add(created(3, 3)).add(revoked(2, 2));
    const before = shared.fork(5).add(revoked(1, 1)); // then the log is restored to its fifth event
    const first = new DrivenNode().start().noSnapshot().read(before).grant(before);
    const denials = first.core.denialsToPersist();
    assert.equal(denials.length, 2);
    const log = shared.fork(5).open(2).add(created(50, 3));
    const node = new DrivenNode();
    node.start({ kept: { retained: [], denials } }).noSnapshot();
    const [lost, held] = [sessionStream(sessionId(1)), sessionStream(sessionId(2))];
    assert.ok(node.core.isDeniedLocally(lost) && node.core.isDeniedLocally(held), "before anything is read");
    node.read(log);
    assert.ok(node.core.isDeniedLocally(lost), "the node does not know yet whether the log has it");
    node.renew().grant(log);
    assert.ok(node.overdue <= 0);
    assert.ok(node.core.isDeniedLocally(lost));
    assert.ok(!node.core.isDeniedLocally(held), "the log itself revokes this session");
    assert.ok(!node.core.isDeniedLocally(sessionStream(sessionId(3))));
    node.pass(2_000);
    assert.deepEqual(
      node.last("reassert").events.map(({ stream, link }) => [stream, link]),
      [[lost, before.head]],
    );
    assert.equal(node.core.denialsToPersist().length, 2, "the next boot persists them as well");
  });

  test("a node starts from the projection on its own disk, including its retained denials", () => {
    const log = history(30);
    const stored = { ...snapshotOf(log, 20), retained: [sessionStream(sessionId(1))] };
    const node = new DrivenNode().start({ snapshot: stored });
    assert.equal(node.all("loadSnapshot").length, 0);
    assert.deepEqual(node.core.applied, log.linkAt(20));
    assert.ok(node.core.isDeniedLocally(sessionStream(sessionId(1))));
    assert.equal(node.overdue, never);
    node.read(log).grant(log);
    assert.ok(node.overdue <= 0);
  });

  test("a snapshot whose content does not match its link is refused", () => {
    const log = history(30);
    const node = new DrivenNode().start();
    const { id } = node.last("loadSnapshot");
    node.feed({ type: "snapshotLoaded", id, snapshot: { ...snapshotOf(log, 20), link: log.linkAt(21) } });
    assert.equal(node.core.applied.position, 0);
  });

  test("without a broker a node keeps requesting a snapshot, with growing pauses, and reads nothing meanwhile", () => {
    const node = new DrivenNode().start();
    for (let waited = 0; waited < 60_000; waited += 100) {
      node.pass(100);
      const { id } = node.last("loadSnapshot");
      node.feed({ type: "snapshotFailed", id, reason: "unavailable" });
    }
    const requests = node.all("loadSnapshot").length;
    assert.ok(requests >= 12 && requests < 80, `${requests} requests`);
    assert.equal(node.all("read").length, 0);
  });

  test("deliveries that arrive while no broker can give a snapshot do not stop further requests", () => {
    const log = history(30);
    const node = new DrivenNode().start();
    node.feed({ type: "snapshotFailed", id: node.last("loadSnapshot").id, reason: "unavailable" });
    node.deliver(log, 28, 29).grant(log);
    const before = node.all("loadSnapshot").length;
    node.pass(5_000);
    assert.equal(node.all("loadSnapshot").length, before + 1);
    node.feed({ type: "snapshotLoaded", id: node.last("loadSnapshot").id, snapshot: snapshotOf(log, 20) });
    node.pass(300).read(log);
    assert.deepEqual(node.core.applied, log.head);
  });

  test("a disk with a lost history is detected by the first grant, and its denials stay in force", () => {
    const shared = new History().open(1).add(created(1, 1)).add(created(2, 2));
    const old = shared.fork(3).add(revoked(1, 1));
    const log = shared.fork(3).open(2).add(created(5, 3));
    const node = new DrivenNode().start({ snapshot: snapshotOf(old, 4) });
    node.grant(log);
    assert.equal(node.overdue, never);
    assert.match(node.reasons, /rebuilding/);
    node.noSnapshot().pass(300).read(log);
    assert.deepEqual(node.core.applied, log.head);
    assert.ok(node.core.isDeniedLocally(sessionStream(sessionId(1))));
    node.renew().grant(log);
    assert.ok(node.overdue <= 0);
  });
});

describe("behind retention", () => {
  const log = history(60);
  const serving = (): DrivenNode => {
    const node = new DrivenNode().serve(log.fork(10));
    node.grant(log).pass(300);
    return node.feed({
      type: "readAnswered",
      id: node.last("read").id,
      answer: { type: "truncated", first: 41 as Position },
    });
  };

  test("a snapshot is loaded while the old projection keeps serving; then it replaces it, and reading continues after it", () => {
    const node = serving();
    assert.equal(node.last("loadSnapshot").first, 41);
    assert.match(node.reasons, /begins after/);
    assert.ok(node.overdue <= 0, "its lease is unchanged");
    assert.deepEqual(node.core.applied, log.linkAt(10));
    const { id } = node.last("loadSnapshot");
    node.feed({ type: "snapshotLoaded", id, snapshot: snapshotOf(log, 50) });
    assert.deepEqual(node.core.applied, log.linkAt(50));
    assert.ok(node.last("changed").rebuilt, "every exchange is re-decided");
    assert.ok(node.overdue <= 0, "it is on the same chain");
    node.pass(100).read(log);
    assert.equal(node.core.projection.digest(), snapshotOf(log, 60).projection.digest());
    assert.equal(node.core.metrics().stickyDenials, 0);
    assert.equal(node.pass(5_000).all("reassert").length, 0);
  });

  test("a snapshot older than the projection is not loaded", () => {
    const node = serving();
    const { id } = node.last("loadSnapshot");
    node.feed({ type: "snapshotLoaded", id, snapshot: snapshotOf(log, 9) });
    assert.deepEqual(node.core.applied, log.linkAt(10));
  });

  test("without a snapshot the projection stays, and the node retries with growing pauses", () => {
    const node = serving();
    for (let waited = 0; waited < 60_000; waited += 50) {
      node.pass(50);
      const effects = node.news();
      for (const effect of effects) {
        if (effect.type === "loadSnapshot") node.feed({ type: "snapshotFailed", id: effect.id, reason: "unavailable" });
        if (effect.type === "read")
          node.feed({ type: "readAnswered", id: effect.id, answer: { type: "truncated", first: 41 as Position } });
      }
    }
    const loads = node.all("loadSnapshot").length;
    assert.ok(loads > 10 && loads < 80, `${loads} loads`);
    assert.deepEqual(node.core.applied, log.linkAt(10));
  });

  test("a tightening event that the snapshot's history lacks stays in force and is reasserted", () => {
    const shared = new History().open(1).add(created(1, 1)).add(created(2, 2)).add(revoked(2, 2));
    const old = shared.fork(4).add(revoked(1, 1));
    const other = shared.fork(4).open(2);
    while (other.entries.length < 40) other.add(created(100 + other.entries.length, 3));
    const node = new DrivenNode().serve(old);
    node.enforcing = true;
    const stale = node.lastRenew;
    node.deliver(other, 30, 31).pass(100);
    node.feed({ type: "readAnswered", id: node.last("read").id, answer: { type: "truncated", first: 21 as Position } });
    node.feed({ type: "snapshotLoaded", id: node.last("loadSnapshot").id, snapshot: snapshotOf(other, 35) });
    assert.equal(node.core.projection.sessionStatus(sessionId(1)).status, "active", "the snapshot has it active");
    assert.ok(node.core.isDeniedLocally(sessionStream(sessionId(1))), "the node still denies it");
    assert.ok(!node.core.isDeniedLocally(sessionStream(sessionId(2))), "the snapshot's history holds this one");
    assert.equal(node.overdue, never, "on another chain the lease has no anchor until the next grant");
    assert.ok(stale);
    node.pass(1_500);
    assert.deepEqual(
      node.last("reassert").events.map(({ link }) => link),
      [old.linkAt(5)],
    );
    node.read(other).renew().grant(other);
    assert.ok(node.overdue <= 0);
  });
});

describe("a lost suffix", () => {
  const shared = new History().open(1).add(created(1, 1)).add(created(2, 1)).add(created(3, 2));
  const lose = (...lost: readonly Parameters<History["add"]>[0][]): { node: DrivenNode; log: History } => {
    const old = shared.fork(4);
    for (const event of lost) old.add(event);
    const log = shared.fork(4).open(2);
    const node = new DrivenNode().serve(old);
    node.deliver(log, 4);
    assert.equal(node.overdue, never);
    node.noSnapshot().pass(300).read(log);
    assert.deepEqual(node.core.applied, log.head);
    return { node, log };
  };

  test("lost denials are reasserted with growing pauses until a broker answers", () => {
    const { node } = lose(revoked(1, 1));
    node.news();
    let reasserted = 0;
    for (let waited = 0; waited < 120_000; waited += 50) {
      node.pass(50);
      for (const effect of node.news()) {
        if (effect.type !== "reassert") continue;
        reasserted += 1;
        assert.deepEqual(
          effect.events.map(({ type, stream }) => [type, stream]),
          [["SessionRevoked", "session:session-1"]],
        );
        node.feed({ type: "reassertAnswered", id: effect.id, answer: reasserted < 8 ? "failed" : "answered" });
      }
    }
    assert.equal(reasserted, 8);
    assert.equal(node.core.metrics().reasserting, 0);
    assert.ok(
      node.core.isDeniedLocally(sessionStream(sessionId(1))),
      "an answer does not replace the event in the log",
    );
  });

  test("a retained denial is released only when the surviving log has the same event", () => {
    const { node, log } = lose(revoked(1, 1), { type: "UserSuspended", userId: userId(2), reason: "test" });
    log.add({ type: "SessionRevoked", sessionId: sessionId(1), userId: userId(1), reason: "reasserted" });
    node.deliver(log, 5);
    assert.ok(!node.core.isDeniedLocally(sessionStream(sessionId(1))));
    assert.equal(node.core.projection.sessionStatus(sessionId(1)).status, "revoked");
    assert.ok(
      node.core.isDeniedLocally(userStream(userId(2))) && node.core.isDeniedLocally(sessionStream(sessionId(3))),
    );
    log.add({ type: "UserSuspended", userId: userId(2), reason: "reasserted" });
    node.deliver(log, 6);
    assert.equal(node.core.metrics().stickyDenials, 0);
    assert.equal(node.core.projection.sessionStatus(sessionId(3)).status, "revoked");
  });

  test("a restoration in the surviving log overrides an earlier lost suspension", () => {
    const old = shared.fork(4).add({ type: "UserSuspended", userId: userId(1), reason: "test" });
    const log = shared
      .fork(4)
      .open(2)
      .add({ type: "UserRestored", userId: userId(1) });
    const node = new DrivenNode().serve(old);
    node.deliver(log, 4).noSnapshot().pass(300).read(log);
    assert.ok(!node.core.isDeniedLocally(userStream(userId(1))));
  });

  test("a rebuild starts from a snapshot, or from the log if the snapshot's history is lost too", () => {
    const old = shared.fork(4).add(revoked(1, 1));
    const second = shared.fork(4).open(2).add(created(7, 3));
    const third = shared.fork(4).open(3).add(created(8, 3));
    const node = new DrivenNode().serve(old);
    node.deliver(second, 4);
    node.feed({ type: "snapshotLoaded", id: node.last("loadSnapshot").id, snapshot: snapshotOf(second, 5) });
    assert.deepEqual(node.core.applied, old.head, "the old projection is visible");
    const loads = node.all("loadSnapshot").length;
    node.pass(300).read(third).pass(300);
    assert.equal(node.all("loadSnapshot").length, loads, "no further snapshot is requested");
    assert.equal(node.last("read").after.position, 0);
    node.read(third);
    assert.deepEqual(node.core.applied, third.head);
    assert.ok(node.core.isDeniedLocally(sessionStream(sessionId(1))));
  });
});

describe("quarantine", () => {
  const log = history(20);
  const refuse = (node: DrivenNode): DrivenNode =>
    node.feed({ type: "leaseAnswered", id: node.lastRenew.id, answer: { type: "refused", refusal: digestMismatch } });

  test("a node whose projection differs from the leader's permits nothing, rebuilds, and serves again", () => {
    const node = new DrivenNode().serve(log);
    refuse(node.renew());
    assert.equal(node.overdue, never);
    assert.match(node.reasons, /quarantined/);
    assert.deepEqual(node.core.applied, log.head, "the old projection keeps denying");
    node.noSnapshot().read(log);
    assert.equal(node.core.metrics().quarantines, 1);
    assert.equal(node.core.metrics().stickyDenials, 0, "nothing was lost");
    node.renew().grant(log);
    assert.ok(node.overdue <= 0);
  });

  test("a refusal of a renewal from before the rebuild is ignored; a further rebuild waits for its pause", () => {
    const node = new DrivenNode().serve(log);
    refuse(node.renew()).noSnapshot();
    const before = node.lastRenew;
    node.read(log);
    node.feed({ type: "leaseAnswered", id: before.id, answer: { type: "refused", refusal: digestMismatch } });
    assert.doesNotMatch(node.reasons, /quarantined/);
    refuse(node.renew());
    assert.match(node.reasons, /quarantined/);
    assert.equal(node.core.metrics().quarantines, 1);
    node.pass(20_000);
    assert.equal(node.core.metrics().quarantines, 1);
    node.pass(60_000);
    assert.equal(node.core.metrics().quarantines, 2);
  });

  test("a refusal for another reason causes no quarantine", () => {
    const node = new DrivenNode().serve(log);
    node.renew();
    node.feed({
      type: "leaseAnswered",
      id: node.lastRenew.id,
      answer: { type: "refused", refusal: bootHasLeft },
    });
    assert.ok(node.overdue <= 0);
  });
});

describe("the second path", () => {
  const log = history(20);

  test("without a fan-out a read waits at the head, and the next read follows soon after its answer", () => {
    const node = new DrivenNode().serve(log, "down");
    assert.equal(node.pass(500).last("read").waitMs, 1_000);
    const more = log.fork(20).add(revoked(1));
    node.read(more);
    assert.deepEqual(node.core.applied, more.head);
    const reads = node.all("read").length;
    node.pass(150);
    assert.equal(node.all("read").length, reads + 1);
  });

  test("a fan-out that fails is replaced by reads within a quarter of a second; renewals and confirmations continue", () => {
    const node = new DrivenNode().serve(log).pass(50);
    const reads = node.all("read").length;
    node.feed({ type: "fanoutChanged", fanout: "down" }).pass(251);
    assert.equal(node.all("read").length, reads + 1);
    const more = log.fork(20).add(revoked(1));
    node.read(more);
    assert.equal(node.all("sendLease").at(-1)?.message.type, "confirm");
    node.renew();
    assert.deepEqual(node.lastRenew.renew.enforced, more.head);
  });

  test("a fan-out that seems up but delivers nothing is not relied upon: the next reads wait at the head", () => {
    const node = new DrivenNode().serve(log);
    const more = log.fork(20).add(revoked(1));
    node.renew().grant(more).pass(50);
    node.read(more).pass(200);
    assert.equal(node.last("read").waitMs, 1_000);
    const evenMore = more.fork(21).add(revoked(2));
    node.read(evenMore);
    assert.deepEqual(node.core.applied, evenMore.head);
    node.pass(200);
    const last = evenMore.fork(22).add(revoked(3));
    node.deliver(last, 22).read(last);
    const reads = node.all("read").length;
    node.pass(5_000);
    assert.equal(node.all("read").length, reads, "after a delivery the fan-out is relied upon again");
  });

  test("at most one read is in flight, and one without an answer is cancelled", () => {
    const node = new DrivenNode().start({ fanout: "none" }).noSnapshot();
    assert.equal(node.pass(10_999).all("read").length, 1);
    const { id } = node.last("read");
    node.pass(1_000);
    assert.ok(node.all("cancel").some((effect) => effect.id === id));
    assert.equal(node.all("read").length, 2);
    node.feed({
      type: "readAnswered",
      id,
      answer: { type: "page", page: log.range(0, 20), head: log.head, keys: [] },
    });
    assert.equal(node.core.applied.position, 0, "its late answer is ignored");
  });
});

describe("events that this build does not know", () => {
  test("tightening events are applied, neutral ones are skipped, and any other blocks the lease", () => {
    const log = history(5).add(created(71)).add(created(72));
    const node = new DrivenNode().serve(log);
    const next = (name: string, effect: "neutral" | "either" | "tightens", stream = clusterStream): void => {
      log.addUnknown(name, { effect, stream });
      node.deliver(log, log.entries.length - 1);
    };
    next("SomethingHarmless", "neutral");
    assert.ok(node.overdue <= 0);
    next("SessionBanished", "tightens", sessionStream(sessionId(71)));
    assert.equal(node.core.projection.sessionStatus(sessionId(71)).status, "revoked");
    assert.ok(node.overdue <= 0);
    next("RuleOfTheMoon", "either");
    assert.equal(node.overdue, never);
    next("SessionBanished", "tightens", sessionStream(sessionId(72)));
    assert.equal(node.core.projection.sessionStatus(sessionId(72)).status, "revoked");
    assert.deepEqual(node.core.enforced, log.head);
    node.renew().grant(log);
    assert.equal(node.overdue, never, "no grant lifts the block");
  });
});

describe("a level that the cluster has finalized", () => {
  const finalized = (log: ReturnType<typeof history>): void => {
    log.add({ type: "UpgradeFinalized", level: 2 });
  };

  test("a build that cannot read it permits nothing from then on, and still applies tightening events", () => {
    const log = history(5).add(created(71));
    const node = new DrivenNode({ reads: 1 }).serve(log);
    assert.equal(node.core.tooOld, false);
    finalized(log);
    node.deliver(log, log.entries.length - 1);
    assert.deepEqual([node.core.tooOld, node.overdue], [true, never]);
    log.addUnknown("SessionBanished", { effect: "tightens", stream: sessionStream(sessionId(71)) });
    node.deliver(log, log.entries.length - 1);
    assert.equal(node.core.projection.sessionStatus(sessionId(71)).status, "revoked");
    node.renew().grant(log);
    assert.equal(node.overdue, never);
  });

  test("a build that can read it continues", () => {
    const log = history(5);
    const node = new DrivenNode({ reads: 2 }).serve(log);
    finalized(log);
    node.deliver(log, log.entries.length - 1);
    assert.deepEqual([node.core.tooOld, node.overdue <= 0], [false, true]);
  });
});

describe("time", () => {
  const log = history(20);

  test("a process that was paused sends one renewal at once, and permits nothing until it is granted", () => {
    const node = new DrivenNode().serve(log).pass(300);
    const late = node.lastRenew;
    node.news();
    node.sleep(3_000).feed({ type: "woke" });
    assert.equal(node.overdue, never);
    const renews = node.news().filter((effect) => effect.type === "sendLease");
    assert.equal(renews.length, 1);
    const { id } = late;
    assert.notEqual(node.lastRenew.id, id);
    node.grant(log);
    assert.ok(node.overdue <= 0);
  });

  test("nonces grow and are never repeated, whatever coincides with a pause", () => {
    const node = new DrivenNode().serve(log);
    for (let n = 0; n < 20; n++) {
      node.sleep(n % 2 === 0 ? 1_500 : 900);
      const more = log.fork(20).add(revoked(n));
      if (n % 3 === 0) node.deliver(more, 20);
      node.feed({ type: "woke" });
    }
    const nonces = node
      .all("sendLease")
      .map(({ message }) =>
        "renew" in message ? message.renew.nonce : "confirm" in message ? message.confirm.nonce : 0,
      );
    assert.equal(new Set(nonces).size, nonces.length);
    assert.deepEqual(
      nonces,
      nonces.toSorted((a, b) => a - b),
    );
  });

  test("an early, late or repeated wake-up changes nothing but the time", () => {
    const node = new DrivenNode().serve(log);
    for (let n = 0; n < 1_000; n++) node.sleep(1).feed({ type: "woke" });
    assert.ok(node.core.metrics().renews <= 3);
    assert.equal(node.last("wake").at > node.now, true);
  });

  test("the late answer to a cancelled renewal is ignored", () => {
    const node = new DrivenNode().start().noSnapshot().read(log);
    const { id } = node.lastRenew;
    node.pass(5_100);
    assert.ok(node.all("cancel").some((effect) => effect.id === id));
    node.feed({ type: "leaseAnswered", id, answer: { type: "failed", error: new Error("late") } });
    assert.equal(node.core.metrics().grants, 0);
  });
});

test("a leaving node sends its goodbye up to four times, and reports whether a broker accepted it", () => {
  const node = new DrivenNode().serve(history(5)).feed({ type: "leaving" });
  assert.equal(node.overdue, never);
  node.pass(10_000);
  assert.equal(node.all("sendLease").filter(({ message }) => message.type === "goodbye").length, 4);
  assert.deepEqual(
    node.all("left").map(({ taken }) => taken),
    [false],
  );
  const accepted = new DrivenNode().serve(history(5)).feed({ type: "leaving" });
  accepted.feed({ type: "leaseAnswered", id: accepted.last("sendLease").id, answer: { type: "taken" } });
  assert.deepEqual(
    accepted.all("left").map(({ taken }) => taken),
    [true],
  );
  assert.equal(accepted.all("clearBoot").length, 1);
  assert.equal(accepted.pass(10_000).all("sendLease").at(-1)?.message.type, "goodbye");
});

test("a node names the epoch of a credential's link that a restore lost, and answers `lost` once a later epoch is open", () => {
  const shared = history(10);
  const wait = (node: DrivenNode, id: number, link: Link): DrivenNode =>
    node.feed({ type: "linkAwaited", id, link, timeoutMs: 1_500 }).pass(1_500);
  const outcomes = (node: DrivenNode) => node.all("linkReached").map(({ id, outcome }) => [id, outcome]);
  const fork = shared.fork(10);
  const log = shared.fork(10).open(2).add(created(90, 9));
  const sameEpoch = fork.open(2).add(created(50, 5)).add(created(51, 6)).head;
  const laterEpoch = fork.open(3).head;
  for (const [link, lostEpoch] of [
    [sameEpoch, 3],
    [laterEpoch, 3],
  ] as const) {
    const node = new DrivenNode().serve(log);
    wait(node, 7, link);
    assert.equal(node.lastRenew.renew.lostEpoch, undefined, "without a grant since then, the link may still be ahead");
    node.renew().grant(log).renew();
    assert.equal(node.lastRenew.renew.lostEpoch, lostEpoch);
    const opened = log.fork(log.head.position).open(lostEpoch + 1);
    node.deliver(opened, log.head.position);
    node.feed({ type: "linkAwaited", id: 8, link, timeoutMs: 1_500 });
    assert.deepEqual(outcomes(node), [
      [7, "behind"],
      [8, "lost"],
    ]);
    assert.equal(node.grant(opened).renew().lastRenew.renew.lostEpoch, undefined, "one report is enough");
  }
});

test("a credential's link that arrives late is not reported as lost", () => {
  const log = history(10);
  const node = new DrivenNode().serve(log);
  const longer = log.fork(10).add(created(50, 5));
  node.feed({ type: "linkAwaited", id: 7, link: longer.head, timeoutMs: 1_500 }).pass(1_500);
  node.deliver(longer, 10).renew().grant(longer).renew();
  assert.equal(node.lastRenew.renew.lostEpoch, undefined);
});

test("a stopped node requests nothing more", () => {
  const node = new DrivenNode().serve(history(5));
  node.feed({ type: "linkAwaited", id: 7, link: { ...history(9).head }, timeoutMs: 60_000 }).feed({ type: "stopped" });
  assert.deepEqual(
    node.all("linkReached").map(({ id, outcome }) => [id, outcome]),
    [[7, "behind"]],
  );
  node.news();
  node.feed({ type: "woke" }).deliver(history(6), 5);
  assert.deepEqual(node.news(), []);
  assert.equal(node.overdue, never);
});
