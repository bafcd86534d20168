/** The readiness check before a level is finalized: which processes block it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { StepContext } from "../../../src/broker/core/step-context.ts";
import { BrokerPresences, peerSilentMsMax } from "../../../src/broker/leader/broker-presence.ts";
import { type LevelReaders, unreadyFor } from "../../../src/broker/leader/level-readiness.ts";
import type { BrokerId, MonotonicMs, UnixMs } from "../../../src/events/index.ts";

const everybody: LevelReaders = { reads: 2, lessees: [], peers: [], ledForMs: 60_000 };
type Lessee = LevelReaders["lessees"][number];
const lessee = (parts: object): Lessee =>
  ({ node: "proxy-1", fencedInMs: 4_000, renew: { version: "1", reads: 2 }, ...parts }) as unknown as Lessee;
const peer = (brokerId: string, reads: number) => ({
  brokerId: brokerId as BrokerId,
  version: "1",
  reads,
  heardAt: 0 as MonotonicMs,
});

test("no process blocks a level that all of them read", () => {
  assert.deepEqual(unreadyFor(2, { ...everybody, lessees: [lessee({})], peers: [peer("broker-2", 3)] }), []);
});

test("each process that reads a lower level is named: the leader, a node, another broker", () => {
  const all = unreadyFor(3, { ...everybody, lessees: [lessee({})], peers: [peer("broker-2", 1)] });
  assert.deepEqual(all, [
    "the leading broker reads level 2",
    "proxy-1 (version 1) reads level 2",
    "broker broker-2 (version 1) reads level 1",
  ]);
});

test("a silent node with a grant of an earlier leader blocks until it is fenced", () => {
  assert.match(unreadyFor(2, { ...everybody, lessees: [lessee({ renew: null })] })[0] ?? "", /proxy-1 .* another 4 s/);
  assert.deepEqual(unreadyFor(2, { ...everybody, lessees: [lessee({ renew: null, fencedInMs: 0 })] }), []);
  const old = { renew: { version: "1", reads: 1 }, fencedInMs: 0 };
  assert.deepEqual(unreadyFor(2, { ...everybody, lessees: [lessee(old)] }), [], "a fenced node permits nothing");
});

test("a new leader is not ready, because it cannot know yet which other processes exist", () => {
  assert.match(unreadyFor(2, { ...everybody, ledForMs: peerSilentMsMax - 1 })[0] ?? "", /has led for only 5 s/);
  assert.deepEqual(unreadyFor(2, { ...everybody, ledForMs: Number.POSITIVE_INFINITY }), [], "alone on its log");
});

test("a broker announces itself once a second, counts as present while it does, and never counts itself", () => {
  const context = new StepContext(1_000);
  const own = { brokerId: "broker-1" as BrokerId, version: "1", reads: 2 };
  const peers = new BrokerPresences(context, own);
  const at = (ms: number): void => context.begin({ monotonic: ms as MonotonicMs, wall: ms as UnixMs });
  const gossipSentAt = (ms: number): number => {
    at(ms);
    peers.tick();
    return context.takeEffects().filter(({ type }) => type === "sendGossip").length;
  };
  assert.deepEqual([gossipSentAt(0), gossipSentAt(500), gossipSentAt(1_000), gossipSentAt(3_000)], [1, 0, 1, 1]);
  peers.receive(own);
  peers.receive({ brokerId: "broker-2" as BrokerId, version: "1", reads: 1 });
  assert.deepEqual(
    peers.alive.map(({ brokerId }) => brokerId),
    ["broker-2"],
  );
  at(3_000 + peerSilentMsMax - 1);
  assert.equal(peers.alive.length, 1);
  at(3_000 + peerSilentMsMax);
  assert.deepEqual(peers.alive, []);
});
