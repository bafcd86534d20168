/**
 * A node that is cut off and serves when stale, while its leader is replaced.
 *
 * The new leader has never heard from the node. It must still not complete a receipt before that node's window has
 * passed, since the node may permit until then.
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

for (const endsBy of ["crashes", "resigns"] as const) {
  test(`when the leader ${endsBy} while a serving node is cut off, the next leader's receipt waits until that node's window has passed`, async (t) => {
    const first = await testCluster.broker("broker-1");
    await waitToLead(first);
    const second = await testCluster.broker("broker-2");
    const [near, far] = await Promise.all([
      testCluster.node("near", [first, second]),
      testCluster.node("far", [first, second]),
    ]);
    await submitCommand(first, createSession("s", "alice"));
    for (const node of [near, far]) await waitFor("the node to permit", () => node.permits("s"), { withinMs: 20_000 });

    far.relay.cut();
    const cutAt = performance.now();
    if (endsBy === "crashes") await first.crash();
    else await first.broker.stop();
    await waitToLead(second);
    const revoked = await submitCommand(second, revoke("s"));
    const revokedMs = performance.now() - cutAt;
    const databroker = second.broker.databroker("operator");
    const target = { type: "command", commandId: revoked.commandId } as const;
    const samples: { complete: boolean; permits: boolean }[] = [];
    let status = "";
    const watching = (async () => {
      let complete = false;
      const deadline = performance.now() + 60_000;
      while (performance.now() < deadline && (!complete || samples.length < 300)) {
        // Checked before the receipt: a permit after a complete receipt breaks the promise.
        const permits = far.permits("s");
        samples.push({ complete, permits });
        const receipt = await databroker.receipt(target, { wait: "all", timeoutMs: 0 });
        complete ||= receipt.complete;
        status = receipt.nodes.find(({ node }) => node === "far")?.status ?? "gone";
        if (complete && samples.filter((each) => each.complete).length > 200) break;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return complete ? performance.now() : undefined;
    })();
    const completeAt = await watching;
    assert.ok(completeAt !== undefined, "the receipt completes");
    t.diagnostic(`complete ${Math.round(completeAt - cutAt)} ms after the cut`);
    // On a machine so slow that the window had nearly passed by then, the node may not have permitted.
    if (revokedMs < timing.windowMs / 2)
      assert.ok(
        samples.some(({ complete, permits }) => !complete && permits),
        "the node permitted for a while after the revocation, as its lease allows",
      );
    assert.deepEqual(
      samples.filter(({ complete, permits }) => complete && permits),
      [],
      "permitted after a complete receipt",
    );
    assert.equal(status, "fenced");
    assert.equal(near.permits("s"), false);
    far.relay.restore();
    far.relay.setTargets([second.port]);
    await waitFor("the node to be ready again", () => far.replica.ready().ready, { withinMs: 20_000 });
    assert.equal(far.permits("s"), false);
  });
}
