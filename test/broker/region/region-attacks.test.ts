/**
 * Attacks on what a region revokes by itself: a cloned broker, a wrong clock, a disk from a backup, and as many denials
 * as fit (ADR 0039: a cut-off region revokes locally).
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { LocalRequest } from "../../../src/broker/region/local-messages.ts";
import { revocationBytesMax } from "../../../src/broker/region/revocation-store.ts";
import { Projection, parseCommandId, sessionStream, type UnixMs } from "../../../src/events/index.ts";
import { historyFrom } from "../../../src/replication/lease/chain-history.ts";
import { LocalDenials, localDenialBytesMax } from "../../../src/replication/node/denials/local-denials.ts";
import { revocationIdsMax, revocationKey, type SealedRevocation } from "../../../src/replication/wire/index.ts";
import { created, History, revoked, sessionId, userId } from "../../replication/support.ts";
import { type LocalBroker, LocalRegion, windowMs } from "./local-region.ts";

const revokeUser = () => ({ type: "revokeUserSessions", userId: userId(1), reason: "operator" }) as const;
const suspend = () => ({ type: "suspendUser", userId: userId(1), reason: "stolen laptop" }) as const;
const restored = { type: "UserRestored", userId: userId(1) } as const;

function aRequest(command: LocalRequest["command"] = revokeUser()): LocalRequest {
  return { commandId: parseCommandId(randomUUID()), actor: "operator:alice#1", command };
}

function renewLeases(region: LocalRegion): void {
  for (const broker of region.brokers.values())
    if (broker.lease !== null) broker.lease = { ...broker.lease, freshSinceMs: region.now - 100 };
}

function aRegion(names: readonly string[] = ["b1", "b2"]) {
  const region = new LocalRegion(new History().open(1).add(created(1)).add(restored), names);
  region.pass(windowMs * 1.05);
  renewLeases(region);
  return { region, b1: region.broker("b1") };
}

const codeOf = (answer: object | undefined): unknown =>
  answer !== undefined && "code" in answer ? answer.code : answer && "type" in answer && answer.type;

test("another process under this broker's name is not taken for itself: it serves nodes that no receipt would name", () => {
  const { region, b1 } = aRegion();
  region.broker("b2").alias = { broker: "b1" };
  const answer = b1.revoke(aRequest())();
  assert.equal(codeOf(answer), "local-broker-unreachable");
  assert.match(answer?.type === "unavailable" ? answer.message : "", /has the name b1 too/);
});

test("an address that leads back to the process itself is left out", () => {
  const { region, b1 } = aRegion();
  region.broker("b2").alias = { broker: "b1", boot: b1.boot };
  assert.equal(codeOf(b1.revoke(aRequest())()), "local");
});

test("a revocation is dated by the leader's clock, whatever this machine's says", () => {
  const { b1 } = aRegion();
  const leaderWallMs = 77_000_000 as UnixMs;
  if (b1.lease !== null) b1.lease = { ...b1.lease, leaderWallMs };
  const answer = b1.revoke(aRequest())();
  assert.equal(answer?.type === "local" && answer.revocation.acceptedAt, leaderWallMs);
});

test("a disk from a backup brings a suspension back that was merged and lifted; the leader's answer ends it again", () => {
  const { region, b1 } = aRegion(["b1"]);
  assert.equal(b1.revoke(aRequest(suspend()))()?.type, "local");
  const backup = b1.disk;
  region.log.add({ type: "UserSuspended", userId: userId(1), reason: "stolen laptop" });
  const merged = region.log.head;
  answerMerge(region, b1, merged);
  b1.follow();
  assert.equal(b1.disk?.entries.length, 0);
  region.log.add(restored);

  b1.kill();
  b1.disk = backup;
  const again = region.start("b1");
  again.feed({ type: "woke" });
  assert.equal(again.denials().sealed.length, 1, "it denies only, so it does no harm but to the person");
  answerMerge(region, again, merged);
  assert.equal(again.denials().sealed.length, 0);
  assert.equal(again.disk?.entries.length, 0);
});

function answerMerge(region: LocalRegion, broker: LocalBroker, link: History["head"]): void {
  broker.feed({ type: "leaderAnswered" });
  region.pass(2_000);
  const question = broker.asked("merge").at(-1);
  assert.ok(question);
  broker.answerHome(question.id, { type: "merged", link });
}

/** Names session 1, which the region knows, and others. */
function revokeMany(round: number, size = revocationIdsMax): LocalRequest["command"] {
  const sessionIds = Array.from({ length: size - 1 }, (_, n) => sessionId(1_000_000 + round * size + n));
  return { type: "revokeSessions", sessionIds: [sessionId(1), ...sessionIds], reason: "operator" };
}

test("100,000 denials and more stay within the bounds in bytes of brokers and nodes, and all of them end", () => {
  const { region, b1 } = aRegion();
  let accepted = 0;
  let last: unknown = "";
  for (let round = 0; round < 20; round++) {
    renewLeases(region);
    last = codeOf(b1.revoke(aRequest(revokeMany(round)))());
    if (last !== "local") break;
    accepted += 1;
  }
  assert.equal(last, "local-full");
  assert.ok(accepted * revocationIdsMax >= 100_000, `${accepted} revocations`);
  for (const name of region.names) {
    const bytes = region.broker(name).disk?.entries.reduce((sum, { sealed }) => sum + sealed.envelope.length, 0) ?? 0;
    assert.ok(bytes > 0 && bytes <= revocationBytesMax, `${name}: ${bytes}`);
  }

  const node = new LocalDenials();
  const { sealed } = allDenials(b1);
  assert.equal(sealed.length, accepted);
  assert.ok((node.add(sealed)?.length ?? 0) >= 100_000);
  assert.ok(node.denies(sessionStream(sessionId(1_000_000))));
  assert.equal(node.denies(sessionStream(sessionId(2))), false);
  const copies = sealed.map((each) => ({ ...each, revocation: { ...each.revocation, broker: "b9" } }));
  const beyond = sealed.map((each) => ({ ...each, revocation: { ...each.revocation, broker: "b8" } }));
  assert.notEqual(node.add(copies), null, "another broker's, twice as much as one retains");
  assert.equal(node.add(beyond), null);
  assert.ok(node.all.reduce((sum, { envelope }) => sum + envelope.length, 0) <= localDenialBytesMax);

  const projection = new Projection();
  const log = new History().open(1).add(created(1)).add(revoked(1));
  for (const recorded of log.recorded(0, log.head.position)) projection.apply(recorded);
  for (const { revocation } of [...sealed, ...copies]) node.recordMerged(revocationKey(revocation), log.head);
  node.settle(historyFrom(log.head, []), projection);
  assert.equal(node.size, 0);
  assert.equal(node.denies(sessionStream(sessionId(1_000_000))), false);
  assert.notEqual(node.add(beyond), null, "there is room again");
});

function allDenials(broker: LocalBroker) {
  const sealed: SealedRevocation[] = [];
  for (let at: ReturnType<LocalBroker["denials"]>["at"] | null = null; ; ) {
    const page = broker.denials(at);
    if (page.sealed.length === 0) return { sealed };
    sealed.push(...page.sealed);
    at = page.at;
  }
}
