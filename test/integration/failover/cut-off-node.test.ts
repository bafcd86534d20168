/**
 * A node that serves when stale is cut off, and its leader is replaced. The new leader has never heard from it, and
 * must all the same not call a revocation complete before that node's window has passed: until then it may be
 * permitting.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { createSession, revoke } from "../../broker/support.ts";
import { startPostgres } from "../../support/postgres.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, waitToLead } from "./in-process.ts";

const timing = { deltaMs: 1_000, windowMs: 5_000 };
let server: PostgresServer;
let testCluster: InProcessCluster;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());
beforeEach(async () => {
  testCluster = new InProcessCluster(await server.newDatabase(), timing);
});
afterEach(() => testCluster.stop());

for (const ends of ["crashes", "hands over"] as const) {
  test(`the leader ${ends} while a serving node is cut off: the next one's receipt waits until that node's window has passed`, async (t) => {
    const first = await testCluster.broker("broker-1");
    await waitToLead(first);
    const second = await testCluster.broker("broker-2");
    const [near, far] = await Promise.all([
      testCluster.node("near", [first, second]),
      testCluster.node("far", [first, second]),
    ]);
    await submitCommand(first, createSession("s", "alice"));
    for (const node of [near, far]) await waitFor("it to permit", () => node.permits("s"), { withinMs: 20_000 });

    far.relay.cut();
    const cutAt = performance.now();
    if (ends === "crashes") await first.crash();
    else await first.broker.stop();
    await waitToLead(second);
    const revoked = await submitCommand(second, revoke("s"));
    const revokedMs = performance.now() - cutAt;
    const databroker = second.broker.databroker("operator");
    const target = { type: "command", commandId: revoked.commandId } as const;
    const seen: { complete: boolean; permits: boolean }[] = [];
    let status = "";
    const watching = (async () => {
      let complete = false;
      const until = performance.now() + 60_000;
      while (performance.now() < until && (!complete || seen.length < 300)) {
        // Asked before it is looked at: what is permitted after a complete answer is a broken promise.
        const permits = far.permits("s");
        seen.push({ complete, permits });
        const receipt = await databroker.receipt(target, { wait: "all", timeoutMs: 0 });
        complete ||= receipt.complete;
        status = receipt.nodes.find(({ node }) => node === "far")?.status ?? "gone";
        if (complete && seen.filter((each) => each.complete).length > 200) break;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return complete ? performance.now() : undefined;
    })();
    const completeAt = await watching;
    assert.ok(completeAt !== undefined, "it completes");
    t.diagnostic(`complete ${Math.round(completeAt - cutAt)} ms after the cut`);
    // On a machine so slow that its window was nearly over by then, it may not have.
    if (revokedMs < timing.windowMs / 2)
      assert.ok(
        seen.some(({ complete, permits }) => !complete && permits),
        "the node went on permitting for a while, which is its right",
      );
    assert.deepEqual(
      seen.filter(({ complete, permits }) => complete && permits),
      [],
      "and nothing more once the receipt was complete",
    );
    assert.equal(status, "fenced");
    assert.equal(near.permits("s"), false);
    far.relay.restore();
    far.relay.setTargets([second.port]);
    await waitFor("it to come back", () => far.replica.ready().ready, { withinMs: 20_000 });
    assert.equal(far.permits("s"), false);
  });
}
