/**
 * A response that the kernel still holds when its node learns of a revocation around the end of its lease.
 *
 * A receipt calls the node fenced 50 ms after the end of the lease at the earliest (W, docs/protocol.md §1.3). A denial
 * gives such a response up to 50 ms to be acknowledged. So the case that the denial, and with it a new lease, arrives
 * just before the node is fenced needs an argument of its own: docs/adr/0039-a-cut-off-region-revokes-locally.md.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { genesis, type MonotonicMs, type Stream, type UnixMs } from "../../../src/events/index.ts";
import { Exchanges } from "../../../src/proxy/enforce/exchanges.ts";
import { cutWithinMs } from "../../../src/proxy/http1/outlet-socket.ts";
import type { PendingCut, SocketDelivery } from "../../../src/proxy/message/deliveries.ts";
import { tickMs } from "../../../src/replication/lease/lease-holder.ts";

const alice: Stream = "user:alice";
/** The reserve in W. */
const reserveMs = 50;
const leaseEnd = 1_000;

/**
 * A node whose lease ends at `leaseEnd`. At `deniedAt` it takes a revocation and a lease that counts from then on.
 * @returns when the connection of an undelivered response was reset
 */
function resetAt({ deniedAt, sweepPhase }: Readonly<{ deniedAt: number; sweepPhase: number }>): number {
  let now = 0;
  let denied = false;
  let reset = Number.POSITIVE_INFINITY;
  let waits: Readonly<{ until: number; done: () => void }>[] = [];
  const exchanges = new Exchanges({
    clock: { monotonic: () => now as MonotonicMs, wall: () => now as UnixMs },
    freshness: { overdueMs: () => (denied || now <= leaseEnd ? -1 : 1) },
    onCut() {},
    onRedecisionFailed: assert.ifError,
  });
  const delivery: SocketDelivery = {
    isDone: () => reset <= now,
    // biome-ignore lint/suspicious/noThenProperty: stands for a promise, and ends at the time of the test.
    waitBriefly: (): PendingCut => ({ then: (done) => void waits.push({ until: now + cutWithinMs, done }) }),
    reset: () => {
      reset = Math.min(reset, now);
    },
    hasUndeliveredOlder: () => false,
  };
  const exchange = exchanges.open({
    ...{ kind: "http", requestId: "request-1", reads: [alice], until: null, graceMs: 0, lifetimeMs: 0 },
    openedAt: 0 as MonotonicMs,
    redecide: () =>
      denied ? { type: "refused", reason: "session-ended" } : { type: "permitted", reads: [alice], until: null },
  });
  exchange.setOutlet({ deliver: () => delivery });
  exchange.close();
  for (; now < leaseEnd + 2_000 && reset === Number.POSITIVE_INFINITY; now += 1) {
    if (now === deniedAt) {
      denied = true;
      exchanges.onChange({ link: genesis, touched: new Set([alice]), rebuilt: false }, () => {});
    }
    if (now % tickMs === sweepPhase) exchanges.sweep();
    const due = waits.filter(({ until }) => until <= now);
    waits = waits.filter(({ until }) => until > now);
    for (const { done } of due) done();
  }
  return reset;
}

test("a denial that arrives before the lease ends leaves no byte after the node is fenced", () => {
  for (let deniedAt = leaseEnd - 300; deniedAt <= leaseEnd; deniedAt += 1)
    for (const sweepPhase of [0, 49, 120, 249])
      assert.ok(resetAt({ deniedAt, sweepPhase }) <= leaseEnd + reserveMs, `denied at ${deniedAt}`);
});

test("one that arrives while the node holds no lease leaves none after the sweep that would have ended it", () => {
  for (let deniedAt = leaseEnd + 1; deniedAt <= leaseEnd + 2 * tickMs; deniedAt += 1) {
    for (const sweepPhase of [0, 49, 120, 249]) {
      const sweep = [1, 2].map((n) => leaseEnd - (leaseEnd % tickMs) + sweepPhase + (n - 1) * tickMs);
      const nextSweep = sweep.find((at) => at > leaseEnd) ?? assert.fail();
      assert.ok(resetAt({ deniedAt, sweepPhase }) <= nextSweep + cutWithinMs, `denied at ${deniedAt}`);
    }
  }
});
