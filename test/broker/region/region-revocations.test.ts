/**
 * What a cut-off region revokes by itself, rule by rule (ADR 0039: a cut-off region revokes locally): acceptance,
 * storage at every broker, withheld renews, receipts, merging, and each crash between two steps.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { LocalRequest } from "../../../src/broker/region/local-messages.ts";
import type { NodeAnswer } from "../../../src/broker/region/region-messages.ts";
import { commandIdOfEnvelope, type Link, parseCommandId } from "../../../src/events/index.ts";
import { created, History, revoked, sessionId, userId } from "../../replication/support.ts";
import { LocalRegion, windowMs } from "./local-region.ts";

const granted = { type: "granted", windowMs, drift: 0.01 } as const;
/** Longer than any lease of these tests. */
const afterWindowMs = windowMs * 1.05;

/** User 1 has sessions 1 and 6, user 2 has session 2. */
function aLog(): History {
  return new History().open(1).add(created(1)).add(created(6)).add(created(2));
}
function aRequest(command: LocalRequest["command"] = revokeUser()): LocalRequest {
  return { commandId: parseCommandId(randomUUID()), actor: "operator:alice#1", command };
}
const revokeUser = () => ({ type: "revokeUserSessions", userId: userId(1), reason: "operator" }) as const;
const revokeOne = (n = 1) => ({ type: "revokeSession", sessionId: sessionId(n), reason: "operator" }) as const;
const suspend = () => ({ type: "suspendUser", userId: userId(1), reason: "stolen laptop" }) as const;
const codeOf = (answer: object | undefined): unknown =>
  answer !== undefined && "code" in answer ? answer.code : answer;

/** A cut-off region in which node n1 holds a lease of b1, and the earlier boots' leases have ended. */
function aRegion(names: readonly string[] = ["b1", "b2"]): LocalRegion {
  const region = new LocalRegion(aLog(), names);
  region.pass(afterWindowMs);
  for (const broker of region.brokers.values()) renewLease(region, broker.name);
  assert.equal(region.broker("b1").renew("n1")()?.type, "grantByAge");
  return region;
}
function renewLease(region: LocalRegion, name: string): void {
  const broker = region.broker(name);
  if (broker.lease !== null) broker.lease = { ...broker.lease, freshSinceMs: region.now - 100 };
}
function grantOf(answer: NodeAnswer | undefined) {
  assert.equal(answer?.type, "grantByAge");
  return answer.grant;
}

test("`local` is answered once every broker has the revocation on its disk, and names the sessions known at the basis", () => {
  const region = aRegion();
  region.broker("b2").holdsWrites = true;
  const answer = region.broker("b1").revoke(aRequest());
  assert.equal(answer(), undefined, "the other broker has not stored it");
  assert.equal(region.broker("b1").disk?.entries.length, 1);
  region.broker("b2").flush();
  region.pass(3_000);
  const later = region.broker("b1").revoke({ ...aRequest(), commandId: answerId(region) });
  const local = later();
  assert.equal(local?.type, "local");
  assert.deepEqual(local.revocation.sessionIds, [sessionId(1), sessionId(6)]);
  assert.deepEqual(local.revocation.basis, region.log.head);
  assert.equal(region.broker("b2").disk?.entries.length, 1);
});

/** The command id of the only revocation on the disk of b1. */
function answerId(region: LocalRegion) {
  const [entry] = region.broker("b1").disk?.entries ?? [];
  assert.ok(entry);
  return entry.sealed.revocation.commandId;
}

test("a broker whose disk refuses the write answers 503 and nothing is in force", () => {
  const region = aRegion();
  region.broker("b1").writes = false;
  assert.equal(codeOf(region.broker("b1").revoke(aRequest())()), "local-not-stored");
  assert.equal(region.broker("b1").denials().sealed.length, 0);
  assert.equal(grantOf(region.broker("b1").renew("n1")()).tightenedTo, undefined);
});

test("while another broker cannot be reached the answer is 503, and the same command id repeats it later", () => {
  const region = aRegion();
  region.cut.add("b2");
  const request = aRequest();
  const refused = region.broker("b1").revoke(request)();
  assert.ok(refused?.type === "unavailable");
  assert.deepEqual([refused.code, refused.outcome], ["local-broker-unreachable", undefined], "its disk has it");
  region.cut.clear();
  const again = region.broker("b1").revoke(request)();
  assert.equal(again?.type, "local");
  assert.equal(again.revocation.seq, 1, "the stored revocation answers");
  assert.equal(codeOf(region.broker("b1").revoke({ ...request, command: revokeOne() })()), "invalid");
});

test("a number whose write failed is confirmed by no node, and grants do not wait for it", () => {
  const region = aRegion(["b1"]);
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  b1.writes = false;
  assert.equal(codeOf(b1.revoke(aRequest(revokeOne(2)))()), "local-not-stored");
  assert.equal(b1.denials().at.seq, 1, "after a restart, number 2 may name another revocation");
  assert.equal(grantOf(b1.renew("n1")()).tightenedTo?.seq, 1);
  b1.writes = true;
  assert.equal(b1.revoke(aRequest(revokeOne(2)))()?.type, "local");
  assert.equal(b1.denials().at.seq, 3);
});

test("a command that two brokers have accepted has a complete receipt only when both revocations are in force", () => {
  const region = aRegion();
  const [b1, b2] = [region.broker("b1"), region.broker("b2")];
  const request = aRequest();
  region.cut.add("b2");
  for (const broker of [b1, b2]) assert.equal(codeOf(broker.revoke(request)()), "local-broker-unreachable");
  region.cut.clear();
  region.pass(6_000);
  const complete = () => {
    const answer = b1.receipt(request.commandId)();
    assert.ok(answer?.type === "receipt");
    return answer.receipt.complete;
  };
  const { store } = b1.denials().at;
  b1.renew("n1", { denials: [{ store, seq: 1 }] });
  assert.equal(complete(), false);
  b1.renew("n1", { denials: [{ store, seq: 2 }] });
  assert.equal(complete(), true);
});

test("another broker whose disk refuses the write is no acknowledgement", () => {
  const region = aRegion();
  region.broker("b2").writes = false;
  const request = aRequest();
  assert.equal(codeOf(region.broker("b1").revoke(request)()), "local-broker-unreachable");
  region.broker("b2").writes = true;
  assert.equal(region.broker("b1").revoke(request)()?.type, "local");
});

test("nothing is accepted while home answers, without a lease, or for ids that the region does not know", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  assert.equal(codeOf(broker.revoke(aRequest(revokeOne(77)))()), "local-unknown");
  assert.equal(codeOf(broker.revoke(aRequest({ ...suspend(), userId: userId(9) }))()), "local-unknown");
  broker.feed({ type: "leaderAnswered" });
  assert.equal(codeOf(broker.revoke(aRequest())()), "local-home-answers");
  region.pass(10_000);
  broker.lease = null;
  const refused = broker.revoke(aRequest())();
  assert.ok(refused?.type === "unavailable");
  assert.deepEqual([refused.code, refused.outcome], ["local-no-lease", "none"]);
  assert.equal(broker.disk?.entries.length, 0);
});

test("home brokers that answer without a leader do not keep the region from revoking by itself", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  broker.feed({ type: "homeBrokerAnswered" });
  const link = region.log.head;
  broker.feed({ type: "ownReadAsked", id: 1, after: link, limit: 100, waitMs: 0 });
  const read = broker.all("askHome").find(({ question }) => question.op === "read");
  assert.ok(read);
  const page = { previous: link, entries: [], last: link, head: link, keys: [] };
  broker.answerHome(read.id, { type: "page", page });
  assert.equal(broker.revoke(aRequest())()?.type, "local");
});

test("ids that the region does not know are kept beside those that it knows", () => {
  const region = aRegion();
  const command = { type: "revokeSessions", sessionIds: [sessionId(77), sessionId(1)], reason: "operator" } as const;
  const answer = region.broker("b1").revoke(aRequest(command))();
  assert.equal(answer?.type, "local");
  assert.deepEqual(answer.revocation.sessionIds, [sessionId(1), sessionId(77)]);
});

test("a node of an older build, or one that uses another broker, makes the region refuse", () => {
  for (const unable of [
    (region: LocalRegion) => region.broker("b1").renew("n9", {}, "older"),
    (region: LocalRegion) => region.broker("b1").renew("n9", { brokers: ["https://elsewhere:5443"] }),
    (region: LocalRegion) => region.broker("b2").renew("n9", {}, "older"),
  ]) {
    const region = aRegion();
    assert.equal(unable(region)()?.type, "grantByAge");
    assert.equal(codeOf(region.broker("b1").revoke(aRequest())()), "local-node-unable");
    region.pass(afterWindowMs);
    renewLease(region, "b1");
    assert.equal(region.broker("b1").revoke(aRequest())()?.type, "local", "its lease has expired");
  }
});

test("a lease by age carries the head of the store from the acceptance on, before any disk has the revocation", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  assert.equal(grantOf(broker.renew("n1")()).tightenedTo, undefined);
  broker.holdsWrites = true;
  broker.revoke(aRequest());
  assert.deepEqual(grantOf(broker.renew("n1")()).tightenedTo, { store: broker.disk?.store, seq: 1 });
  assert.equal(broker.denials().sealed.length, 0, "nodes get only what is on the disk");
  assert.equal(broker.denials().at.seq, 0, "and are not at it");
  broker.flush();
  assert.equal(broker.denials().at.seq, 1);
});

test("a renew of a node behind the revocation does not reach the leader, also after healing, until the broker's own log denies", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  assert.equal(broker.revoke(aRequest())()?.type, "local");
  renewLease(region, "b1");
  broker.feed({ type: "leaderAnswered" });
  const before = broker.asked("forward").length;
  assert.equal(grantOf(broker.renew("n1")()).tightenedTo?.seq, 1, "it gets a lease by age with the condition");
  assert.equal(broker.asked("forward").length, before);
  const at = { store: broker.disk?.store ?? "", seq: 1 };
  broker.renew("n2", { denials: [at] });
  assert.equal(broker.asked("forward").length, before + 1, "a node that has it may get a lease of the leader");
  region.pass(1_000);
  merge(region, "b1");
  broker.renew("n1");
  assert.equal(broker.asked("forward").length, before + 1, "the answer alone shows no denial");
  broker.follow();
  broker.renew("n1");
  assert.equal(broker.asked("forward").length, before + 2, "now the leader's grants cover it");
});

test("a merge under a command id that means another change goes on withholding renews", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  assert.equal(broker.revoke(aRequest())()?.type, "local");
  region.log.add(created(42));
  renewLease(region, "b1");
  broker.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const [question] = broker.asked("merge");
  assert.ok(question);
  broker.answerHome(question.id, { type: "merged", link: region.log.head });
  const before = broker.asked("forward").length;
  for (const step of ["answered", "followed"]) {
    if (step === "followed") broker.follow();
    broker.renew("n1");
    assert.equal(broker.asked("forward").length, before, step);
  }
});

test("a grant of the leader that was under way while a revocation came and was merged is not passed on", () => {
  const region = aRegion();
  const [b1, b2] = [region.broker("b1"), region.broker("b2")];
  b2.feed({ type: "leaderAnswered" });
  renewLease(region, "b2");
  const answer = b2.renew("n2");
  const forward = b2.asked("forward").at(-1);
  assert.ok(forward);
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  merge(region, "b2", 250);
  b2.follow();
  assert.equal(b2.denials().sealed.length, 0, "b2 has dropped it");
  b2.answerHome(forward.id, granted);
  assert.deepEqual(grantOf(answer()).head, region.log.head, "n2 gets a lease by age, which names the merge");
});

test("a broker that lost its disk no longer counts as having what it once acknowledged", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  region.broker("b2").kill();
  region.brokers.delete("b2");
  region.start("b2").writes = false;
  region.pass(12_000);
  const again = b1.revoke(request);
  region.pass(4_000);
  assert.equal(again()?.type, "unavailable");
});

test("a grant of the leader that arrives after the acceptance is not passed on to a node that lacks the revocation", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  broker.feed({ type: "leaderAnswered" });
  const answer = broker.renew("n1");
  const forward = broker.asked("forward").at(-1);
  assert.ok(forward);
  region.now += 2_600; // the home region counts as away
  assert.equal(broker.revoke(aRequest())()?.type, "local");
  broker.answerHome(forward.id, granted);
  assert.equal(grantOf(answer()).tightenedTo?.seq, 1);
});

test("an older build gets no lease by age while the region holds a revocation that the log lacks", () => {
  const region = aRegion();
  const broker = region.broker("b1");
  broker.revoke(aRequest());
  assert.equal(broker.renew("n8", { brokers: [] })()?.type, "grantByAge");
  assert.equal(broker.renew("n9", {}, "older")()?.type, "unavailable");
});

test("the receipt waits for each node: it is applied when it confirms to any broker, or fenced when its leases end", () => {
  const region = aRegion();
  const [b1, b2] = [region.broker("b1"), region.broker("b2")];
  assert.equal(b2.renew("n2")()?.type, "grantByAge");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  const now = b1.receipt(request.commandId)();
  assert.ok(now?.type === "receipt" && !now.receipt.complete);
  assert.deepEqual(
    now.receipt.nodes.map(({ node, status }) => [node, status]),
    [
      ["n1", "unconfirmed"],
      ["n2", "unconfirmed"],
    ],
  );
  const waits = b1.receipt(request.commandId, 60_000);
  b2.renew("n1", { denials: [b2.denials().at] });
  region.pass(1_000);
  assert.equal(waits(), undefined, "n2 may still permit");
  region.pass(afterWindowMs);
  const done = waits();
  assert.ok(done?.type === "receipt" && done.receipt.complete);
  assert.deepEqual(
    done.receipt.nodes.map(({ node, status }) => [node, status]),
    [
      ["n1", "applied"],
      ["n2", "fenced"],
    ],
  );
});

test("a lease by age with the condition does not delay the receipt; one without it does", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  region.pass(afterWindowMs);
  renewLease(region, "b1");
  assert.equal(b1.renew("n1")()?.type, "grantByAge");
  const receipt = b1.receipt(request.commandId)();
  assert.ok(receipt?.type === "receipt" && receipt.receipt.complete, "its lease counts only with the revocation");
});

test("a broker that stops after `local` keeps its nodes unconfirmed until their windows end", () => {
  const region = aRegion();
  const [b1, b2] = [region.broker("b1"), region.broker("b2")];
  assert.equal(b2.renew("n2")()?.type, "grantByAge");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  b1.renew("n1", { denials: [b1.denials().at] });
  b2.kill();
  region.pass(5_000);
  const early = b1.receipt(request.commandId)();
  assert.ok(early?.type === "receipt" && !early.receipt.complete && early.receipt.stored);
  region.pass(afterWindowMs);
  const late = b1.receipt(request.commandId)();
  assert.ok(late?.type === "receipt" && late.receipt.complete);
});

test("a broker that restarts lists the nodes of its boot before in one row until their windows end", () => {
  const region = aRegion();
  const [b1, b2] = [region.broker("b1"), region.broker("b2")];
  assert.equal(b2.renew("n2")()?.type, "grantByAge");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  b1.renew("n1", { denials: [b1.denials().at] });
  b2.kill();
  const next = region.start("b2");
  next.lease = null;
  next.feed({ type: "woke" });
  region.pass(11_000);
  const early = b1.receipt(request.commandId)();
  assert.ok(early?.type === "receipt" && !early.receipt.complete);
  assert.ok(early.receipt.nodes.some(({ node }) => node === "@unknown-nodes"));
  region.pass(2 * afterWindowMs);
  const late = b1.receipt(request.commandId)();
  assert.ok(late?.type === "receipt" && late.receipt.complete);
});

test("a broker that crashes between its own disk and the others' gives the revocation to them after its restart", () => {
  const region = aRegion();
  region.cut.add("b2");
  region.broker("b1").revoke(aRequest());
  region.broker("b1").kill();
  region.cut.clear();
  const next = region.start("b1");
  next.lease = null;
  next.feed({ type: "woke" });
  assert.equal(region.broker("b2").disk?.entries.length, 1);
  assert.notEqual(region.broker("b2").renew("n1")()?.type, "leader");
  assert.equal(next.denials().sealed.length, 1, "and it is in force there from the disk");
});

test("a broker that crashes before its disk has the revocation has accepted nothing", () => {
  const region = aRegion();
  region.broker("b1").holdsWrites = true;
  const answer = region.broker("b1").revoke(aRequest());
  region.broker("b1").kill();
  const next = region.start("b1");
  next.feed({ type: "woke" });
  assert.equal(answer(), undefined);
  assert.equal(next.denials().sealed.length, 0);
  assert.equal(region.broker("b2").disk?.entries.length, 0);
});

test("a broker that starts with an empty disk takes what the others retain", () => {
  const region = aRegion();
  assert.equal(region.broker("b1").revoke(aRequest())()?.type, "local");
  region.broker("b2").kill();
  region.brokers.delete("b2");
  const next = region.start("b2");
  next.feed({ type: "woke" });
  assert.equal(next.disk?.entries.length, 1);
});

test("every broker submits each revocation under its command id until it is answered", () => {
  const region = aRegion();
  const request = aRequest();
  assert.equal(region.broker("b1").revoke(request)()?.type, "local");
  for (const name of region.names) {
    const broker = region.broker(name);
    assert.equal(broker.asked("merge").length, 0);
    broker.feed({ type: "leaderAnswered" });
    region.pass(1_000);
    const [first] = broker.asked("merge");
    assert.ok(first?.question.op === "merge");
    assert.equal(first.question.commandId, request.commandId);
    broker.answerHome(first.id, { type: "unavailable", error: new Error("no leader") });
    broker.feed({ type: "leaderAnswered" });
    region.pass(2_000);
    assert.equal(broker.asked("merge").length, 2);
  }
});

/** Records what the revocation denies, as the leader does, and lets a broker follow. */
function merge(region: LocalRegion, name: string, withinMs = 1_000): Link {
  region.log.add(revoked(1)).add(revoked(6));
  const link = region.log.head;
  const broker = region.broker(name);
  broker.feed({ type: "leaderAnswered" });
  region.pass(withinMs);
  const question = broker.asked("merge").at(-1);
  assert.ok(question);
  broker.answerHome(question.id, { type: "merged", link });
  return link;
}

test("a revocation leaves the store only when the broker's own log is past the merge and denies the ids", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  merge(region, "b1");
  assert.equal(b1.denials().sealed.length, 1, "merged, but its own log is not there yet");
  b1.follow();
  assert.equal(b1.denials().sealed.length, 0);
  assert.equal(b1.disk?.entries.length, 0);
  assert.equal(b1.disk?.head, 1, "a number is never used twice");
});

test("an id that the log permits past the merge is not dropped: the command id meant another change", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  const request = aRequest();
  assert.equal(b1.revoke(request)()?.type, "local");
  region.log.add(created(42));
  b1.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const [question] = b1.asked("merge");
  assert.ok(question?.question.op === "merge");
  b1.answerHome(question.id, { type: "merged", link: region.log.head });
  b1.follow();
  assert.equal(b1.denials().sealed.length, 1);
  b1.feed({ type: "leaderAnswered" });
  region.pass(2_000);
  const again = b1.asked("merge").at(-1)?.question;
  assert.ok(again?.op === "merge");
  assert.equal(again.commandId, commandIdOfEnvelope(again.envelope), "it is submitted under an id of its own");
});

test("a merge before the beginning of the copy counts once the leader has named it", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  region.log.add(revoked(1)).add(revoked(6));
  const link = region.log.head;
  region.log.add(created(42));
  b1.forgetLog();
  b1.follow();
  b1.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const questions = b1.asked("merge");
  assert.equal(b1.denials().sealed.length, 1, "before the answer nothing shows the merge");
  b1.answerHome(questions.at(-1)?.id ?? 0, { type: "merged", link });
  assert.equal(b1.denials().sealed.length, 0);
  b1.feed({ type: "leaderAnswered" });
  region.pass(5_000);
  assert.equal(b1.asked("merge").length, questions.length, "it is not submitted again");
});

test("a merge that the projection has read and the copy on the disk has not is settled once the copy has it", () => {
  const region = aRegion(["b1"]);
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  const before = region.log.head.position;
  merge(region, "b1");
  b1.project();
  const asked = b1.asked("merge").length;
  b1.feed({ type: "leaderAnswered" });
  region.pass(2_000);
  assert.equal(b1.asked("merge").length, asked, "it is not submitted again");
  assert.equal(b1.denials().sealed.length, 1);
  b1.feed({ type: "delivered", batch: region.log.batch(before, region.log.head.position) });
  assert.equal(b1.denials().sealed.length, 0);
});

test("a merge on another chain does not count", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  const lost = region.log.fork(4).add(revoked(1)).add(revoked(6)).head;
  b1.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const [question] = b1.asked("merge");
  b1.answerHome(question?.id ?? 0, { type: "merged", link: lost });
  region.log.add(created(42)).add(created(43));
  b1.follow();
  assert.equal(b1.denials().sealed.length, 1);
});

test("a revocation that was dropped is taken again only after the log was rebuilt: the merge may be lost", () => {
  const region = aRegion(["b1"]);
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  const [sealed] = b1.denials().sealed;
  assert.ok(sealed);
  merge(region, "b1");
  b1.follow();
  b1.feed({ type: "revocationBrought", sealed });
  assert.equal(b1.denials().sealed.length, 0);
  b1.feed({ type: "changed", id: 77, link: region.log.head, rebuilt: true });
  b1.feed({ type: "revocationBrought", sealed });
  assert.equal(b1.denials().sealed.length, 1);
});

test("a merged revocation does not come back from a broker that has not dropped it", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  merge(region, "b1");
  b1.follow();
  region.pass(12_000);
  assert.equal(b1.disk?.entries.length, 0);
  const receipt = region.broker("b2").receipt(answerIdOf(region, "b2"))();
  assert.equal(receipt?.type, "merged", "and that broker learns of the merge");
});

function answerIdOf(region: LocalRegion, name: string) {
  const [entry] = region.broker(name).disk?.entries ?? [];
  assert.ok(entry);
  return entry.sealed.revocation.commandId;
}

test("a full store refuses a new revocation and evicts none", () => {
  const region = aRegion(["b1"]);
  const b1 = region.broker("b1");
  const sessionIds = Array.from({ length: 20_000 }, (_, n) => sessionId(n));
  const command = { type: "revokeSessions", sessionIds, reason: "operator" } as const;
  let accepted = 0;
  let last: unknown;
  while (accepted < 100) {
    renewLease(region, "b1");
    const answer = b1.revoke(aRequest(command))();
    last = codeOf(answer);
    if (answer?.type !== "local") break;
    accepted += 1;
  }
  assert.equal(last, "local-full");
  assert.ok(accepted > 0);
  assert.equal(b1.disk?.entries.length, accepted);
});

test("a person with more sessions than a revocation may name is refused before anything is signed", () => {
  const log = aLog();
  for (let n = 0; n < 20_000; n++) log.add(created(100_000 + n, 1));
  const region = new LocalRegion(log, ["b1"]);
  region.pass(afterWindowMs, afterWindowMs);
  renewLease(region, "b1");
  const b1 = region.broker("b1");
  assert.equal(codeOf(b1.revoke(aRequest())()), "local-full");
  assert.deepEqual([b1.all("signRevocation").length, b1.disk?.entries.length], [0, 0]);
});

test("a refusal says that nothing is recorded only if the other brokers answer: one may have accepted the command", () => {
  const region = aRegion();
  const b1 = region.broker("b1");
  b1.lease = null;
  const outcome = () => {
    const refused = b1.revoke(aRequest())();
    assert.ok(refused?.type === "unavailable" && refused.code === "local-no-lease");
    return refused.outcome;
  };
  assert.equal(outcome(), "none");
  region.cut.add("b2");
  region.pass(12_000);
  assert.equal(outcome(), undefined);
  region.cut.clear();
  region.pass(12_000);
  assert.equal(outcome(), "none");
});

test("a region without revocations refuses all of it", () => {
  const region = aRegion();
  assert.equal(region.broker("b1").receipt(parseCommandId(randomUUID()))()?.type, "unknown");
});
