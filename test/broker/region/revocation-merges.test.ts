/**
 * How a regional broker brings its revocations to the log: when it submits one again, under which id, and what a
 * receipt of the region says once it is merged.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { LocalRequest } from "../../../src/broker/region/local-messages.ts";
import { type CommandId, commandIdOfEnvelope, type Link, parseCommandId } from "../../../src/events/index.ts";
import { created, History, revoked, userId } from "../../replication/support.ts";
import { type LocalBroker, LocalRegion, windowMs } from "./local-region.ts";

const revokeUser = () => ({ type: "revokeUserSessions", userId: userId(1), reason: "operator" }) as const;
const suspend = () => ({ type: "suspendUser", userId: userId(1), reason: "stolen laptop" }) as const;
const otherChange = { type: "mergeRefused", code: "other-change", message: "another change" } as const;
const refused = { type: "mergeRefused", code: "refused", message: "over 23 hours old" } as const;
const minuteMs = 60_000;

function aRequest(command: LocalRequest["command"] = revokeUser()): LocalRequest {
  return { commandId: parseCommandId(randomUUID()), actor: "operator:alice#1", command };
}

/** User 1 has sessions 1 and 6. */
function aLog(): History {
  const restored = { type: "UserRestored", userId: userId(1) } as const;
  return new History().open(1).add(created(1)).add(created(6)).add(restored);
}

/** A cut-off region with a revocation, accepted by b1. */
function aRegion(request: LocalRequest, names: readonly string[] = ["b1"]) {
  const region = new LocalRegion(aLog(), names);
  region.pass(windowMs * 1.05);
  for (const broker of region.brokers.values())
    if (broker.lease !== null) broker.lease = { ...broker.lease, freshSinceMs: region.now - 100 };
  const b1 = region.broker("b1");
  assert.equal(b1.revoke(request)()?.type, "local");
  return { region, b1 };
}

/** Lets time pass while the leader answers. */
function passHealed(region: LocalRegion, ms: number): void {
  for (let passed = 0; passed < ms; passed += 1_000) {
    for (const broker of region.brokers.values()) broker.feed({ type: "leaderAnswered" });
    region.pass(1_000);
  }
}

function submissions(broker: LocalBroker): readonly Readonly<{ id: number; commandId: CommandId; own: CommandId }>[] {
  return broker.asked("merge").map(({ id, question }) => {
    assert.ok(question.op === "merge");
    return { id, commandId: question.commandId, own: commandIdOfEnvelope(question.envelope) };
  });
}

function newestSubmission(broker: LocalBroker) {
  const newest = submissions(broker).at(-1);
  assert.ok(newest);
  return newest;
}

const errors = (broker: LocalBroker): number => broker.all("log").filter(({ level }) => level === "error").length;

test("after a conflict under its own id too, a revocation is submitted again within half a minute, and logged once", () => {
  const { region, b1 } = aRegion(aRequest());
  passHealed(region, 1_000);
  b1.answerHome(newestSubmission(b1).id, otherChange);
  passHealed(region, 1_000);
  for (let n = 0; n < 8; n++) {
    const { id, commandId, own } = newestSubmission(b1);
    assert.equal(commandId, own);
    const before = submissions(b1).length;
    b1.answerHome(id, otherChange);
    assert.equal(submissions(b1).length, before, "not at once");
    passHealed(region, 31_000);
    assert.equal(submissions(b1).length, before + 1);
  }
  assert.equal(errors(b1), 1);
});

test("a conflict under the command id is answered under its own id, although that id was chosen meanwhile", () => {
  const { region, b1 } = aRegion(aRequest(), ["b1", "b2"]);
  passHealed(region, 1_000);
  const first = newestSubmission(b1);
  // Another broker names a merge at which the log permits the ids, while the question is under way.
  region.log.add(created(42));
  const [question] = region.broker("b2").asked("merge");
  assert.ok(question);
  region.broker("b2").answerHome(question.id, { type: "merged", link: region.log.head });
  region.pass(11_000); // the brokers ask each other
  b1.follow();
  b1.answerHome(first.id, otherChange);
  passHealed(region, 31_000);
  const { commandId, own } = newestSubmission(b1);
  assert.equal(commandId, own);
  assert.equal(errors(b1), 0, "it was never refused under its own id");
});

test("a suspension that the leader refuses is submitted again as soon as the operator has suspended the person", () => {
  const { region, b1 } = aRegion(aRequest(suspend()));
  passHealed(region, 1_000);
  b1.answerHome(newestSubmission(b1).id, refused);
  passHealed(region, 5 * minuteMs);
  assert.equal(submissions(b1).length, 1, "only an operator can end it");
  region.log.add({ type: "UserSuspended", userId: userId(1), reason: "home" });
  b1.follow();
  passHealed(region, 1_000);
  assert.equal(submissions(b1).length, 2);
  b1.answerHome(newestSubmission(b1).id, refused);
  region.log.add(created(43));
  b1.follow();
  passHealed(region, minuteMs);
  assert.equal(submissions(b1).length, 2, "the same suspension is no news");
  passHealed(region, 10 * minuteMs);
  assert.equal(submissions(b1).length, 3);
});

function mergedOf(broker: LocalBroker, commandId: CommandId): Link | string | undefined {
  const answer = broker.receipt(commandId)();
  return answer?.type === "merged" ? answer.link : answer?.type;
}

test("a receipt of the region says that the log has it only once all of the command is merged, at the newest link", () => {
  const request = aRequest();
  const { region, b1 } = aRegion(request, ["b1"]);
  assert.equal(mergedOf(b1, request.commandId), "receipt");
  region.log.add(revoked(1)).add(revoked(6));
  const link = region.log.head;
  passHealed(region, 1_000);
  b1.answerHome(newestSubmission(b1).id, { type: "merged", link });
  assert.deepEqual(mergedOf(b1, request.commandId), link, "its own log is not there yet");
  assert.equal(mergedOf(b1, parseCommandId(randomUUID())), "unknown");
  b1.follow();
  assert.equal(
    mergedOf(b1, request.commandId),
    "unknown",
    "nothing is retained: the leader's receipt is the better one",
  );
});

test("of a command that two brokers accepted, one merge is not the merge of the command", () => {
  const request = aRequest();
  const region = new LocalRegion(aLog(), ["b1", "b2"]);
  region.pass(windowMs * 1.05);
  for (const broker of region.brokers.values())
    if (broker.lease !== null) broker.lease = { ...broker.lease, freshSinceMs: region.now - 100 };
  const b1 = region.broker("b1");
  region.cut.add("b2");
  for (const name of region.names) region.broker(name).revoke(request);
  region.cut.clear();
  region.pass(11_000);
  region.log.add(revoked(1));
  const early = region.log.head;
  region.log.add(revoked(6));
  const late = region.log.head;
  b1.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const [one, other] = submissions(b1);
  assert.ok(one && other);
  b1.answerHome(one.id, { type: "merged", link: late });
  assert.equal(mergedOf(b1, request.commandId), "receipt", "the other one is not merged");
  b1.answerHome(other.id, { type: "merged", link: early });
  assert.deepEqual(mergedOf(b1, request.commandId), late);
});
