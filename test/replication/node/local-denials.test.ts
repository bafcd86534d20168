/**
 * What a node does with the revocations that its region accepts by itself, rule by rule (ADR 0039: a cut-off region
 * revokes locally): in force at once, confirmed late, leases that wait, and dropped only past the merge.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import {
  type BootId,
  type CommandId,
  commandIdOfEnvelope,
  type Epoch,
  type Link,
  parseCommandId,
  type Recorded,
  type SessionId,
  sessionStream,
  type UnixMs,
  userStream,
} from "../../../src/events/index.ts";
import { LocalDenials, localDenialBytesMax } from "../../../src/replication/node/denials/local-denials.ts";
import type { DenialsAnswer } from "../../../src/replication/node/index.ts";
import {
  createBrokerOpener,
  encodeRevocation,
  type Grant,
  type LocalRevocation,
  openRevocation,
  type SealedRevocation,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { entryAt } from "../../support/log-writer.ts";
import { cluster, created, History, newSigner, revoked, secret, sessionId, userId } from "../support.ts";
import { DrivenNode } from "./driven-node.ts";

const store = "a".repeat(32);
const boot = "boot-b1" as BootId;

/** User 1 has sessions 1 and 6, user 2 has session 2; the head is position 4. */
const aLog = (): History => new History().open(1).add(created(1)).add(created(6)).add(created(2));

function sealed(parts: Partial<LocalRevocation> = {}, seq = 1): SealedRevocation {
  const revocation: LocalRevocation = {
    ...{ commandId: parseCommandId(randomUUID()), region: "west", broker: "b1", boot, seq },
    ...{ basis: aLog().head, actor: "operator:alice#1", acceptedAt: Date.now() as UnixMs },
    ...{ command: "revokeUserSessions", userId: userId(1), sessionIds: [sessionId(1), sessionId(6)], reason: "" },
    ...parts,
  };
  const signer = newSigner({ name: "b1", boot, epoch: 0 as Epoch, incarnation: "" });
  return { revocation, envelope: sealEnvelope(signer, "local-revocation", encodeRevocation(revocation)) };
}
const suspension = (): SealedRevocation =>
  sealed({ command: "suspendUser", userId: userId(1), sessionIds: [], reason: "stolen laptop" });

/** Adds an event that a command caused. */
function addCaused(log: History, event: Recorded["event"], cause: CommandId): Link {
  assert.ok(event.type !== "Unknown");
  log.entries.push(entryAt(log.head, log.head.epoch, event, { version: 2, cause }));
  return log.head;
}
const suspended = (user = 1) => ({ type: "UserSuspended", userId: userId(user), reason: "test" }) as const;
const restored = (user = 1) => ({ type: "UserRestored", userId: userId(user) }) as const;

/** A node that follows the log and keeps local revocations. */
function aNode(log: History, kept: readonly SealedRevocation[] = []): DrivenNode {
  const node = new DrivenNode({ brokers: ["https://b1:5443"] });
  node.feed({
    ...{ type: "started", snapshot: null, denials: { retained: [], denials: [] }, fanout: "up" },
    localDenials: kept,
  });
  node.feed({ type: "snapshotFailed", id: node.last("loadSnapshot").id, reason: "none" });
  node.pass(500);
  follow(node, log);
  return node;
}
function follow(node: DrivenNode, log: History): void {
  const after = node.core.applied.position;
  if (after === log.head.position) return;
  node.feed({ type: "delivered", delivery: { ...log.range(after, log.head.position), keys: [] } });
  assert.equal(node.core.applied.position, log.head.position);
}
function page(node: DrivenNode, entries: readonly SealedRevocation[], upTo = entries.length): void {
  const answer: DenialsAnswer = { type: "page", store, upTo, sealed: entries, more: false };
  node.pass(100);
  node.feed({ type: "denialsAnswered", id: node.last("readDenials").id, answer });
}
function keep(node: DrivenNode, outcome: "kept" | "failed" = "kept"): void {
  node.feed({ type: "localDenialsKept", id: node.last("keepLocalDenials").id, outcome });
}
/** The node's next renewal. */
function renewOf(node: DrivenNode) {
  return node.renew().lastRenew;
}
function grantTo(node: DrivenNode, log: History, parts: Partial<Grant> = {}): void {
  const { id, renew } = renewOf(node);
  const grant: Grant = {
    ...{ node: renew.node, boot: renew.boot, nonce: renew.nonce, epoch: log.head.epoch, incarnation: log.incarnation },
    ...{ start: log.start, head: log.head, deltaMs: 5_000, drift: 0.01, windowMs: 65_000, wallMs: node.moment.wall },
    ...parts,
  };
  node.feed({ type: "leaseAnswered", id, answer: { type: "grant", grant } });
}

test("a local revocation is in force in the step in which it arrives, and open exchanges are decided again", () => {
  const node = aNode(aLog());
  const before = node.all("changed").length;
  page(node, [sealed()]);
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))));
  assert.ok(node.core.isDeniedLocally(sessionStream(sessionId(6))));
  assert.ok(!node.core.isDeniedLocally(sessionStream(sessionId(2))));
  const [change] = node.all("changed").slice(before);
  assert.deepEqual(change?.touched, [[sessionStream(sessionId(1)), sessionStream(sessionId(6))]]);
});

test("it is confirmed only when the cuts are done and the disk has it", () => {
  for (const first of ["cut", "disk"] as const) {
    const node = aNode(aLog());
    grantTo(node, aLog());
    node.enforcing = false;
    page(node, [sealed()]);
    const confirmed = () => renewOf(node).renew.denials;
    const cut = () => {
      node.feed({ type: "changeEnforced", id: node.last("changed").id });
      // The confirmation that follows every enforced change is answered.
      const sent = node.last("sendLease");
      if (sent.message.type === "confirm") node.feed({ type: "leaseAnswered", id: sent.id, answer: { type: "taken" } });
    };
    assert.equal(confirmed(), undefined);
    if (first === "cut") cut();
    else keep(node);
    assert.equal(confirmed(), undefined, `only the ${first} is done`);
    if (first === "cut") keep(node);
    else cut();
    const messages = node.all("sendLease").map(({ message }) => message);
    const confirm = messages.findLast((message) => message.type === "confirm");
    assert.deepEqual(confirm?.confirm.denials, [{ store, seq: 1 }], "it is confirmed at once");
    assert.deepEqual(confirmed(), [{ store, seq: 1 }], "and in each renewal");
  }
});

test("a disk that rejects it leaves it in force and unconfirmed, and is written again", () => {
  const node = aNode(aLog());
  grantTo(node, aLog());
  page(node, [sealed()]);
  keep(node, "failed");
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))));
  assert.equal(renewOf(node).renew.denials, undefined);
  page(node, []);
  const writes = node.all("keepLocalDenials").length;
  assert.ok(writes >= 2);
  keep(node);
  assert.deepEqual(renewOf(node).renew.denials, [{ store, seq: 1 }]);
});

test("a lease by age with `tightenedTo` counts only once everything up to it is in force here", () => {
  const log = aLog();
  const node = aNode(log);
  grantTo(node, log, { ageMs: 100, tightenedTo: { store, seq: 1 } });
  assert.equal(node.overdue, Number.POSITIVE_INFINITY);
  page(node, [], 0);
  assert.equal(node.overdue, Number.POSITIVE_INFINITY, "the store is known, and this node is not at it");
  page(node, [sealed()]);
  assert.ok(node.overdue <= 0);
});

test("a position in the store of another broker does not stand for it", () => {
  const log = aLog();
  const node = aNode(log);
  page(node, [sealed()]);
  grantTo(node, log, { ageMs: 100, tightenedTo: { store: "b".repeat(32), seq: 1 } });
  assert.equal(node.overdue, Number.POSITIVE_INFINITY);
});

test("a node that reads at a broker which is cut off reads again at once when the other broker grants", () => {
  const log = aLog();
  const other = "b".repeat(32);
  const node = aNode(log);
  page(node, [sealed()]);
  keep(node);
  node.pass(3_000);
  const read = node.last("readDenials");
  grantTo(node, log, { ageMs: 100, tightenedTo: { store: other, seq: 1 } });
  node.pass(100);
  const again = node.last("readDenials");
  assert.ok(again.id !== read.id && node.all("cancel").some(({ id }) => id === read.id));
  node.feed({
    type: "denialsAnswered",
    id: again.id,
    answer: { type: "page", store: other, upTo: 1, sealed: [], more: false },
  });
  assert.ok(node.overdue <= 0, "its lease counts");
});

test("a broker gets a second for a revocation that a lease waits for, also after it has failed or kept none", () => {
  const log = aLog();
  const node = aNode(log);
  page(node, [sealed()]);
  keep(node);
  node.pass(3_000);
  const first = node.last("readDenials");
  const waits = { ageMs: 100, tightenedTo: { store, seq: 2 } };
  grantTo(node, log, waits);
  node.pass(500);
  assert.equal(node.last("readDenials").id, first.id, "the answer is under way");
  node.pass(600);
  const second = node.last("readDenials");
  assert.notEqual(second.id, first.id);
  node.feed({ type: "denialsAnswered", id: second.id, answer: { type: "none" } });
  grantTo(node, log, waits);
  node.pass(1_100);
  assert.notEqual(node.last("readDenials").id, second.id);
});

test("order and repetition do not matter: the denied ids are the union", () => {
  const entries = [sealed(), sealed({ sessionIds: [sessionId(6)] }, 2), sealed({ sessionIds: [sessionId(2)] }, 3)];
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 0, 2, 1, 0],
  ]) {
    const denials = new LocalDenials();
    for (const at of order) denials.add(entries.slice(at, at + 1));
    for (const id of [1, 6, 2]) assert.ok(denials.denies(sessionStream(sessionId(id))));
  }
});

test("a page with an entry that no broker of the cluster signed is refused whole", () => {
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  const good = sealed();
  assert.ok(typeof openRevocation(good.envelope, open) !== "string");
  const forged = newSigner({ name: "b1", boot, rootSecret: new Uint8Array(32).fill(7) });
  const other = newSigner({ name: "b2", boot });
  const proxy = newSigner({ name: "b1", boot, role: "proxy" });
  for (const signer of [forged, other, proxy]) {
    const envelope = sealEnvelope(signer, "local-revocation", encodeRevocation(good.revocation));
    assert.equal(typeof openRevocation(envelope, open), "string");
  }
  assert.equal(
    typeof openRevocation(sealEnvelope(newSigner({ name: "b1", boot }), "answer", new Uint8Array()), open),
    "string",
  );
  const node = aNode(aLog());
  node.pass(100);
  node.feed({
    type: "denialsAnswered",
    id: node.last("readDenials").id,
    answer: { type: "refused", reason: "forged" },
  });
  assert.equal(node.core.metrics().localDenials, 0);
});

test("denials on this node's disk are in force before the first decision after a restart", () => {
  const node = new DrivenNode({ brokers: [] });
  node.feed({
    ...{ type: "started", snapshot: null, denials: { retained: [], denials: [] }, fanout: "up" },
    localDenials: [sealed()],
  });
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))));
});

test("a session's denial ends when the log denies it past the merge, not before", () => {
  const log = aLog();
  const node = aNode(log);
  const one = sealed();
  page(node, [one]);
  log.add(revoked(1));
  follow(node, log);
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))), "the log denies it, but nothing is merged");
  addCaused(log, revoked(6) as Recorded["event"], one.revocation.commandId);
  follow(node, log);
  assert.equal(node.core.metrics().localDenials, 0);
});

test("a merge of two events that arrives in two pages is not submitted under an id of its own", () => {
  for (const named of ["by the log alone", "by the leader first"] as const) {
    const log = aLog();
    const node = aNode(log);
    const one = sealed();
    page(node, [one]);
    keep(node);
    addCaused(log, revoked(1) as Recorded["event"], one.revocation.commandId);
    const half = log.head;
    addCaused(log, revoked(6) as Recorded["event"], one.revocation.commandId);
    if (named === "by the leader first") {
      const { id } = submitted(node);
      node.feed({ type: "revocationSubmitted", id, answer: { type: "merged", link: log.head } });
    }
    const after = node.core.applied.position;
    node.feed({ type: "delivered", delivery: { ...log.range(after, half.position), keys: [] } });
    assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(6))), "its event is in the next page");
    if (named === "by the log alone") assert.equal(submitted(node).commandId, one.revocation.commandId);
    follow(node, log);
    assert.equal(node.core.metrics().localDenials, 0);
  }
});

test("a suspension that home lifts before the merge stays in force; a restore after the merge counts", () => {
  const log = aLog();
  const node = aNode(log);
  const one = suspension();
  page(node, [one]);
  const user = userStream(userId(1));
  log.add(suspended());
  follow(node, log);
  assert.ok(node.core.isDeniedByRegion(user), "a denial of the log before the merge may be lifted again");
  log.add(restored());
  follow(node, log);
  assert.ok(node.core.isDeniedByRegion(user));
  addCaused(log, suspended(), one.revocation.commandId);
  log.add(restored());
  follow(node, log);
  assert.ok(!node.core.isDeniedByRegion(user), "an operator restored the person after the merge, in the same page");
});

test("a broker that has not dropped a merged suspension does not bring it back to a node that has", () => {
  const log = aLog();
  const node = aNode(log);
  const one = suspension();
  page(node, [one]);
  addCaused(log, suspended(), one.revocation.commandId);
  log.add(restored());
  follow(node, log);
  const user = userStream(userId(1));
  page(node, [one], 2);
  assert.ok(!node.core.isDeniedByRegion(user));
  const denials = new LocalDenials();
  denials.add([one]);
  denials.recordMerged(JSON.stringify(["b1", boot, 1]), log.linkAt(5));
  denials.settle({ applied: log.head, epochs: [], young: null, youngCount: 0, old: null }, node.core.projection);
  denials.add([one]);
  assert.ok(!denials.denies(user));
  denials.forgetDropped();
  denials.add([one]);
  assert.ok(denials.denies(user), "the node is on another history, which may lack the merge");
});

test("a suspension that the leader refuses stays in force, and the node reports it", () => {
  const node = aNode(aLog(), [suspension()]);
  const { id } = submitted(node);
  node.feed({ type: "revocationSubmitted", id, answer: { type: "refused", reason: "too old" } });
  assert.ok(node.core.isDeniedByRegion(userStream(userId(1))));
  assert.ok(node.all("log").some(({ level, message }) => level === "error" && /operator must decide/.test(message)));
});

test("another change under the command id of a suspension does not end it", () => {
  const log = aLog();
  const node = aNode(log);
  const one = suspension();
  page(node, [one]);
  addCaused(log, suspended(2), one.revocation.commandId);
  addCaused(
    log,
    { type: "UserSessionsRevoked", userId: userId(1), upTo: null, reason: "operator" },
    one.revocation.commandId,
  );
  follow(node, log);
  assert.ok(node.core.isDeniedByRegion(userStream(userId(1))));
});

test("a node behind the basis does not take an unknown session for one that has ended", () => {
  const log = aLog();
  const denials = new LocalDenials();
  const one = sealed();
  denials.add([one]);
  const behind = aNode(new History(log.entries.slice(0, 1)));
  denials.recordMerged(JSON.stringify(["b1", boot, 1]), log.linkAt(1));
  denials.settle({ applied: log.linkAt(1), epochs: [], young: null, youngCount: 0, old: null }, behind.core.projection);
  assert.ok(denials.denies(sessionStream(sessionId(1))));
});

test("a node whose log does not show the merge submits the revocation under its command id, and then under its own", () => {
  const log = aLog();
  const node = aNode(log);
  const one = sealed();
  page(node, [one]);
  keep(node);
  assert.equal(node.all("submitRevocation").length, 0, "its broker does that at once");
  const first = submitted(node);
  assert.equal(first.commandId, one.revocation.commandId);
  node.feed({ type: "revocationSubmitted", id: first.id, answer: { type: "other-change" } });
  const { id, commandId } = submitted(node);
  assert.equal(commandId, commandIdOfEnvelope(one.envelope));
  log.add(revoked(1)).add(revoked(6));
  follow(node, log);
  node.feed({ type: "revocationSubmitted", id, answer: { type: "merged", link: log.head } });
  assert.equal(node.core.metrics().localDenials, 0);
});

test("what was called merged and turns out to be another change is submitted again", () => {
  const log = aLog();
  const node = aNode(log);
  const one = sealed();
  page(node, [one]);
  keep(node);
  log.add(created(42));
  node.feed({ type: "revocationSubmitted", id: submitted(node).id, answer: { type: "merged", link: log.head } });
  follow(node, log);
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))));
  assert.equal(submitted(node).commandId, commandIdOfEnvelope(one.envelope));
});

test("a revocation that the leader refuses does not hold up the others on the node's disk", () => {
  const kept = [sealed({}, 1), sealed({ sessionIds: [sessionId(2)] }, 2)];
  const node = aNode(aLog(), kept);
  const first = submitted(node);
  node.feed({ type: "revocationSubmitted", id: first.id, answer: { type: "failed" } });
  assert.deepEqual(
    new Set([first.commandId, submitted(node).commandId]),
    new Set(kept.map(({ revocation }) => revocation.commandId)),
  );
});

test("revocations that only nodes hold follow each other without a pause, and new ones postpone none", () => {
  const log = aLog();
  const node = aNode(log);
  page(node, [sealed({}, 1), sealed({ sessionIds: [sessionId(2)] }, 2)]);
  for (const seq of [3, 4, 5]) {
    node.pass(20_000);
    page(node, [sealed({ sessionIds: [sessionId(seq)] }, seq)]);
  }
  const [first, ...others] = node.all("submitRevocation");
  assert.ok(first !== undefined && others.length === 0, "within a minute");
  node.feed({ type: "revocationSubmitted", id: first.id, answer: { type: "merged", link: log.head } });
  node.pass(1);
  const [, second] = node.all("submitRevocation");
  assert.ok(second !== undefined && second.commandId !== first.commandId);
});

/** The next submission of the node. */
function submitted(node: DrivenNode) {
  const before = node.all("submitRevocation").length;
  for (let waited = 0; node.all("submitRevocation").length === before && waited < 120; waited += 1) node.pass(1_000);
  return node.last("submitRevocation");
}

test("what does not fit is refused whole, and no lease by age that names it counts", () => {
  const many = Array.from({ length: 20_000 }, (_, n) => `${n}-${"x".repeat(150)}` as SessionId);
  const denials = new LocalDenials();
  let added = 0;
  while (denials.add([sealed({ sessionIds: many }, added + 1)]) !== null) added += 1;
  assert.ok(added > 0 && added < 1 + localDenialBytesMax / (20_000 * 150));
  assert.equal(denials.size, added);
});

test("everything on a node's own disk is in force after a restart, also what would not fit now", () => {
  const many = Array.from({ length: 20_000 }, (_, n) => `${n}-${"x".repeat(150)}` as SessionId);
  const kept = [1, 2, 3].map((seq) => sealed({ sessionIds: many }, seq)).concat(sealed({}, 4));
  assert.ok(kept.reduce((sum, { envelope }) => sum + envelope.length, 0) > localDenialBytesMax);
  const node = aNode(aLog(), kept);
  assert.ok(node.core.isDeniedByRegion(sessionStream(sessionId(1))));
});

test("a node that keeps no local revocations names no brokers and reads none", () => {
  const node = new DrivenNode();
  node.start();
  node.pass(5_000);
  assert.equal(node.lastRenew.renew.brokers, undefined);
  assert.equal(node.all("readDenials").length, 0);
  assert.deepEqual(aNode(aLog()).lastRenew.renew.brokers, ["https://b1:5443"]);
});
