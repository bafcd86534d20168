/** A regional broker revokes by itself only while the brokers of its region are the sole path of leases (ADR 0039). */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { LocalRequest } from "../../../src/broker/region/local-messages.ts";
import { parseCommandId } from "../../../src/events/index.ts";
import { created, History, revoked, userId } from "../../replication/support.ts";
import { LocalRegion, windowMs } from "./local-region.ts";

function aRequest(): LocalRequest {
  const command = { type: "revokeUserSessions", userId: userId(1), reason: "operator" } as const;
  return { commandId: parseCommandId(randomUUID()), actor: "operator:alice#1", command };
}

function aRegion(solePath: readonly string[] | null) {
  const region = new LocalRegion(new History().open(1).add(created(1)), ["b1", "b2"]);
  region.pass(windowMs * 1.05);
  for (const broker of region.brokers.values())
    if (broker.lease !== null) broker.lease = { ...broker.lease, freshSinceMs: region.now - 100, solePath };
  return { region, b1: region.broker("b1") };
}

const codeOf = (answer: object | undefined): unknown =>
  answer !== undefined && "code" in answer ? answer.code : answer && "type" in answer && answer.type;

test("a region refuses while the leader does not say that all leases of its nodes came through its brokers", () => {
  assert.equal(codeOf(aRegion(null).b1.revoke(aRequest())()), "local-node-unable");
  assert.equal(codeOf(aRegion(["b1", "b2"]).b1.revoke(aRequest())()), "local");
});

test("a region refuses while a broker serves it that this broker's `broker.urls` do not name", () => {
  assert.equal(codeOf(aRegion(["b1", "b2", "b3"]).b1.revoke(aRequest())()), "local-brokers-differ");
});

test("a broker wants the sole path only while each of its nodes is able, and keeps it while it retains a revocation", () => {
  const { region, b1 } = aRegion(["b1", "b2"]);
  assert.deepEqual(b1.claim(), { wanted: true, retained: false });
  assert.equal(b1.revoke(aRequest())()?.type, "local");
  assert.equal(b1.claim().retained, true);
  assert.equal(region.broker("b2").claim().retained, true);
  region.log.add(revoked(1));
  b1.feed({ type: "leaderAnswered" });
  region.pass(1_000);
  const [question] = b1.asked("merge");
  assert.ok(question);
  b1.answerHome(question.id, { type: "merged", link: region.log.head });
  assert.equal(b1.claim().retained, true, "its own log is not there yet");
  b1.follow();
  assert.equal(b1.claim().retained, false);
  region.pass(4_000);
  if (b1.lease !== null) b1.lease = { ...b1.lease, freshSinceMs: region.now - 100 };
  assert.equal(b1.renew("n1", { brokers: ["https://home:5443"] })()?.type, "grantByAge");
  assert.deepEqual(b1.claim(), { wanted: false, retained: false });
});

test("a broker that stops while it retains a revocation says no goodbye: the leader must not forget its region", () => {
  const goodbyeOf = (revokes: boolean) => {
    const { region, b1 } = aRegion(["b1", "b2"]);
    if (revokes) assert.equal(b1.revoke(aRequest())()?.type, "local");
    region.pass(windowMs * 1.05);
    b1.feed({ type: "stopping" });
    return b1.all("leave").at(-1)?.goodbye;
  };
  assert.deepEqual([goodbyeOf(false), goodbyeOf(true)], ["say", "withhold"]);
});
