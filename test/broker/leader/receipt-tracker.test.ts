/** Receipt tracker: how often it reads all lessees while they confirm one by one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBrokerCoreParts } from "../../../src/broker/broker-core-parts.ts";
import { ReceiptTracker } from "../../../src/broker/leader/receipt-tracker.ts";
import type { BootId, BrokerId, Epoch, MonotonicMs, NodeId, UnixMs } from "../../../src/events/index.ts";
import { genesis } from "../../../src/events/index.ts";
import type { LesseeStatus } from "../../../src/replication/lease/index.ts";

/** A receipt for the empty log waits for nodes that then confirm one by one. @returns how often all are read */
function readsUntilComplete(count: number): number {
  const { context, state, pendingCommands, counters } = createBrokerCoreParts({
    brokerId: "b" as BrokerId,
    secrets: [new Uint8Array(32)],
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 200, windowMaxMs: 60_000 },
    takeoverMs: 1_500,
    replaced: null,
    duties: [],
    brokerUrl: null,
    exclusive: false,
    writeTimeoutMs: 10_000,
    version: "",
    expirySweepMs: 30_000,
    commandSweepMs: 3_600_000,
    random: (size) => new Uint8Array(size),
    beginsFrom: "log",
  });
  const tracker = new ReceiptTracker(
    { context, state, pendingCommands, counters, proofMsMax: 1_000 },
    { epoch: 1 as Epoch, leadershipNo: 1 },
  );
  const confirmed = new Set<number>();
  let reads = 0;
  const standings = (): readonly LesseeStatus[] => {
    reads += 1;
    return Array.from({ length: count }, (_, index) => lessee(index, confirmed.has(index)));
  };
  const answered = (): boolean => context.takeEffects().some(({ type }) => type === "receiptAnswered");
  const begin = (ms: number): void => context.begin({ monotonic: ms as MonotonicMs, wall: ms as UnixMs });

  begin(1_000);
  tracker.request({
    type: "receiptRequested",
    at: context.at,
    id: 1,
    target: { type: "link", link: genesis },
    options: { wait: "all", timeoutMs: 10_000 },
  });
  const nodes = { standings, regions: () => [], lowestEnforced: () => (confirmed.size < count ? -1 : 0) };
  tracker.answerDue(nodes);
  for (let index = 0; index < count; index++) {
    assert.ok(!answered(), "not before the last node");
    confirmed.add(index);
    begin(1_001 + index);
    tracker.noteLesseesChanged();
    tracker.answerDue(nodes);
  }
  assert.ok(answered(), "with the last node");
  return reads;
}

function lessee(index: number, hasConfirmed: boolean): LesseeStatus {
  return {
    node: `n-${index}` as NodeId,
    boot: `b-${index}` as BootId,
    region: "",
    role: "proxy",
    enforced: hasConfirmed ? genesis : null,
    fencedInMs: 5_000,
    lastGrantAgoMs: 0,
    twin: null,
    heardAgoMs: 0,
    refusal: null,
    renew: null,
    confirmations: [],
    onLostHistory: false,
  };
}

test("a receipt of a thousand nodes does not read all of them for each confirmation", () => {
  assert.equal(readsUntilComplete(1_000), 2, "at first, and when it is complete");
});
