/** Lease sender: when confirmations leave, with and without a pause that the leader names. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BootId, NodeId } from "../../../src/events/index.ts";
import { genesis } from "../../../src/events/index.ts";
import { LeaseSender } from "../../../src/replication/node/lease-sender.ts";
import type { LeaseMessage, NodeEffect } from "../../../src/replication/node/messages.ts";

type Sent = Readonly<{ id: number; type: LeaseMessage["type"] }>;

/** A sender whose random waits are half of the longest. */
function newSender(): Readonly<{ sender: LeaseSender; sent: Sent[] }> {
  const sent: Sent[] = [];
  const identity = { node: "n" as NodeId, boot: "b" as BootId, nonce: 1 };
  let ids = 0;
  const sender = new LeaseSender({
    random: () => Uint8Array.of(128, 0),
    renewMs: 1_000,
    nextId: () => ++ids,
    emit: (effect: NodeEffect) => {
      if (effect.type === "sendLease") sent.push({ id: effect.id, type: effect.message.type });
    },
    nextRenew: () => ({ type: "renew", renew: identity as never }),
    nextConfirm: () => ({ type: "confirm", confirm: { ...identity, enforced: genesis } }),
    nextGoodbye: () => ({ type: "goodbye", goodbye: identity }),
    isHurried: () => false,
  });
  return { sender, sent };
}

const confirms = (sent: readonly Sent[]): number => sent.filter(({ type }) => type === "confirm").length;

/** Answers everything that was sent. */
function answerAll(sender: LeaseSender, sent: readonly Sent[], now: number): void {
  for (const { id } of sent) sender.onAnswer(id, { type: "taken" }, now);
}

test("without a pause each change is confirmed at once", () => {
  const { sender, sent } = newSender();
  for (let now = 0; now < 100; now += 10) {
    sender.confirm(now);
    answerAll(sender, sent, now);
  }
  assert.equal(confirms(sent), 10);
});

test("with a pause many changes have few confirmations, and the last change has one", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  for (let now = 0; now < 2_000; now += 10) {
    sender.wake(now);
    if (now <= 1_500) sender.confirm(now);
    answerAll(sender, sent, now);
  }
  assert.equal(confirms(sent), 5, "after 80, 480, 880, 1,280 and 1,680 ms");
  assert.equal(sender.due, Number.POSITIVE_INFINITY);
});

test("with a pause the first confirmation waits for an eighth to a quarter of it", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  sender.confirm(1_000);
  assert.equal(confirms(sent), 0);
  assert.ok(sender.due >= 1_050 && sender.due <= 1_100, `due at ${sender.due}`);
  sender.wake(sender.due);
  assert.equal(confirms(sent), 1);
});

test("in a small cluster the nodes of one machine all enforce a change before any of them confirms it", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(16);
  sender.confirm(1_000);
  sender.wake(1_004);
  assert.equal(confirms(sent), 0);
  assert.ok(sender.due >= 1_005 && sender.due <= 1_007, `due at ${sender.due}`);
});

test("a renew makes the confirmation that waits unnecessary", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  sender.confirm(0);
  sender.renew(10);
  answerAll(sender, sent, 20);
  sender.wake(500);
  assert.equal(confirms(sent), 0);
  sender.confirm(510);
  sender.wake(900);
  assert.equal(confirms(sent), 1, "but not the one for the next change");
});

test("a renew that was built while a confirmation is in flight repeats what that says, so none follows", () => {
  const { sender, sent } = newSender();
  sender.confirm(0);
  sender.confirm(1);
  sender.renew(2);
  answerAll(sender, sent, 3);
  assert.equal(confirms(sent), 1);
});

test("a renew that the leader refuses replaces no confirmation, and a refusal causes one at most", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  sender.confirm(0);
  sender.renew(10);
  const refusal = { code: "past-region", message: "" } as const;
  for (const { id } of sent.splice(0)) sender.onAnswer(id, { type: "refused", refusal }, 20);
  sender.wake(500);
  assert.equal(confirms(sent), 1);
  for (const { id } of sent.splice(0)) sender.onAnswer(id, { type: "taken" }, 510);
  sender.renew(1_000);
  for (const { id } of sent.splice(0)) sender.onAnswer(id, { type: "refused", refusal }, 1_010);
  sender.wake(1_900);
  assert.equal(confirms(sent), 0, "there is nothing new to confirm");
});

test("a renew without an answer causes no confirmation: the next renew says the same", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  sender.confirm(0);
  sender.renew(10);
  for (const { id } of sent.splice(0)) sender.onAnswer(id, { type: "failed", error: new Error("gone") }, 20);
  sender.wake(500);
  assert.equal(confirms(sent), 0);
});

test("a pause that ends lets confirmations leave at once again", () => {
  const { sender, sent } = newSender();
  sender.pauseConfirms(400);
  sender.confirm(0);
  sender.pauseConfirms(0);
  sender.confirm(1);
  assert.equal(confirms(sent), 1);
  assert.equal(sender.due, 5_001, "only the answer is awaited");
});

test("a sender that leaves or stops sends no confirmation that waits", () => {
  for (const end of ["leave", "stop"] as const) {
    const { sender, sent } = newSender();
    sender.pauseConfirms(400);
    sender.confirm(0);
    sender[end](1);
    sender.wake(500);
    assert.equal(confirms(sent), 0, end);
  }
});
